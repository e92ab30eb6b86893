"""SmoothGrad (Smilkov et al. 2017, arXiv 1706.03825)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.input.base import finish_pixels, input_gradients, largest_of_channels
from scorecam_jax.steps.scores import logits


def smooth_grad(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    key: jax.Array,
    samples: int = 25,
    deviation: float = 0.15,
    form: str = "mean",
    **question: Unpack[Output],
) -> Explanation:
    """Average the gradients with respect to noisy inputs.

    With "mean", the paper's formula, the map at a pixel is max_c |mean_n g_n,c|. With "mean of
    squares", it is Σ_c mean_n g_n,c². PAIR's package `saliency` sums the squares by default, which
    is the same map after scaling. The map is scaled to [0, 1]; `weights` and `scores` are None.

    Args:
        model: as in `gradient`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes per sample.
        key: the key of the noise.
        samples: the number of noisy inputs, at least 1.
        deviation: the noise's standard deviation, as a share of the range of each input's values.
        form: "mean" or "mean of squares".
        **question: see `Output`. The default score is the outputs themselves, the logits.

    Raises:
        ValueError: `samples` is not positive, or no form has that name.

    Source: Smilkov et al. 2017 (arXiv 1706.03825), Section 2.1; the squares, Hooker et al. 2019
    (arXiv 1806.10758).
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}, wanted at least 1: 25 is usual")
    if form not in ("mean", "mean of squares"):
        raise ValueError(f"form is {form!r}, wanted 'mean' or 'mean of squares'")
    return run(
        smooth_grad, _smooth_grad, model, inputs, targets, question, score=logits,
        reads_layer=False, in_frame=False, key=key, samples=samples, deviation=float(deviation),
        squares=form != "mean",
    )  # fmt: skip


def _smooth_grad(
    context: Context, key: jax.Array, samples: int, deviation: Any, squares: bool
) -> Found:
    images = context.inputs
    axes = tuple(range(1, images.ndim))
    sigma = deviation * (images.max(axes, keepdims=True) - images.min(axes, keepdims=True))

    def add(total: Array, key: Array) -> tuple[Array, None]:
        # All images share the noise, so that a map does not depend on the image's place in a batch.
        noise = jax.random.normal(key, (1, *images.shape[1:]), images.dtype)
        slopes = input_gradients(context, images + sigma.astype(images.dtype) * noise)
        return total + (slopes**2 if squares else slopes), None

    shape = jax.eval_shape(lambda: input_gradients(context, images))
    keys = jax.random.split(key, samples)
    total, _ = jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), keys)
    mean = total / samples
    return finish_pixels(mean.sum(-1) if squares else largest_of_channels(mean))
