"""Strided convolutions of few channels, computed over blocks of pixels (space to depth).

With stride s, a block of s×s pixels becomes one position with s² times as many channels. The
convolution over blocks has stride 1, and a kernel s times smaller along each side. It is faster on
GPUs, whose matrix units take many channels at a time.
"""

import jax
import jax.numpy as jnp
from jax import lax

from scorecam_jax.models.convolutions import direct
from scorecam_jax.models.convolutions.direct import Geometry

# Channels are padded to a multiple of this, the number that a GPU's matrix units take at a time.
_CHANNELS = 16


def transform_kernel(kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Rearrange a kernel for `convolve`."""
    stride, (height, width) = geometry.stride, geometry.size
    rows, columns = -(-height // stride), -(-width // stride)
    missing = [(0, rows * stride - height), (0, columns * stride - width)]
    whole = jnp.pad(kernel, [*missing, (0, 0), (0, 0)])
    blocks = whole.reshape(rows, stride, columns, stride, *kernel.shape[2:]).swapaxes(1, 2)
    blocks = blocks.reshape(rows, columns, -1, kernel.shape[3])
    return jnp.pad(blocks, [(0, 0), (0, 0), (0, -blocks.shape[2] % _CHANNELS), (0, 0)])


def convolve(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Convolve with a kernel from `transform_kernel`."""
    stride, (rows, columns) = geometry.stride, kernel.shape[:2]
    borders = []
    for length, blocks, size, (before, after) in zip(
        x.shape[1:3], (rows, columns), geometry.size, geometry.pads, strict=True
    ):
        outputs = (before + length + after - size) // stride + 1
        # Whole blocks may reach beyond the kernel; there the transformed kernel is 0.
        covered = (outputs + blocks - 1) * stride
        borders.append((before, covered - before - length, 0))
    padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *borders, (0, 0, 0)])
    batch, height, width, _ = padded.shape
    split = padded.reshape(batch, height // stride, stride, width // stride, stride, -1)
    places = split.swapaxes(2, 3).reshape(batch, height // stride, width // stride, -1)
    places = jnp.pad(places, [(0, 0), (0, 0), (0, 0), (0, kernel.shape[2] - places.shape[3])])
    over_blocks = Geometry((rows, columns), stride=1, pads=((0, 0), (0, 0)), groups=1)
    return direct.convolve(places, kernel, over_blocks)
