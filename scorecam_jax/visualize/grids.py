"""Compact storage of heatmaps, as coarse grids whose linear enlargement is the heatmap."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

TOLERANCE = 1 / 255
"""The largest error at any pixel of a heatmap enlarged from the layer's grid."""


SMALL = 256
"""The largest number of values in a grid quantised to 16 bits; larger grids take 8 bits."""


class Grid(NamedTuple):
    """A quantised grid of numbers and text only, so that it can be stored as JSON.

    Attributes:
        shape: (rows, columns), or (slices, rows, columns).
        low: the value of the smallest code.
        high: the value of the largest code.
        signed: whether the enlarged map is clipped to [-1, 1] rather than to [0, 1].
        codes: the codes in base64, row by row: two bytes per value, little-endian, or one byte in a
            grid of more than `SMALL` values.
    """

    shape: Sequence[int]
    low: float
    high: float
    signed: bool
    codes: str


def coarse(heatmap: Any, sums: Any | None = None, *, cells: int = 56) -> Float[np.ndarray, "*grid"]:
    """Find a small grid whose linear enlargement, clipped, is the heatmap.

    Most methods sum maps at the layer's resolution, enlarge the sum, rectify it and scale it. Then
    the sum on the layer's grid determines the heatmap. For other methods, the grid is a
    least-squares fit with at most `cells` values per axis.

    Args:
        heatmap: (*spatial), in [0, 1] or [-1, 1].
        sums: (*grid), the method's sum at the layer's resolution, in any scale. It is used if an
            affine function of it gives the heatmap to within `TOLERANCE`.
        cells: the maximum number of values along each axis.

    Returns:
        The grid. Its values may lie outside the heatmap's range; clip them after enlargement.

    >>> np.abs(coarse(np.array([[0.0, 0.25, 0.75, 1.0]]), np.array([[2.0, 6.0]])).round(6))
    array([[0., 1.]])
    """
    values = np.asarray(heatmap, np.float64)
    if not values.any():
        return np.zeros((1,) * values.ndim)
    low = -1.0 if values.min() < 0 else 0.0
    if sums is not None:
        sums = np.asarray(sums, np.float64)
        enlarged = enlarge(sums, values.shape)
        # Where the map is clipped, it does not determine the sum.
        inside = (values > low) & (values < 1)
        inside |= values == values.max()
        if np.ptp(enlarged[inside]) > 0:
            factor, offset = np.polyfit(enlarged[inside], values[inside], 1)
            found = factor * enlarged + offset
            if np.abs(found.clip(low, 1) - values).max() <= TOLERANCE:
                return factor * sums + offset
    for axis, side in enumerate(values.shape):
        inverse = np.linalg.pinv(linear(side, min(cells, side)))
        values = np.moveaxis(np.tensordot(inverse, values, (1, axis)), 0, axis)
    return values.clip(low, 1)


def enlarge(
    grid: Float[np.ndarray, "*grid"],
    shape: Sequence[int],
    window: Sequence[tuple[float, float]] | None = None,
) -> Float[np.ndarray, "*spatial"]:
    """Resize linearly, pixel centres at halves, as `jax.image.resize` without antialiasing does.

    Args:
        grid: the values.
        shape: the wanted size.
        window: for each axis, the start and the length of the wanted part, as fractions of the
            axis. None: the whole grid.
    """
    values = np.asarray(grid, np.float64)
    for axis, side in enumerate(shape):
        start, length = window[axis] if window else (0.0, 1.0)
        matrix = linear(side, values.shape[axis], start, length)
        values = np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)
    return values


def linear(
    large: int, small: int, start: float = 0.0, length: float = 1.0
) -> Float[np.ndarray, "large small"]:
    """The matrix that linearly resizes an axis or a part of it.

    >>> linear(4, 2)[1]
    array([0.75, 0.25])
    """
    at = (start + (np.arange(large) + 0.5) / large * length) * small - 0.5
    return np.maximum(0, 1 - np.abs(at.clip(0, small - 1)[:, None] - np.arange(small)))


def pack(grid: Float[np.ndarray, "*grid"], *, signed: bool = False) -> Grid:
    """Quantise a grid to 16 bits, or to 8 bits if it has more than `SMALL` values."""
    codes = np.dtype("<u2" if grid.size <= SMALL else "u1")
    low, high = (float(f"{value:.6g}") for value in (grid.min(), grid.max()))
    step = (high - low) / np.iinfo(codes).max or 1.0
    quantised = np.rint((grid.clip(low, high) - low) / step).astype(codes)
    text = base64.b64encode(quantised.tobytes()).decode("ascii")
    return Grid(list(grid.shape), low, high, signed, text)


def unpack(packed: Grid) -> Float[np.ndarray, "*grid"]:
    """The packed grid, up to quantisation.

    >>> unpack(pack(np.array([[0.0, 0.5, 1.0]]))).round(4)
    array([[0. , 0.5, 1. ]])
    """
    content = base64.b64decode(packed.codes)
    size = int(np.prod(packed.shape))
    codes = np.frombuffer(content, "u1" if len(content) == size else "<u2").reshape(packed.shape)
    return packed.low + codes * ((packed.high - packed.low) / np.iinfo(codes.dtype).max)


def draw(
    grid: Grid, shape: Sequence[int], window: Sequence[tuple[float, float]] | None = None
) -> Float[np.ndarray, "*spatial"]:
    """The heatmap of a packed grid, or a part of the heatmap, at any size; see `enlarge`."""
    return enlarge(unpack(grid), shape, window).clip(-1 if grid.signed else 0, 1)


def layer_sums(explanation: Any, channel_axis: int = -1) -> Float[np.ndarray, "..."] | None:
    """The weighted sum of maps at the layer's resolution.

    Args:
        explanation: an `Explanation`.
        channel_axis: the channel axis of its activations.

    Returns:
        Σ_k w_k A_k, (B, T, *grid); None for a method that does not weight whole maps.
    """
    if explanation.weights is None or not hasattr(explanation.activations, "ndim"):
        return None
    activations = np.moveaxis(np.asarray(explanation.activations, np.float64), channel_axis, -1)
    weights = np.asarray(explanation.weights, np.float64)
    weights = weights.reshape(len(weights), -1, weights.shape[-1])
    if activations.ndim < 3 or activations.shape[-1] != weights.shape[-1]:
        return None
    return np.einsum("b...k,btk->bt...", activations, weights)


def pixelate(heatmap: Any, sums: Any) -> Float[np.ndarray, "*spatial"]:
    """The heatmap on the cells of the layer's grid, without interpolation.

    Args:
        heatmap: (*spatial), in [0, 1] or [-1, 1].
        sums: (*grid), the method's sum at the layer's resolution.

    Raises:
        ValueError: the sum does not give the heatmap, so the heatmap has no such cells.
    """
    values, sums = np.asarray(heatmap), np.asarray(sums)
    grid = coarse(values, sums)
    if grid.shape != sums.shape:
        if grid.size == 1:  # an empty map is empty in every cell
            return np.zeros(values.shape)
        raise ValueError(
            f"the heatmap of shape {values.shape} is not the enlarged sum of shape {sums.shape}, "
            "so it has no cells of the layer"
        )
    for axis, side in enumerate(values.shape):
        at = (np.arange(side) + 0.5) * grid.shape[axis] / side
        grid = np.take(grid, at.astype(int), axis)
    return grid.clip(-1 if values.min() < 0 else 0, 1)
