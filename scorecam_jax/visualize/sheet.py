"""Sheets: panels arranged in rows and columns, with titles."""

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from PIL import Image, ImageDraw

from scorecam_jax.visualize.pictures import Picture, as_picture
from scorecam_jax.visualize.text import Text

Legend: TypeAlias = Callable[[int, int], Image.Image]
"""(width, size of type) -> a picture no wider than that, such as a colour bar."""

# A size that viewers and formats support. A square sheet of this size takes about 1 GB of memory.
_MOST_SIDE = 15_000

_LEAST_SIDE = 10


# Type sizes of captions and notes, relative to that of titles.
_SMALL, _SMALLEST = 0.8, 0.6

# The largest fraction of empty cells.
_MOST_EMPTY = 0.2


def sheet(
    panels: Sequence[Picture | str],
    titles: Sequence[str] = (),
    *,
    columns: int | None = None,
    row_labels: Sequence[str] = (),
    captions: Sequence[str] = (),
    note: str = "",
    legend: Legend | None = None,
    size: int | None = None,
) -> Image.Image:
    """Arrange panels in rows and columns, with titles.

    Panels are resized only if they would take more than 15,000 pixels along a side. Then all are
    reduced by the same factor.

    Args:
        panels: pictures as in `overlay`, row by row, centred in their cells. A string is written in
            the middle of its cell.
        titles: one per panel, or one per column, written above the first row.
        columns: panels per row. None: the number that brings the sheet nearest to 3:2, among those
            that leave at most a fifth of the cells empty.
        row_labels: one per row, written to its left.
        captions: one per panel, written below it.
        note: small text below the panels.
        legend: a function of a width and a type size in pixels. It draws the picture between the
            panels and the note, such as a colour bar.
        size: size of the titles' type, in pixels. None: chosen by the panels' size.

    Returns:
        An RGB image. Long titles are wrapped, never cut.

    Raises:
        ValueError: there are no panels, or their number does not match the titles, labels or
            captions.

    >>> panel = Image.new("RGB", (300, 200))
    >>> sheet([panel, panel], ["before", "after"]).width > 600
    True
    """
    if all(isinstance(panel, str) for panel in panels):
        raise ValueError("a sheet needs at least one panel, found none")
    cells = [panel if isinstance(panel, str) else as_picture(panel) for panel in panels]
    width, tallest, usual = _measures(cells)
    size, asked = size or usual, size
    if columns is None:
        columns = _landscape(len(cells), width, tallest + 2 * size)
    if columns < 1:
        raise ValueError(f"columns must be at least 1, found {columns}")
    rows = math.ceil(len(cells) / columns)
    largest = max(columns * width, rows * (tallest + 2 * size))
    if largest > _MOST_SIDE:
        cells = [_reduced(cell, _MOST_SIDE / largest) for cell in cells]
        width, tallest, usual = _measures(cells)
        size = asked or usual
    gap = max(8, min(width // 30, 2 * size))
    if len(titles) not in (0, min(columns, len(cells)), len(cells)):
        raise ValueError(
            f"found {len(titles)} titles for {len(cells)} panels in {columns} columns; "
            "give one per panel, one per column, or none"
        )
    if len(row_labels) not in (0, rows):
        raise ValueError(f"found {len(row_labels)} row labels for {rows} rows; give one per row")
    if len(captions) not in (0, len(cells)):
        raise ValueError(f"found {len(captions)} captions for {len(cells)} panels; give one each")

    headings = [Text(title, width, size) for title in titles]
    below = [Text(caption, width, _type(size, _SMALL)) for caption in captions]
    labels = [Text(label, max(90, width // 3), size) for label in row_labels]
    indent = max((label.width + gap for label in labels), default=0)
    drawn = [Text(cell, width, size) if isinstance(cell, str) else cell for cell in cells]
    tops, heights = [], []
    bottom = 0
    for row in range(rows):
        here = slice(row * columns, (row + 1) * columns)
        above = max((text.height + gap // 2 for text in headings[here] if text.text), default=0)
        beside = [label.height for label in labels[row : row + 1]]
        tops.append(bottom + gap + above)
        heights.append(max([cell.height for cell in drawn[here]] + beside))
        under = max((text.height + gap // 2 for text in below[here] if text.text), default=0)
        bottom = tops[-1] + heights[-1] + under

    across = indent + columns * (width + gap) + gap
    small = _type(size, _SMALLEST)
    key = legend(min(across - 2 * gap, width), small) if legend else None
    remark = Text(note, across - 2 * gap, small) if note else None
    feet = [foot.height for foot in (key, remark) if foot]
    page = Image.new("RGB", (across, bottom + gap + sum(feet) + gap * len(feet)), "white")
    draw = ImageDraw.Draw(page)
    for index, cell in enumerate(drawn):
        row, column = divmod(index, columns)
        left, top = indent + gap + column * (width + gap), tops[row]
        middle = left + width / 2
        if isinstance(cell, Text):
            cell.draw(draw, middle, top + heights[row] / 2, anchor="mm")
        else:
            spare = width - cell.width, heights[row] - cell.height
            page.paste(cell, (left + spare[0] // 2, top + spare[1] // 2))
        if index < len(headings):
            headings[index].draw(draw, middle, top - gap // 2, anchor="md")
        if below:
            below[index].draw(draw, middle, top + heights[row] + gap // 2, anchor="ma")
    for row, label in enumerate(labels):
        label.draw(draw, gap, tops[row] + heights[row] / 2, anchor="lm")
    if key:
        page.paste(key, (indent + gap, bottom + gap))
        bottom += gap + key.height
    if remark:
        remark.draw(draw, indent + gap, bottom + gap, anchor="la")
    return page


def _type(size: int, share: float) -> int:
    """A smaller type size that is still readable."""
    return max(11, int(size * share))


def _measures(cells: Sequence[Image.Image | str]) -> tuple[int, int, int]:
    """The width of a cell, the height of the tallest picture and the size of the type."""
    pictures = [cell for cell in cells if not isinstance(cell, str)]
    # In a narrower cell, titles would be too small to read.
    width = max(180, *(picture.width for picture in pictures))
    tallest = max(picture.height for picture in pictures)
    return width, tallest, max(12, int(min(width / 18, math.sqrt(width * tallest) / 12)))


def _reduced(picture: Image.Image | str, share: float) -> Image.Image | str:
    """Reduce a picture, keeping at least a few pixels along each side."""
    if isinstance(picture, str):
        return picture
    width, height = (
        min(side, max(_LEAST_SIDE, round(side * share))) for side in (picture.width, picture.height)
    )
    return picture.resize((width, height), Image.Resampling.BOX)


def _landscape(count: int, width: int, height: int) -> int:
    """The number of columns that brings `count` panels of this size nearest to 3:2."""

    def misfit(columns: int) -> float:
        return abs(math.log(columns * width / (math.ceil(count / columns) * height) / 1.5))

    def empty(columns: int) -> float:
        return 1 - count / (columns * math.ceil(count / columns))

    full = [columns for columns in range(1, count + 1) if empty(columns) <= _MOST_EMPTY]
    return min(full, key=misfit)
