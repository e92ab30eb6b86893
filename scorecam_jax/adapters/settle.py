"""How a layer lies over the image if the program does not show it: proposed, then measured."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from scorecam_jax.adapters.registration import Registration, Responses, fit
from scorecam_jax.program.positions import Arrangement, Axis, Digit, arrange_as

_CLEAR = 0.9  # the least r² of a line by which a map is moved


def register_as(arrangement: Arrangement, responses: Responses) -> Registration:
    """Measure whether a layer lies over the image as an arrangement says.

    Args:
        arrangement: the assumed one.
        responses: the patches, and the changes of what the layer returned.
    """
    changes = np.expand_dims(responses.changes, arrangement.channels)
    grids = arrangement.to_grid(changes, -1)
    return fit(responses._replace(changes=grids[..., 0]), arrangement.grid, arrangement.box)


def settle(
    proposed: Arrangement, responses: Responses, image: Sequence[int], told: bool
) -> tuple[Arrangement, Registration]:
    """The arrangement that fits best, and how well.

    Args:
        proposed: the arrangement from the program, or suggested by the shapes.
        responses: the patches, and the changes of what the layer returned.
        image: the sizes of the image's axes.
        told: whether the proposed one comes from the program, so that no other is tried.
    """
    first = register_as(proposed, responses)
    tokens = responses.changes.ndim == 2 != len(image) + 1
    if told or not first.measurable or (first.aligned and not tokens):
        return proposed, first
    candidates = _of_tokens(proposed, responses, image) if tokens else _turned(proposed, first)
    found = [(proposed, first)]
    found += [(each, register_as(each, responses)) for each in candidates]
    best = max(found, key=lambda pair: (pair[1].aligned, pair[1].r2))
    if not best[1].aligned and best[1].r2 > _CLEAR:
        moved = _moved(*best, image)
        found.append((moved, register_as(moved, responses)))
    return max(found, key=lambda pair: (pair[1].aligned, pair[1].r2))


def _of_tokens(
    proposed: Arrangement, responses: Responses, image: Sequence[int]
) -> Iterator[Arrangement]:
    """Tokens in other orders, behind other numbers of tokens that are not the image's."""
    length = responses.changes.shape[1]
    grids = {proposed.grid: None} | dict.fromkeys(_patched(image, length))
    for grid in grids:
        for first in range(length - math.prod(grid) + 1):
            for order in itertools.permutations(range(len(grid))):
                yield arrange_as(image, grid, [order], proposed.channels, first)
            yield from _windows(image, grid, proposed.channels, first)


def _patched(image: Sequence[int], length: int) -> Iterator[tuple[int, ...]]:
    """The grids of square patches that make at least half of the tokens."""
    for side in range(1, max(image) + 1):
        grid = tuple(size // side for size in image)
        if not any(size % side for size in image) and length < 2 * math.prod(grid) <= 2 * length:
            yield grid


def _windows(
    image: Sequence[int], grid: Sequence[int], channels: int, first: int
) -> Iterator[Arrangement]:
    """Tokens window by window, and within each row by row."""
    for side in range(2, min(grid)):
        if any(count % side for count in grid):
            continue
        cells = [size / count for size, count in zip(image, grid, strict=True)]
        outer = tuple(
            Digit(axis, 0.0, side * cell, count // side)
            for axis, (cell, count) in enumerate(zip(cells, grid, strict=True))
        )
        inner = tuple(Digit(axis, 0.0, cell, side) for axis, cell in enumerate(cells))
        whole = arrange_as(image, grid, [range(len(grid))], channels, first)
        axes = tuple(axis if not axis.digits else Axis(outer + inner, first) for axis in whole.axes)
        yield whole._replace(axes=axes)


def _turned(proposed: Arrangement, measured: Registration) -> Iterator[Arrangement]:
    """The arrangement that a line tells whose axes are swapped or mirrored."""
    order = np.abs(measured.slope).argmax(1).tolist()
    if sorted(order) != list(range(len(order))):
        return
    signs = [float(np.sign(row[axis])) for row, axis in zip(measured.slope, order, strict=True)]
    extents = [high - low for low, high in proposed.box]
    counts = iter(range(len(order)))
    axes, grid = [], [0] * len(order)
    for axis in proposed.axes:
        if not axis.digits:
            axes.append(axis)
            continue
        place = next(counts)
        goal, count = order[place], axis.size
        step = signs[place] * extents[goal] / count
        low = proposed.box[goal][0 if step > 0 else 1]
        axes.append(axis._replace(digits=(Digit(goal, low, step, count),)))
        grid[goal] = count
    yield proposed._replace(axes=tuple(axes), grid=tuple(grid))


def _moved(arrangement: Arrangement, measured: Registration, image: Sequence[int]) -> Arrangement:
    """The arrangement, drawn where a line tells that its cells look."""
    box = [
        tuple(
            sorted(
                (0.5 * (low + high) + (edge - offset) / slope * (high - low))
                for edge in (-0.5, 0.5)
            )
        )
        for (low, high), slope, offset in zip(
            arrangement.box, np.diag(measured.slope), measured.offset, strict=True
        )
    ]
    return arrangement._replace(box=tuple((low, high) for low, high in box))
