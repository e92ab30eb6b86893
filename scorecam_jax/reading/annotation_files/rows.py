"""Annotations in CSV: one row per object, or per photograph with its class."""

import csv
from collections.abc import Sequence

from scorecam_jax.reading.annotation_files.gather import Gathered, decoded, number

LARGEST = 1_000_000_000
"""The maximum number of bytes read."""

_FILE = ("image", "file", "filename", "file_name", "image_id")
_CLASS = ("class", "label")
_CORNER = ("x", "y", "width", "height")
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_rows(text: bytes, name: str) -> Gathered:
    """Read the annotations in a CSV file called `name`.

    The first row names the columns: image, file or filename; x, y, width and height, or xmin, ymin,
    xmax and ymax; class or label. With xmin, ymin, xmax and ymax (edges in pixels from the corner),
    the columns width and height are the photograph's. The box or the class may be missing. Other
    columns are ignored. A row with an empty box gives the class of the whole photograph. Fields are
    separated by commas, semicolons or tabs.

    Raises:
        ValueError: the first row does not name these columns.
    """
    lines = decoded(text).splitlines()
    head = next((line for line in lines if line.strip()), "")
    separator = max(",;\t", key=head.count)
    columns = [column.strip().lower() for column in _fields(head, separator)]
    twice = {column for column in columns if column and columns.count(column) > 1}
    file = next((column for column in _FILE if column in columns), None)
    kind = next((column for column in _CLASS if column in columns), None)
    layout = next((sides for sides in (_EDGES, _CORNER) if {*sides} <= {*columns}), ())
    if file is None or not (layout or kind) or twice & {file, kind, *layout}:
        raise ValueError(
            f"its first row is {head[:100]!r}; wanted the columns image, file or filename, each "
            "once, and x, y, width, height or xmin, ymin, xmax, ymax, or class or label"
        )
    gathered = Gathered()
    for count, line in enumerate(lines, 1):
        if line is head or not line.strip():
            continue
        what = f"{name}, line {count}"
        try:
            row = dict(zip(columns, _fields(line, separator), strict=True))
        except ValueError as error:
            gathered.note(what, f"is {line[:60]!r}: {error}")
            continue
        photo, called = row[file].strip(), row[kind].strip() or None if kind else None
        given = [row[side].strip() for side in layout]
        if not photo or not (any(given) or called):
            gathered.note(what, f"is {line[:60]!r}; wanted a photograph, and a box or a class")
            continue
        size = (row.get("width"), row.get("height")) if layout == _EDGES else (None, None)
        gathered.photograph(photo, size, what)
        if any(given):
            gathered.add(photo, _box(given, layout), called, what)
        else:
            gathered.found[photo].classes.append(called)
    return gathered


def _box(given: Sequence[str], layout: Sequence[str]) -> list[float]:
    left, top, right, bottom = map(number, given)
    return (
        [left, top, right, bottom] if layout == _CORNER else [left, top, right - left, bottom - top]
    )


def _fields(line: str, separator: str) -> list[str]:
    """Split one line into fields. An unclosed quote spoils only its own line.

    Raises:
        ValueError: the line has an unclosed quote.
    """
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from error
