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

    The interval says how the mean would vary over other images of the same kind. With few images it
    is too narrow. Every method is resampled with the same draws, hence over the same images.

    >>> figure(np.array([1.0, 3.0])).mean
    2.0
    """
    count = len(values)
    if not count:
        return Figure(np.nan, np.nan, np.nan, 0)
    generator = np.random.default_rng(0)
    means = [values[generator.integers(count, size=count)].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Figure(float(values.mean()), float(low), float(high), count)


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
