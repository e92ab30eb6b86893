"""Eigen-CAM (Muhammad and Yeasin 2020, arXiv 2008.00299)."""

from collections.abc import Callable
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.combine import sum_weighted
from scorecam_jax.steps.scores import logits


def eigen_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Project the maps onto their first principal direction, whatever the class.

    With A as a (places, K) matrix U Σ V', the map is A v_1. The decomposition leaves its sign open;
    it is chosen so that the map's sum is positive. The maps are not centred, as in the paper. The
    map is resized to the input's size, rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Muhammad and Yeasin 2020 (arXiv 2008.00299).
    """
    return run(eigen_cam, _eigen_cam, model, inputs, targets, question, score=logits)


def _eigen_cam(context: Context) -> Found:
    matrices = jax.lax.collapse(context.activations, 1, -1)
    direction = jnp.linalg.svd(matrices, full_matrices=False)[2][:, :1]
    total = jnp.einsum("bpk,bok->bo", matrices, direction)
    weights = jnp.where(total < 0, -1, 1)[..., None] * direction
    return context.finish(sum_weighted(context.activations, weights), weights)
