"""LayerCAM (Jiang et al. 2021, IEEE Transactions on Image Processing 30)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.scores import logits


def layer_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    gamma: float | None = None,
    **question: Unpack[Question],
) -> Explanation:
    """Multiply maps and positive gradients place by place: Σ_k ReLU(g_k) ∘ A_k.

    Made for early layers, where one weight for a whole map is too coarse. `weights` are None. The
    sum M is resized to the input's size, rectified, and scaled to [0, 1]. With `gamma`, M is first
    rectified and replaced by tanh(γ M / max M), which strengthens the faint maps of early layers:
    the paper uses γ = 2 for the first three stages of VGG16, whose maps it fuses. torch-cam does so
    whenever it fuses; pytorch-grad-cam never does.

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        gamma: γ; None leaves the sum as it is.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Jiang et al. 2021 (IEEE Transactions on Image Processing 30), Eqs. 5 to 7, and 9.
    """
    return run(
        layer_cam, _layer_cam, model, inputs, targets, question, score=logits, gradients=True,
        gamma=None if gamma is None else float(gamma),
    )  # fmt: skip


def _layer_cam(context: Context, *, gamma: Any) -> Found:
    found = context.finish_products(jax.nn.relu(context.gradients))
    if gamma is None:
        return found
    assert found.sums is not None
    sums = jax.nn.relu(found.sums)
    largest = sums.max(tuple(range(2, sums.ndim)), keepdims=True)
    return context.finish(jnp.tanh(gamma * divide(sums, largest)))._replace(peak=found.peak)
