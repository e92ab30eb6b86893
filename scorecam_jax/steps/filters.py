"""Separable smoothing over the spatial axes, shared by blurring, imputation and SSIM."""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def gaussian_window(size: int, sigma: float) -> Float[np.ndarray, " size"]:
    """Return a centred Gaussian that sums to 1."""
    window = np.exp(-(((np.arange(size) - (size - 1) / 2) / sigma) ** 2) / 2)
    return window / window.sum()


def smooth(
    values: Float[Array, "..."], window: Float[np.ndarray, " size"], axes: Sequence[int]
) -> Float[Array, "..."]:
    """Correlate with a window along each axis, only where it fits: the axes get shorter.

    >>> smooth(jnp.array([0.0, 0.0, 4.0, 0.0, 0.0]), np.array([0.25, 0.5, 0.25]), [0])
    Array([1., 2., 1.], dtype=float32)
    """
    for axis in axes:
        kept = values.shape[axis] - len(window) + 1
        shifted = [
            float(weight) * jnp.take(values, jnp.arange(start, start + kept), axis)
            for start, weight in enumerate(window)
        ]
        values = functools.reduce(jnp.add, shifted)
    return values


def blur(
    inputs: Float[Array, "batch ..."], *, size: int = 11, sigma: float = 5.0, channel_axis: int = -1
) -> Float[Array, "batch ..."]:
    """Blur with a Gaussian over the spatial axes. Beyond an edge, its last value is repeated.

    The default settings are RISE's. RISE's own code takes its kernel from a blurred impulse and
    pads with zeros, which darkens the border.
    """
    axes = spatial_axes(inputs.ndim, channel_axis)
    before, after = (size - 1) // 2, size // 2
    pads = [(before, after) if axis in axes else (0, 0) for axis in range(inputs.ndim)]
    return smooth(jnp.pad(inputs, pads, mode="edge"), gaussian_window(size, sigma), axes)


def spatial_axes(rank: int, channel_axis: int) -> tuple[int, ...]:
    """Return all axes of a batch of inputs except the first axis and the channel axis."""
    return tuple(axis for axis in range(1, rank) if axis != channel_axis % rank)
