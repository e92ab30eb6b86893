"""Seg-Eigen-CAM (Chung and Ying 2025, doi 10.3390/app15137562)."""

from typing import Any, Unpack

import jax.numpy as jnp

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.eigen_grad_cam import first_component
from scorecam_jax.steps.scores import logits


def seg_eigen_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Project maps weighted by absolute gradients onto their first principal component.

    The products |g| ∘ A are centred over the places. The map has the sign that makes its largest
    absolute value positive. It is resized to the input's size, rectified, and scaled to [0, 1].
    Made for segmentation networks: pass `score=scores.segmentation(...)`.

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Chung and Ying 2025 (Applied Sciences 15(13), 7562), Eqs. 10 and 13, as in
    pytorch-grad-cam 1.5.7.
    """
    return run(
        seg_eigen_cam, _seg_eigen_cam, model, inputs, targets, question,
        score=logits, gradients=True,
    )  # fmt: skip


def _seg_eigen_cam(context: Context) -> Found:
    component = first_component(jnp.abs(context.gradients) * context.activations[:, None])
    high = component.max(context.space, keepdims=True)
    low = component.min(context.space, keepdims=True)
    return context.finish(jnp.where(-low > high, -component, component))
