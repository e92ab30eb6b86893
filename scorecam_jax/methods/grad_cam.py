"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391)."""

from typing import Any, Unpack

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.scores import logits


def grad_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Weight each map by the mean of its gradient: w_k = mean_ij ∂y/∂A_k,ij.

    The sum is resized to the input's size, rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Selvaraju et al. 2017 (arXiv 1610.02391), Eqs. 1 and 2.
    """
    return run(grad_cam, _grad_cam, model, inputs, targets, question, score=logits, gradients=True)


def _grad_cam(context: Context) -> Found:
    weights = context.gradients.mean(context.space)
    return context.finish_weighted(weights)
