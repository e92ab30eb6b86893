"""HiResCAM (Draelos and Carin 2020, arXiv 2011.08891)."""

from typing import Any, Unpack

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.scores import logits


def hires_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Multiply maps and gradients place by place: Σ_k g_k ∘ A_k.

    `weights` are None. The sum is resized to the input's size, rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Draelos and Carin 2020 (arXiv 2011.08891).
    """
    return run(
        hires_cam, _hires_cam, model, inputs, targets, question, score=logits, gradients=True
    )


def _hires_cam(context: Context) -> Found:
    return context.finish_products(context.gradients)
