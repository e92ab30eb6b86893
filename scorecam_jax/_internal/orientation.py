"""Volumes turned to the radiological view."""

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

Affine = Float[np.ndarray, "4 4"]


def radiological_axes(affine: Affine) -> tuple[list[int], list[bool]]:
    """The axes of a volume (x, y, z) that become slices, rows and columns; which are reversed.

    Slices run from the feet to the head, rows from front to back, columns from the patient's right
    to left. Oblique axes are assigned to the nearest direction.

    Args:
        affine: the map from indices to millimetres right, anterior and superior (RAS).

    Raises:
        ValueError: the affine maps two axes to one direction.
    """
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(0))
    cosines = affine[:3, :3] / np.where(lengths > 0, lengths, 1)
    # The order of axes that agrees best with right, anterior and superior.
    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(cosines[way, axis]) for way, axis in enumerate(axes)),
    )
    if any(cosines[way, axis] == 0 for way, axis in enumerate(order)):
        raise ValueError("the affine maps two axes of the volume to one direction: it is damaged")
    across, down, up = order
    flips = cosines[2, up] < 0, cosines[1, down] > 0, cosines[0, across] > 0
    return [up, down, across], list(map(bool, flips))


def turned(
    values: Shaped[np.ndarray, "x y z *further"], affine: Affine
) -> tuple[Shaped[np.ndarray, "depth height width *further"], Affine]:
    """A volume whose axes are permuted and reversed as in `radiological_axes`, and its affine.

    The array is a view.

    Raises:
        ValueError: as in `radiological_axes`.
    """
    axes, flips = radiological_axes(affine)
    view = np.moveaxis(values, axes, (0, 1, 2))
    view = np.flip(view, tuple(axis for axis, flip in enumerate(flips) if flip))
    # The map from the new indices to the old ones.
    places = np.zeros((4, 4))
    places[3, 3] = 1
    for axis, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        places[old, axis] = -1 if flip else 1
        places[old, 3] = flip * (view.shape[axis] - 1)
    return view, affine @ places


def spacing_of(affine: Any) -> tuple[float, float, float]:
    """The lengths of a voxel's sides, in the order of the axes."""
    first, second, third = np.sqrt((affine[:3, :3] ** 2).sum(0)).tolist()
    return first, second, third
