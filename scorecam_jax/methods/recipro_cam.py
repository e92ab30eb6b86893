"""Recipro-CAM (Byun and Lee 2022, arXiv 2209.14074)."""

import math
from typing import Any, Unpack

import jax
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Passes
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.combine import peak_of
from scorecam_jax.steps.masks import normalize, resize


def recipro_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **passes: Unpack[Passes],
) -> Explanation:
    """Score each place of the layer alone: the map at (i, j) is f with all other places set to 0.

    Only the network after the layer runs again. `scores` are (B, [T,] places), in row-major order;
    `weights` are None. This is the form without a Gaussian neighbourhood. The map is resized to the
    input's size and scaled to [0, 1].

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        **passes: see `Passes`. The default score is `jax.nn.softmax`.

    Source: Byun and Lee 2022 (arXiv 2209.14074), Section 3.
    """
    return run(
        recipro_cam, _recipro_cam, model, inputs, targets, passes,
        score=jax.nn.softmax, edits=True,
    )  # fmt: skip


def _recipro_cam(context: Context) -> Found:
    grid = context.activations.shape[1:-1]
    scores = context.score_edits(_keep, math.prod(grid))
    maps = scores.reshape(*context.targets.shape, *grid)
    heatmap = normalize(resize(maps, context.shape), len(grid))
    return Found(heatmap, None, scores, peak_of(maps))


def _keep(
    maps: Float[Array, "batch *grid channels"], number: Array
) -> Float[Array, "batch *grid channels"]:
    """Set all places but place `number` to 0."""
    grid = maps.shape[1:-1]
    return maps * jax.nn.one_hot(number, math.prod(grid)).reshape(1, *grid, 1)
