"""Smooth Grad-CAM++ (Omeiza et al. 2019, arXiv 1908.01224)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run, target_gradients
from scorecam_jax.steps.combine import into_range
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.outputs import class_scores
from scorecam_jax.steps.scores import logits


def smooth_grad_cam_plus_plus(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    key: jax.Array,
    samples: int = 25,
    deviation: float = 0.15,
    form: str = "paper",
    **question: Unpack[Question],
) -> Explanation:
    """Weight each map as Grad-CAM++ does, by gradients averaged over inputs with noise.

    D_p is the mean over the noisy inputs of the p-th power of the gradient, which replaces the p-th
    derivative as in `grad_cam_plus_plus`. A are the maps of the input without noise.

    - "paper": w_k = Σ_ij α_ij ReLU(D_1)_ij with α = D_1 / (2 D_2 + Σ_ab A_ab D_3).
    - "torchcam": w_k = Σ_ij α_ij ReLU(g)_ij with α = D_2 / (2 D_2 + Σ_ab A_ab D_3), as in
      Grad-CAM++, where g is the gradient on the last noisy input rather than the mean.

    The sum is resized to the input's size, rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes per sample.
        key: the key of the noise.
        samples: the number of noisy inputs, at least 1. torch-cam uses 4.
        deviation: the noise's standard deviation, as a share of the range of each input's values.
            torch-cam uses .3, in the unit of the inputs.
        form: "paper" or "torchcam".
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Raises:
        ValueError: `samples` is not positive, or no form has that name.

    Source: Omeiza et al. 2019 (arXiv 1908.01224); `SmoothGradCAMpp` of torch-cam at f44afef.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}, wanted at least 1: 25 is usual")
    if form not in ("paper", "torchcam"):
        raise ValueError(f"form is {form!r}, wanted 'paper' or 'torchcam'")
    return run(
        smooth_grad_cam_plus_plus, _smooth, model, inputs, targets, question, score=logits,
        gradients=True, key=key, samples=samples, deviation=float(deviation), paper=form == "paper",
    )  # fmt: skip


def _smooth(context: Context, key: jax.Array, samples: int, deviation: Any, paper: bool) -> Found:
    images = context.inputs
    axes = tuple(range(1, images.ndim))
    sigma = deviation * (images.max(axes, keepdims=True) - images.min(axes, keepdims=True))
    # Powers of gradients could be out of range, so the maps are expressed in another unit.
    _, size = into_range(context.gradients, (*context.space, -1), limit=0)
    maps = context.activations[:, None] * size

    def add(totals: Any, key: Array) -> tuple[Any, None]:
        # All images share the noise, so that a map does not depend on the image's place in a batch.
        noise = jax.random.normal(key, (1, *images.shape[1:]), images.dtype)
        slopes = layer_gradients(context, images + sigma.astype(images.dtype) * noise) / size
        powers = [slopes**power for power in (1, 2, 3)]
        return [*map(jnp.add, totals[:3], powers), slopes], None

    zeros = jnp.zeros_like(context.gradients)
    totals, _ = jax.lax.scan(add, [zeros] * 4, jax.random.split(key, samples))
    first, second, third = (total / samples for total in totals[:3])
    above, slopes = (first, first) if paper else (second, totals[3])
    below = 2 * second + maps.sum(context.space, keepdims=True) * third
    # `where` rather than a product with 0, so that no derivative is infinity times 0.
    weights = jnp.where(slopes > 0, divide(above, below) * slopes, 0).sum(context.space)
    return context.finish_weighted(weights if paper else weights * size.reshape(*size.shape[:2], 1))


def layer_gradients(
    context: Context, inputs: Float[Array, "batch ..."]
) -> Float[Array, "batch targets *grid channels"]:
    """The gradients of the targets' scores with respect to the layer, on other inputs."""

    def scores(tap: Array) -> Array:
        outputs, _ = context.model(inputs, edit=lambda a: a + tap.astype(a.dtype))
        return class_scores(context.score, outputs, len(inputs))

    tap = jnp.zeros_like(jnp.moveaxis(context.activations, -1, context.channel_axis))
    slopes = target_gradients(scores, tap, context.targets)
    return jnp.moveaxis(slopes, context.channel_axis % tap.ndim + 1, -1)
