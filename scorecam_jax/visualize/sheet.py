"""Sheets: panels in rows and columns, with titles."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from scorecam_jax.visualize.pictures import Picture, as_picture
from scorecam_jax.visualize.text import Text

# What viewers and formats take; about a gigabyte if a sheet has it along both sides.
_MOST_SIDE = 15_000

_LEAST_SIDE = 10


def sheet(
    panels: Sequence[Picture],
    titles: Sequence[str] = (),
    *,
    columns: int | None = None,
    row_labels: Sequence[str] = (),
) -> Image.Image:
    """Arrange panels in rows and columns, with titles.

    No panel is resized, unless the sheet would have more than 16,000 pixels along a side. Then all
    are reduced alike.

    Args:
        panels: pictures as in `overlay`, row by row. Smaller ones are centred in their cell.
        titles: one for each panel, or one for each column, written above the first row.
        columns: panels per row. None: the number that brings the sheet nearest to 3:2.
        row_labels: one for each row, written to its left.

    Returns:
        An RGB image. The type size grows with the panels. Long titles are wrapped, never cut.

    Raises:
        ValueError: there are no panels, or their number does not match the titles or labels.

    >>> panel = Image.new("RGB", (300, 200))
    >>> sheet([panel, panel], ["before", "after"]).width > 600
    True
    """
    pictures = [as_picture(panel) for panel in panels]
    if not pictures:
        raise ValueError("a sheet needs at least one panel, found none")
    width, tallest, size = _measures(pictures)
    if columns is None:
        columns = _landscape(len(pictures), width, tallest + 2 * size)
    if columns < 1:
        raise ValueError(f"columns must be at least 1, found {columns}")
    rows = math.ceil(len(pictures) / columns)
    largest = max(columns * width, rows * (tallest + 2 * size))
    if largest > _MOST_SIDE:
        pictures = [_reduced(picture, _MOST_SIDE / largest) for picture in pictures]
        width, tallest, size = _measures(pictures)
    gap = max(8, min(width // 30, 2 * size))
    if len(titles) not in (0, min(columns, len(pictures)), len(pictures)):
        raise ValueError(
            f"found {len(titles)} titles for {len(pictures)} panels in {columns} columns; "
            "give one per panel, one per column, or none"
        )
    if len(row_labels) not in (0, rows):
        raise ValueError(f"found {len(row_labels)} row labels for {rows} rows; give one per row")

    headings = [Text(title, width, size) for title in titles]
    labels = [Text(label, max(90, width // 3), size) for label in row_labels]
    indent = max((label.width + gap for label in labels), default=0)
    tops, heights = [], []
    bottom = 0
    for row in range(rows):
        cells = slice(row * columns, (row + 1) * columns)
        above = max((text.height + gap // 2 for text in headings[cells]), default=0)
        beside = [label.height for label in labels[row : row + 1]]
        tops.append(bottom + gap + above)
        heights.append(max([picture.height for picture in pictures[cells]] + beside))
        bottom = tops[-1] + heights[-1]

    page = Image.new("RGB", (indent + columns * (width + gap) + gap, bottom + gap), "white")
    draw = ImageDraw.Draw(page)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        left, top = indent + gap + column * (width + gap), tops[row]
        spare = width - picture.width, heights[row] - picture.height
        page.paste(picture, (left + spare[0] // 2, top + spare[1] // 2))
        if index < len(headings):
            headings[index].draw(draw, left + width / 2, top - gap // 2, anchor="md")
    for row, label in enumerate(labels):
        label.draw(draw, gap, tops[row] + heights[row] / 2, anchor="lm")
    return page


def _measures(pictures: Sequence[Image.Image]) -> tuple[int, int, int]:
    """The width of a cell, the height of the tallest picture and the size of the type."""
    # In a narrower cell the type of the titles would be too small to read.
    width = max(180, *(picture.width for picture in pictures))
    tallest = max(picture.height for picture in pictures)
    return width, tallest, max(12, int(min(width / 18, math.sqrt(width * tallest) / 12)))


def _reduced(picture: Image.Image, share: float) -> Image.Image:
    """A picture made smaller, of which a few pixels remain along each side."""
    width, height = (
        min(side, max(_LEAST_SIDE, round(side * share))) for side in (picture.width, picture.height)
    )
    return picture.resize((width, height), Image.Resampling.BOX)


def _landscape(count: int, width: int, height: int) -> int:
    """The number of columns that brings `count` panels of this size nearest to 3:2."""

    def misfit(columns: int) -> float:
        return abs(math.log(columns * width / (math.ceil(count / columns) * height) / 1.5))

    return min(range(1, count + 1), key=misfit)
