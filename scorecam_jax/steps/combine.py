"""From weights to a heatmap: the weighted sum and its scaling to [0, 1]."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.steps import masks as _masks
from scorecam_jax.steps.masks import Render

_MASKS_AT_ONCE = 32


def sum_weighted(
    maps: Float[Array, "batch *grid channels"], weights: Float[Array, "batch targets channels"]
) -> Float[Array, "batch targets *grid"]:
    """Sum maps by their weights: Σ_k w_k A_k."""
    # In this order the maps, which are large, are read as they lie. Turned around, they are copied.
    axes = ((maps.ndim - 1,), (2,)), ((0,), (0,))
    sums = jax.lax.dot_general(maps, weights, axes, precision="highest")
    return jnp.moveaxis(sums, -1, 1)


def sum_activations(
    activations: Float[Array, "batch *grid channels"],
    maps: Float[Array, "batch *grid channels"],
    weights: Float[Array, "batch targets channels"],
    render: Render,
    shape: Sequence[int],
) -> Float[Array, "batch targets *grid"]:
    """Sum the activations themselves, at the layer's resolution: Σ_k w_k A_k (Eq. 9).

    Linear resizing of this sum equals summing the resized activations.
    """
    return sum_weighted(activations, weights)


def sum_masks(
    activations: Float[Array, "batch *grid channels"],
    maps: Float[Array, "batch *grid channels"],
    weights: Float[Array, "batch targets channels"],
    render: Render,
    shape: Sequence[int],
) -> Float[Array, "batch targets *spatial"]:
    """Sum the masks at the input's resolution: Σ_k w_k H_k. Only a few masks exist at a time."""
    size = min(_MASKS_AT_ONCE, max(maps.shape[-1], 1))
    padding = -maps.shape[-1] % size

    def chunks(array: Array) -> Array:
        padded = jnp.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, padding)])
        first = jnp.moveaxis(padded, -1, 0)
        return first.reshape(len(first) // size, size, *first.shape[1:])

    def add(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, None]:
        maps, weights = chunk
        rendered = render(jax.lax.collapse(maps, 0, 2), shape)
        rendered = rendered.reshape(*maps.shape[:2], *shape)
        return total + jnp.einsum("kb...,kbt->bt...", rendered, weights, precision="highest"), None

    total = jnp.zeros((*weights.shape[:2], *shape), weights.dtype)
    return jax.lax.scan(add, total, (chunks(maps), chunks(weights)))[0]


def resize_rectify_normalize(
    sums: Float[Array, "batch targets *grid"], shape: Sequence[int]
) -> Float[Array, "batch targets *spatial"]:
    """Resize to the input's size, apply ReLU and scale to [0, 1].

    A sum that is nowhere positive gives zeros.
    """
    sums = _masks.resize(sums, shape) if sums.shape[2:] != tuple(shape) else sums
    return _masks.normalize(jax.nn.relu(sums), len(shape))


def resize_scale_signed(
    sums: Float[Array, "batch targets *grid"], shape: Sequence[int]
) -> Float[Array, "batch targets *spatial"]:
    """Resize to the input's size and divide by the largest absolute value: into [-1, 1].

    The sign is kept: evidence for the target is positive, evidence against it negative.
    """
    sums = _masks.resize(sums, shape) if sums.shape[2:] != tuple(shape) else sums
    low, high = _masks.value_range(sums, len(shape))
    return _masks.divide(sums, jnp.maximum(-low, high))


def signed_peak_of(
    sums: Float[Array, "batch targets *space"],
) -> Float[Array, "batch targets"]:
    """The largest absolute value of each sum."""
    return jnp.abs(sums).max(tuple(range(2, sums.ndim)))


def peak_of(sums: Float[Array, "batch targets *space"]) -> Float[Array, "batch targets"]:
    """The largest value of each sum, 0 if none is positive."""
    return jax.nn.relu(sums.max(tuple(range(2, sums.ndim))))


def into_range(
    values: Float[Array, "..."], axes: Sequence[int], *, factors: Any = 1.0, limit: int = 60
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Divide values by a power of two that brings their largest product into range.

    Args:
        values: any array.
        axes: those that share a divisor.
        factors: what each value will be multiplied by; broadcasts against the values.
        limit: the range is from 2^-limit to 2^limit.

    Returns:
        The quotients, exact, and the divisors, whose `axes` have size 1. The divisors count as
        constants in derivatives.
    """
    values_now, factors = jax.lax.stop_gradient((values, jnp.asarray(factors, values.dtype)))
    # The products themselves may be too large or too small for the type.
    exponents = jnp.frexp(values_now)[1] + jnp.frexp(factors)[1]
    nothing = -(2**20)
    counts = (values_now != 0) & (factors != 0)
    exponents = jnp.where(counts, exponents, nothing)
    exponent = exponents.max(tuple(axes), keepdims=True, initial=nothing)
    most = jnp.finfo(values.dtype).maxexp - 2
    excess = jnp.clip(exponent - jnp.clip(exponent, -limit, limit), -most, most)
    finite = jnp.isfinite(values_now).all(tuple(axes), keepdims=True)
    excess = jnp.where((exponent > nothing) & finite, excess, 0)
    size = jnp.ldexp(jnp.ones(excess.shape, values.dtype), excess)
    return values / size, size


def sum_in_range(
    maps: Float[Array, "batch *grid channels"], weights: Float[Array, "batch targets channels"]
) -> tuple[Float[Array, "batch targets *grid"], Float[Array, "batch targets"]]:
    """Sum maps by their weights, and divide by a power of two if the sum would not be in range.

    A heatmap does not depend on a common factor. Faint maps or small weights therefore do not make
    it empty.

    Returns:
        The sum divided, and the divisor.
    """
    relative, size = into_range(weights, [2], factors=largest_of(maps)[:, None])
    return sum_weighted(maps, relative), size[..., 0]


def largest_of(maps: Float[Array, "batch *grid channels"]) -> Float[Array, "batch channels"]:
    """The largest absolute value of each channel."""
    return jnp.abs(maps).max(tuple(range(1, maps.ndim - 1)), initial=0)
