"""XGrad-CAM (Fu et al. 2020, arXiv 2008.02312)."""

from typing import Any, Unpack

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.scores import logits


def xgrad_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Weight each map by the mean of its gradient where it is active: w_k = Σ g A / Σ A.

    A map whose activations sum to 0 has weight 0. The sum is resized to the input's size,
    rectified, and scaled to [0, 1].

    The formula is made for nonnegative maps, such as those after a ReLU, where the weight is a mean
    of gradients. For a signed map whose values nearly cancel, the weight is unbounded, and the map
    dominates all others; pytorch-grad-cam adds 1e-7 to the sum, torch-cam 1e-8.

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Fu et al. 2020 (arXiv 2008.02312).
    """
    return run(
        xgrad_cam, _xgrad_cam, model, inputs, targets, question, score=logits, gradients=True
    )


def _xgrad_cam(context: Context) -> Found:
    maps, gradients = context.activations[:, None], context.gradients
    weights = divide((gradients * maps).sum(context.space), maps.sum(context.space))
    return context.finish_weighted(weights)
