"""XLA's convolution, to which all other algorithms are equal."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Pads = tuple[tuple[int, int], tuple[int, int]]


class Geometry(NamedTuple):
    """The kernel size, stride, padding and groups of a convolution.

    Attributes:
        size: rows and columns of the kernel.
        stride: pixels between the windows of neighbouring outputs.
        pads: zeros before and after the rows, and before and after the columns.
        groups: the number of groups of channels that are convolved separately.
    """

    size: tuple[int, int]
    stride: int
    pads: Pads
    groups: int


def geometry_of(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns ingroup outputs"],
    *,
    stride: int,
    padding: str | int | Pads,
    groups: int,
) -> Geometry:
    """The geometry of a layer for an input of this size."""
    size = kernel.shape[0], kernel.shape[1]
    pads: Pads
    if isinstance(padding, tuple):
        pads = padding
    elif isinstance(padding, int):
        pads = ((padding, padding), (padding, padding))
    else:
        rows, columns = lax.padtype_to_pads(x.shape[1:3], size, (stride, stride), padding)
        pads = (rows[0], rows[1]), (columns[0], columns[1])
    return Geometry(size, stride, pads, groups)


def convolve(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Convolve by XLA's own operation."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (geometry.stride, geometry.stride),
        geometry.pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=geometry.groups,
    )


def pad(x: jax.Array, pads: Pads) -> jax.Array:
    """Pad the input with zeros."""
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))
