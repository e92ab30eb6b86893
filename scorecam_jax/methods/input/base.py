"""What methods share that differentiate with respect to the input."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.methods.base import Context, Found, target_gradients
from scorecam_jax.steps.combine import into_range, peak_of, resize_rectify_normalize
from scorecam_jax.steps.masks import value_range
from scorecam_jax.steps.outputs import class_scores, in_full_precision


def input_gradients(
    context: Context, inputs: Float[Array, "batch ..."]
) -> Float[Array, "batch targets *spatial channels"]:
    """The gradients of the targets' scores with respect to inputs, the context's or others."""

    def scores(images: Array) -> Array:
        outputs, _ = context.model(images)
        return class_scores(context.score, outputs, len(images))

    slopes = target_gradients(scores, inputs, context.targets)
    return in_full_precision(channels_last(context, slopes))


def channels_last(context: Context, values: Float[Array, "..."]) -> Float[Array, "..."]:
    """Move the channels of inputs, or of their gradients with a targets axis, to the end."""
    axis = context.channel_axis % context.inputs.ndim + values.ndim - context.inputs.ndim
    return jnp.moveaxis(values, axis, -1)


def largest_of_channels(
    slopes: Float[Array, "batch targets *spatial channels"],
) -> Float[Array, "batch targets *spatial"]:
    """The largest absolute value of each pixel."""
    # The derivative of `value_range` is finite even if a compiler rounds the largest value anew.
    return value_range(jnp.abs(slopes), 1)[1][..., 0]


def finish_pixels(sums: Float[Array, "batch targets *spatial"]) -> Found:
    """Rectify the values of the pixels, and scale them to [0, 1]."""
    sums, size = into_range(sums, range(2, sums.ndim))
    peak = peak_of(sums) * size.reshape(size.shape[:2])
    return Found(resize_rectify_normalize(sums, sums.shape[2:]), peak=peak)
