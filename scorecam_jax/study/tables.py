"""Tables of means over images, with their intervals, as text and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000


class Figure(NamedTuple):
    """A mean over images.

    Attributes:
        mean: the mean; NaN if there are no images.
        low: the lower end of the 95 % bootstrap interval.
        high: its upper end.
        count: the number of images.
    """

    mean: float
    low: float
    high: float
    count: int  # type: ignore[assignment]


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: of the metric.
        title: its heading.
        figures: by row; a row may be missing.
        digits: how many digits are printed after the point.
    """

    name: str
    title: str
    figures: Mapping[str, Figure]
    digits: int


def figure(values: Float[np.ndarray, " images"]) -> Figure:
    """The mean of the values and its 95 % percentile bootstrap interval.

    The interval estimates how the mean would vary over other images of the same kind. With few
    images it is too narrow. All methods are resampled with the same draws, over the same images.

    >>> figure(np.array([1.0, 3.0])).mean
    2.0
    """
    count = len(values)
    if not count:
        return Figure(np.nan, np.nan, np.nan, 0)
    generator = np.random.default_rng(0)
    rows = max(1, 1_000_000 // count)  # as many at once as memory always holds
    means = [
        values[generator.integers(count, size=(min(rows, RESAMPLES - first), count))].mean(1)
        for first in range(0, RESAMPLES, rows)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Figure(float(values.mean()), float(low), float(high), count)


def paired(values: Mapping[str, Mapping[str, float]], reference: str) -> dict[str, Figure]:
    """How much the methods' values differ from the reference's, on the same images.

    The interval of a difference is narrower than those of the two means suggest, because images
    that are hard for one method are hard for the other.

    Args:
        values: by method and image.
        reference: one of the methods.

    Returns:
        By every other method, the mean of its value less the reference's over the images that both
        have, with the interval as by `figure`.

    >>> paired({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 1.5, "y": 3.5, "z": 9.0}}, "a")["b"].mean
    1.0
    """
    base = values[reference]
    return {
        method: figure(
            np.array([own[image] - base[image] for image in base if image in own], float)
        )
        for method, own in values.items()
        if method != reference
    }


def as_text(rows: Sequence[str], columns: Sequence[Column], width: int = 100) -> str:
    """Rows by columns, `mean [low, high]`, in as many blocks as the width requires.

    The last line of a block gives the number of images.
    """
    cells = [
        [column.title, *(_cell(column, row) for row in rows), _count(column)] for column in columns
    ]
    heads = ["", *rows, "images"]
    first = max(map(len, heads))
    blocks: list[list[list[str]]] = [[]]
    room = width - first
    for cell in cells:
        needed = 2 + max(map(len, cell))
        if needed > room and blocks[-1]:
            blocks.append([])
            room = width - first
        blocks[-1].append([text.rjust(needed) for text in cell])
        room -= needed
    return "\n\n".join(
        "\n".join(
            "".join(parts).rstrip()
            for parts in zip([head.ljust(first) for head in heads], *block, strict=True)
        )
        for block in blocks
    )


def _cell(column: Column, row: str) -> str:
    found = column.figures.get(row)
    if found is None or not found.count:
        return "-"
    mean, low, high = (f"{value:.{column.digits}f}" for value in found[:3])
    return f"{mean} [{low}, {high}]"


def _count(column: Column) -> str:
    counts = [found.count for found in column.figures.values()] or [0]
    few, many = min(counts), max(counts)
    return f"{few}" if few == many else f"{few} to {many}"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV, with every column that any record has. Missing values are empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
