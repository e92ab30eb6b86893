"""What methods share that differentiate by the input."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.methods.base import Context, Found, target_gradients
from scorecam_jax.steps.combine import into_range, peak_of, resize_rectify_normalize
from scorecam_jax.steps.masks import value_range
from scorecam_jax.steps.outputs import class_scores, in_full_precision


def input_gradients(
    context: Context, inputs: Float[Array, "batch ..."]
) -> Float[Array, "batch targets *spatial channels"]:
    """The gradients of the targets' scores by inputs, which may be others than the context's."""

    def scores(images: Array) -> Array:
        outputs, _ = context.model(images)
        return class_scores(context.score, outputs, len(images))

    slopes = target_gradients(scores, inputs, context.targets)
    return in_full_precision(channels_last(context, slopes))


def channels_last(context: Context, values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Inputs, or their gradients with a targets axis, with the channels last."""
    axis = context.channel_axis % context.inputs.ndim + values.ndim - context.inputs.ndim
    return jnp.moveaxis(values, axis, -1)


def largest_of_channels(
    slopes: Float[Array, "batch targets *spatial channels"],
) -> Float[Array, "batch targets *spatial"]:
    """The largest absolute value of each pixel."""
    # Its derivative is finite also where a compiler rounds a value otherwise than the largest.
    return value_range(jnp.abs(slopes), 1)[1][..., 0]


def finish_pixels(sums: Float[Array, "batch targets *spatial"]) -> Found:
    """Rectify what is told of each pixel, and scale it to [0, 1]."""
    sums, size = into_range(sums, range(2, sums.ndim))
    peak = peak_of(sums) * size.reshape(size.shape[:2])
    return Found(resize_rectify_normalize(sums, sums.shape[2:]), peak=peak)
