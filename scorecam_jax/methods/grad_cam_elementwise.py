"""GradCAM-ElementWise, of the package pytorch-grad-cam."""

from typing import Any, Unpack

import jax

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.combine import into_range
from scorecam_jax.steps.scores import logits


def grad_cam_elementwise(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Sum the positive products of maps and gradients, place by place: Σ_k ReLU(g_k ∘ A_k).

    As in `hires_cam`, but evidence against the target in one channel is not subtracted from
    evidence for it in another. The sum is resized to the input's size and scaled to [0, 1].

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: `GradCAMElementWise` of pytorch-grad-cam (github.com/jacobgil/pytorch-grad-cam); there
    is no paper.
    """
    return run(
        grad_cam_elementwise, _elementwise, model, inputs, targets, question,
        score=logits, gradients=True,
    )  # fmt: skip


def _elementwise(context: Context) -> Found:
    maps = context.activations[:, None]
    slopes, _ = into_range(context.gradients, (*context.space, -1), factors=maps)
    return context.finish(jax.nn.relu(slopes * maps).sum(-1))
