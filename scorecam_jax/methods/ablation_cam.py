"""Ablation-CAM (Desai and Ramaswamy, WACV 2020)."""

from typing import Any, Unpack

import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Passes
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.channels import Channels
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.outputs import of_targets
from scorecam_jax.steps.scores import logits


def ablation_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    channels: int | Channels | None = None,
    **passes: Unpack[Passes],
) -> Explanation:
    """Weight each map by the score lost without it: w_k = (y − y_k) / y; 0 where y is 0.

    y_k is the score with channel k set to 0. Only the network after the layer runs again. `scores`
    are the y_k. The sum is resized to the input's size, rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        channels: None: all; n or `Gradient(n)`: n of them alone. n means `Deviation(n)`.
        **passes: see `Passes`. The default score is the outputs themselves, the logits.

    Source: Desai and Ramaswamy 2020 (WACV).
    """
    return run(
        ablation_cam, _ablation_cam, model, inputs, targets, passes,
        score=logits, channels=channels, edits=True,
    )  # fmt: skip


def _ablation_cam(context: Context) -> Found:
    maps = context.activations
    without = context.score_edits(Partial(_ablate, context.chosen), maps.shape[-1])
    whole = of_targets(context.confidence, context.targets)[..., None]
    weights = divide(whole - without, whole)
    return context.finish_weighted(weights, without)


def _ablate(
    chosen: Int[Array, "batch n"] | None, maps: Float[Array, "batch *grid channels"], number: Array
) -> Float[Array, "batch *grid channels"]:
    """Set channel `number` to 0, counted among each input's chosen channels if there are any."""
    channel = number if chosen is None else jnp.expand_dims(chosen[:, number], range(1, maps.ndim))
    return jnp.where(jnp.arange(maps.shape[-1]) == channel, 0, maps)
