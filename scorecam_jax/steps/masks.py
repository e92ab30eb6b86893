"""From activation maps to masks: resize, normalise, apply. Pure functions of arrays.

Maps are (..., *grid): their last `rank` axes are spatial. A tuple in place of a rank names the
spatial axes themselves. Masks have the input's size.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Render: TypeAlias = Callable[[Float[Array, "n *grid"], Sequence[int]], Float[Array, "n *spatial"]]
Space: TypeAlias = int | tuple[int, ...]


def resize(maps: Float[Array, "..."], shape: Sequence[int]) -> Float[Array, "..."]:
    """Resize the last `len(shape)` axes linearly, sampling at half-pixel centres.

    Agrees with PyTorch's `interpolate(align_corners=False)`, OpenCV's `INTER_LINEAR` and
    TensorFlow's `resize` to 3e-6 of the maps' range. None of these smooths before shrinking.

    >>> resize(jnp.array([0.0, 1.0]), (4,))
    Array([0.  , 0.25, 0.75, 1.  ], dtype=float32)
    """
    lead = maps.shape[: maps.ndim - len(shape)]
    return jax.image.resize(maps, (*lead, *shape), "linear", antialias=False)


def resize_aligned(maps: Float[Array, "..."], shape: Sequence[int]) -> Float[Array, "..."]:
    """Resize the last `len(shape)` axes linearly; the first and last samples stay in place.

    Agrees with PyTorch's `interpolate(align_corners=True)` and `scipy.ndimage.zoom(order=1)`.

    >>> resize_aligned(jnp.array([0.0, 1.0]), (5,))
    Array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
    """
    for axis, new in zip(range(-len(shape), 0), shape, strict=True):
        old = maps.shape[axis]
        position = np.linspace(0, old - 1, new)[:, None]
        mixing = np.maximum(0, 1 - np.abs(position - np.arange(old)))
        mixed = jnp.tensordot(
            maps, jnp.asarray(mixing, maps.dtype), (axis, 1), precision=jax.lax.Precision.HIGHEST
        )
        maps = jnp.moveaxis(mixed, -1, axis)
    return maps


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def value_range(
    maps: Float[Array, "..."], rank: Space
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return each map's minimum and maximum over its spatial axes, which are kept as size 1."""
    axes = _axes(rank)
    return maps.min(axes, keepdims=True), maps.max(axes, keepdims=True)


@value_range.defjvp
def _value_range_jvp(rank: Space, primals: Any, tangents: Any) -> Any:
    # A compiler may compute a map anew where it is used again, and round it otherwise. Then no
    # value equals the extreme, and the usual derivative divides by the number of those that do.
    (maps,), (change,) = primals, tangents
    axes = _axes(rank)

    def slope(extreme: Array) -> Array:
        near = jnp.abs(maps - extreme) <= 2 * jnp.finfo(maps.dtype).eps * jnp.abs(extreme)
        count = jnp.maximum(near.sum(axes, keepdims=True), 1)
        return jnp.where(near, change / count, 0).sum(axes, keepdims=True)

    extremes = value_range(maps, rank)
    return extremes, tuple(slope(extreme) for extreme in extremes)


def _axes(rank: Space) -> tuple[int, ...]:
    return tuple(range(-rank, 0)) if isinstance(rank, int) else rank


def is_constant(maps: Float[Array, "..."], rank: Space) -> Bool[Array, "..."]:
    """Return which maps are constant up to rounding; their spatial axes are kept as size 1.

    Sums of many terms are rounded. A map whose range is at most 32 units in the last place of its
    largest value therefore counts as constant: stretched to [0, 1] it would show rounding errors.
    """
    low, high = value_range(maps, rank)
    largest = jnp.maximum(jnp.abs(low), jnp.abs(high))
    return high - low <= ROUNDING * jnp.finfo(maps.dtype).eps * largest


ROUNDING = 32
"""How many units in the last place of its largest value a constant map may vary by."""


def normalize(
    maps: Float[Array, "..."], rank: Space, eps: float = 0.0, *, exactly: bool = False
) -> Float[Array, "..."]:
    """Scale each map to [0, 1]: (A - min) / (max - min + eps). Constant maps become 0.

    Args:
        maps: (..., *spatial), or with the spatial axes that `rank` names.
        rank: how many axes are spatial, or which ones.
        eps: added to the range.
        exactly: count only maps of a single value as constant, not those that vary by rounding.

    Source: Score-CAM, Eq. 8 (arXiv 1910.01279v2).

    >>> normalize(jnp.array([[2.0, 4.0, 3.0], [7.0, 7.0, 7.0]]), rank=1)
    Array([[0. , 1. , 0.5],
           [0. , 0. , 0. ]], dtype=float32)
    """
    low, high = value_range(maps, rank)
    constant = low == high if exactly else is_constant(maps, rank)
    # With an eps, a constant map would be 0 too, but with a slope of 1 / eps.
    return jnp.where(constant, 0, divide(maps - low, high - low + eps))


@jax.custom_jvp
def divide(numerator: Float[Array, "..."], denominator: Float[Array, "..."]) -> Float[Array, "..."]:
    """Divide. Where the denominator is 0, the result and its derivative are 0."""
    zero = denominator == 0
    return jnp.where(zero, 0, numerator / jnp.where(zero, 1, denominator))


@divide.defjvp
def _divide_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    # The usual form, with the square of the denominator, overflows and underflows too early.
    (numerator, denominator), (change, change_below) = primals, tangents
    quotient = divide(numerator, denominator)
    zero = denominator == 0
    slope = (change - quotient * change_below) / jnp.where(zero, 1, denominator)
    return quotient, jnp.where(zero, 0, slope)


def is_live(maps: Float[Array, "batch *grid channels"]) -> Bool[Array, "batch channels"]:
    """Return which maps are nonzero somewhere. The mask of any other map hides the whole input."""
    return jnp.any(maps != 0, axis=tuple(range(1, maps.ndim - 1)))


def with_empty_mask(
    masks: Float[Array, "batch *grid channels"],
) -> Float[Array, "batch *grid channels_and_1"]:
    """Append a mask that shows nothing."""
    return jnp.pad(masks, [(0, 0)] * (masks.ndim - 1) + [(0, 1)])


def apply_masks(
    inputs: Float[Array, "_ ..."],
    masks: Float[Array, "n *spatial"],
    baseline: Any,
    channel_axis: int,
) -> Float[Array, "n ..."]:
    """Show the input where the mask is 1 and the baseline where it is 0.

    Args:
        inputs: (n, *spatial, C), with the channels at `channel_axis`.
        masks: (n, *spatial), in [0, 1].
        baseline: an array of the inputs' rank that broadcasts against them.
        channel_axis: the channel axis of `inputs`.
    """
    masks = jnp.expand_dims(masks, channel_axis)
    return (inputs * masks + baseline * (1 - masks)).astype(inputs.dtype)


def spatial_shape(inputs: Any, channel_axis: int) -> tuple[int, ...]:
    """Return the sizes of the spatial axes: all but the first axis and the channel axis."""
    shape = list(inputs.shape)
    del shape[channel_axis]
    return tuple(shape[1:])
