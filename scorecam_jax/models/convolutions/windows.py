"""Convolutions computed from shifted copies of the input, one for each position in the kernel."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from scorecam_jax.models.convolutions.direct import Geometry, pad


def depthwise_sum(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """A depthwise convolution as the sum of shifted products that defines it."""
    exact = jnp.promote_types(x.dtype, jnp.float32)
    taps = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1]).astype(exact)
    shifts = _shifts(x, geometry)
    sums = (shift.astype(exact) * tap for shift, tap in zip(shifts, taps, strict=True))
    return sum(sums, start=jnp.zeros((), exact)).astype(x.dtype)


def product(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """A convolution as one matrix product of all windows and the kernel."""
    windows = jnp.concatenate(list(_shifts(x, geometry)), -1)
    return windows @ kernel.reshape(-1, kernel.shape[-1])


def pointwise_product(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """A 1×1 convolution without a border, as a matrix product."""
    return x[:, :: geometry.stride, :: geometry.stride] @ kernel[0, 0]


def _shifts(x: jax.Array, geometry: Geometry) -> Iterator[jax.Array]:
    """The input shifted to each position in the kernel, in the kernel's order."""
    # Without the barrier, XLA fuses the padding into some of the shifts, and computes the preceding
    # activation again for each of them.
    padded = lax.optimization_barrier(pad(x, geometry.pads))
    ends = [padded.shape[axis + 1] - geometry.size[axis] + 1 for axis in (0, 1)]
    for i, j in np.ndindex(*geometry.size):
        yield padded[:, i : i + ends[0] : geometry.stride, j : j + ends[1] : geometry.stride]
