"""Code shared by the readers of all annotation formats."""

import math
import reprlib
from pathlib import Path
from typing import Any, NamedTuple

from scorecam_jax.reading.annotation_files.outlines import Outline
from scorecam_jax.reading.notes import Note

Box = tuple[int | float, int | float, int | float, int | float]
Class = int | str | None

# No photograph is larger, and float32 cannot represent larger integers exactly.
_FARTHEST = 1e9


class Annotation(NamedTuple):
    """The objects in one photograph.

    Attributes:
        boxes: (x, y, width, height) of each object, in pixels from the top left corner.
        classes: the class of each box, in the order of the boxes: an index (COCO's `category_id`),
            a name (VOC's), or None if none is given. The classes of the whole photograph follow.
        size: width and height of the photograph that the boxes were drawn on, if known.
        names: the file's names for the classes in `classes` that are indices.
        relative: whether the boxes are fractions of the photograph's width and height.
        file: the photograph's file name given inside a VOC file.
        outlines: the known outlines, keyed by the index of their box in `boxes`.
    """

    boxes: list[Box]
    classes: list[Class]
    size: tuple[int, int] | None = None
    names: dict[int, str] = {}  # noqa: RUF012
    relative: bool = False
    file: str | None = None
    outlines: dict[int, Outline] = {}  # noqa: RUF012


class Gathered:
    """The annotations of one source, and notes on those that cannot be used.

    Attributes:
        found: the annotations by photograph.
        notes: each unusable item, and why.
    """

    def __init__(self) -> None:
        self.found: dict[str, Annotation] = {}
        self.notes: list[Note] = []

    def note(self, what: str, why: str) -> None:
        """Note that something cannot be used, and why."""
        self.notes.append(Note(what, why))

    def photograph(self, name: str, size: tuple[Any, Any], what: str) -> None:
        """Add a photograph, or the size of a photograph that was added before.

        Args:
            name: the photograph's name.
            size: its width and height as written in the file; zeros or None if missing.
            what: the place in the file, for notes.
        """
        known = self.found.get(name)
        drawn = self._size(size, what)
        if known is None:
            self.found[name] = Annotation([], [], drawn, {}, outlines={})
        elif drawn and known.size and drawn != known.size:
            sizes = [f"{width} x {height}" for width, height in (drawn, known.size)]
            self.note(what, f"the size is {sizes[0]} here and {sizes[1]} before; the first is used")
        elif drawn:
            self.found[name] = known._replace(size=drawn)

    def add(
        self, name: str, box: Any, kind: Class, what: str, outline: Outline | None = None
    ) -> None:
        """Add an object to a photograph, or a note if its box is invalid."""
        annotation = self.found[name]
        try:
            if not isinstance(box, list | tuple):
                raise TypeError
            x, y, width, height = map(float, box)
        except (OverflowError, TypeError, ValueError):
            self.note(what, f"the box is {reprlib.repr(box)}; wanted (x, y, width, height)")
            return
        across, down = (1, 1) if annotation.relative else annotation.size or (math.inf, math.inf)
        if not all(map(math.isfinite, (x, y, width, height))):
            self.note(what, f"the box {box} is not finite")
        elif max(map(abs, (x, y, width, height))) > _FARTHEST:
            self.note(what, f"the box {box} is larger than any photograph")
        elif width <= 0 or height <= 0:
            self.note(what, f"the box {box} has no area")
        elif x >= across or y >= down or x + width <= 0 or y + height <= 0:
            photograph = "photograph" if annotation.relative else f"photograph of {across} x {down}"
            self.note(what, f"the box {box} lies outside the {photograph}")
        else:
            annotation.classes.insert(len(annotation.boxes), kind)
            if outline is not None:
                annotation.outlines[len(annotation.boxes)] = outline
            annotation.boxes.append((x, y, width, height))

    def _size(self, size: tuple[Any, Any], what: str) -> tuple[int, int] | None:
        if all(side in (None, "", 0) for side in size):
            return None
        try:
            width, height = (round(float(side)) for side in size)
        except (OverflowError, TypeError, ValueError):
            width = height = -1
        if 0 < width <= _FARTHEST and 0 < height <= _FARTHEST:
            return width, height
        shown = " x ".join(map(reprlib.repr, size))
        self.note(what, f"the size is {shown} and is ignored; wanted width and height in pixels")
        return None


def content(path: Path, most: int) -> bytes:
    """The content of a file.

    Pipes and devices are never opened: reading one may block or never end.

    Raises:
        ValueError: the file is not a regular file, or has more than `most` bytes.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    if size <= most:
        with path.open("rb") as file:
            found = file.read(most + 1)
        if len(found) <= most:
            return found
    raise ValueError(f"{path} is larger than {most / 1e6:.0f} MB, the largest file that is read")


def decoded(text: bytes) -> str:
    """Decode UTF-8, or UTF-16 if the text begins with its byte order mark.

    Raises:
        UnicodeDecodeError: the text is in neither encoding.
    """
    wide = text.startswith((b"\xff\xfe", b"\xfe\xff"))
    return text.decode("utf-16" if wide else "utf-8-sig")


def number(text: Any) -> float:
    """Parse a number; NaN if the text is not one."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan
