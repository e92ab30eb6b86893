"""Outlines of objects, as COCO's polygons and run lengths, and their masks.

Source: https://cocodataset.org/#format-data; for compressed run lengths, `maskApi.c` of COCO's
tools.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int


class Outline(NamedTuple):
    """The outline of an object, as polygons or as run lengths.

    Attributes:
        polygons: each x, y, x, y, ... in pixels, like boxes: the centre of the first pixel is
            (0.5, 0.5). The object is their union.
        counts: run lengths of pixels outside, inside, outside the object and so on, down each
            column from the left; integers, or COCO's compressed string.
        size: rows and columns of the mask that `counts` describes.
    """

    polygons: list[list[float]] = []  # noqa: RUF012
    counts: list[int] | str = []  # noqa: RUF012
    size: tuple[int, int] = (0, 0)


def outline_of(segmentation: Any, size: tuple[int, int] | None) -> Outline | None:
    """Convert COCO's `segmentation` to an outline; None if there is none.

    Args:
        segmentation: the value in the file.
        size: width and height of the photograph; None if unknown.

    Raises:
        ValueError: the segmentation is neither polygons nor run lengths, or its size differs
            from the photograph's.
    """
    if segmentation in (None, [], {}):
        return None
    if isinstance(segmentation, dict):
        rows, columns = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        if size and (columns, rows) != size:
            raise ValueError(
                f"its size is {columns} x {rows}, and the photograph's is {size[0]} x {size[1]}"
            )
        return Outline(
            [], counts if isinstance(counts, str) else list(map(int, counts)), (rows, columns)
        )
    polygons = [[float(value) for value in polygon] for polygon in segmentation]
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError("a polygon has an odd number of values, or fewer than three corners")
    if not all(math.isfinite(value) for polygon in polygons for value in polygon):
        raise ValueError("a polygon has corners that are not finite")
    return Outline(polygons)


def runs_of(mask: Bool[np.ndarray, "rows columns"]) -> Outline:
    """Encode a mask as run lengths."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0] * (1 + bool(flat.size and flat[0])), changes, [flat.size]])
    return Outline([], np.diff(edges).tolist(), mask.shape)


def painted(outline: Outline, size: tuple[int, int]) -> Bool[np.ndarray, "rows columns"]:
    """Draw the mask of an outline: the pixels whose centre is inside.

    Args:
        outline: the outline.
        size: width and height of the photograph.

    Raises:
        ValueError: the run lengths are invalid, or for another size.
    """
    columns, rows = size
    mask = np.zeros((rows, columns), bool)
    if outline.polygons:
        for polygon in outline.polygons:
            mask |= _within(np.reshape(polygon, (-1, 2)), rows, columns)
        return mask
    counts = outline.counts
    lengths = np.asarray(_uncompressed(counts) if isinstance(counts, str) else counts, np.int64)
    if outline.size != (rows, columns) or lengths.sum() != mask.size or (lengths < 0).any():
        raise ValueError(f"the run lengths are not a mask of {columns} x {rows} pixels")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(columns, rows).T


def _within(corners: np.ndarray, rows: int, columns: int) -> Bool[np.ndarray, "rows columns"]:
    """The pixels whose centre is inside a polygon: an odd number of edges lies to the left."""
    crossed = np.zeros((rows, columns + 1), bool)
    middle = np.arange(rows) + 0.5
    for (x, y), (last_x, last_y) in zip(corners, np.roll(corners, 1, 0), strict=True):
        cut = np.flatnonzero((middle >= min(y, last_y)) & (middle < max(y, last_y)))
        at = x + (middle[cut] - y) * (last_x - x) / ((last_y - y) or 1)
        crossed[cut, np.clip(np.ceil(at - 0.5), 0, columns).astype(int)] ^= True
    return np.logical_xor.accumulate(crossed, 1)[:, :-1]


def _uncompressed(text: str) -> Sequence[int] | Int[np.ndarray, " runs"]:
    """Decode COCO's compressed run lengths: five bits a letter, differences from the fourth on."""
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode():
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError("the run lengths are not in COCO's compressed format")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts
