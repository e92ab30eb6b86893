"""Shapley-CAM (Cai 2025, arXiv 2501.06261)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.outputs import class_scores, of_targets


def rest(outputs: Float[Array, "n classes"]) -> Float[Array, "n classes"]:
    """Each class's logit plus its log-probability, y + log p: the score of Shapley-CAM."""
    return outputs + jax.nn.log_softmax(outputs)


def shapley_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Weight each map by the mean of its gradient, corrected by the curvature of the score.

    w_k = mean_ij (g − ½ H A)_k,ij, where H is the Hessian of the score with respect to the
    activations A. The weights approximate the channels' Shapley values to second order. Where the
    score is linear in the activations, H is 0 and the map is Grad-CAM's: hence the default score.
    The sum is resized to the input's size, rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. Each target needs a gradient and its derivative.
        **question: see `Question`. The default score is y + log softmax(y), the "ReST" of the
            paper.

    Source: Cai 2025 (arXiv 2501.06261), with the mean as in pytorch-grad-cam 1.5.7. The author's
    code also has an elementwise form.
    """
    return run(shapley_cam, _shapley_cam, model, inputs, targets, question, score=rest, edits=True)


def _shapley_cam(context: Context) -> Found:
    maps = context.activations

    def weigh(target: Array) -> Float[Array, "batch channels"]:
        def score(activations: Array) -> Array:
            moved = jnp.moveaxis(activations, -1, context.channel_axis)
            outputs, _ = context.model(context.inputs, edit=lambda a: moved.astype(a.dtype))
            return of_targets(class_scores(context.score, outputs, len(maps)), target).sum()

        slopes, curved = jax.jvp(jax.grad(score), (maps,), (maps,))
        return (slopes - curved / 2).mean(tuple(range(1, maps.ndim - 1)))

    weights = jax.lax.map(lambda target: weigh(target[:, None]), context.targets.T)
    return context.finish_weighted(jnp.moveaxis(weights, 0, 1))
