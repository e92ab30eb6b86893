"""Annotations in COCO's JSON.

Source: https://cocodataset.org/#format-data, object detection.
"""

import json
import math
import reprlib
from collections import Counter
from typing import Any

from scorecam_jax.reading.annotation_files.gather import Class, Gathered
from scorecam_jax.reading.annotation_files.outlines import outline_of

LARGEST = 1_000_000_000
"""The maximum number of bytes read. COCO's own largest file has 470 MB."""

_TWICE = object()  # key that lists an object's duplicate keys; not a string, so it cannot clash


class LayoutError(ValueError):
    """The file is JSON, but does not have COCO's layout."""


def read_coco(text: bytes, name: str) -> Gathered:
    """Read the annotations in a COCO file called `name`.

    Crowds (`iscrowd`) are skipped, because their boxes contain more than one object.

    Raises:
        LayoutError: the file does not have COCO's layout.
        ValueError: the file is not JSON.
        RecursionError: the JSON is nested too deeply.
    """
    document = _parse(text)
    parts = ("images", "annotations") if isinstance(document, dict) else ()
    kinds = [type(document.get(part)) for part in parts]
    if kinds != [list, list]:
        listed = [f"{part}: {kind.__name__}" for part, kind in zip(parts, kinds, strict=True)]
        found = ", ".join(listed) or f"a {type(document).__name__}"
        raise LayoutError(
            "does not have COCO's layout, with lists of images (id, file_name) and annotations "
            f"(image_id, category_id, bbox): it has {found}"
        )
    gathered = Gathered()
    for key in document.get(_TWICE, []):
        gathered.note(name, f"has {key!r} twice; the last is used")
    categories = _categories(document.get("categories", []), name, gathered)
    photos = _photographs(document["images"], name, gathered)
    for number, entry in enumerate(document["annotations"]):
        what = f"{name}, annotation {_id(entry, number)}"
        if not _is_entry(entry, what, gathered) or entry.get("iscrowd"):
            continue
        image = entry.get("image_id")
        photo = photos.get(image) if _is_id(image) else None
        if photo is None:
            gathered.note(what, f"no image has the id {reprlib.repr(image)}")
            continue
        what = f"{photo}, annotation {_id(entry, number)}"
        kind = _kind(entry.get("category_id"))
        if kind is None:
            category = reprlib.repr(entry.get("category_id"))
            gathered.note(what, f"the category is {category}; wanted a number or a name")
            continue
        called = categories.get(kind)
        if called and isinstance(kind, int):
            gathered.found[photo].names[kind] = called
        elif called:
            kind = called
        try:
            outline = outline_of(entry.get("segmentation"), gathered.found[photo].size)
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            gathered.note(what, f"the segmentation is ignored: {error}")
            outline = None
        gathered.add(photo, entry.get("bbox"), kind, what, outline)
    return gathered


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise
    except ValueError:  # a number with more digits than Python converts
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole)


def _object(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        found[_TWICE] = [key for key, count in counts.items() if count > 1]
    return found


def _whole(digits: str) -> int | float:
    try:
        return int(digits)
    except ValueError:
        return -math.inf if digits.startswith("-") else math.inf


def _categories(entries: Any, name: str, gathered: Gathered) -> dict[Class, str]:
    found: dict[Class, str] = {}
    if not isinstance(entries, list):
        gathered.note(f"{name}, categories", f"are {reprlib.repr(entries)}; wanted a list")
        return found
    for number, entry in enumerate(entries):
        what = f"{name}, category {_id(entry, number)}"
        if not _is_entry(entry, what, gathered):
            continue
        kind, called = _kind(entry.get("id")), entry.get("name")
        if kind is None or not isinstance(called, str):
            shown = f"{reprlib.repr(entry.get('id'))} and {reprlib.repr(called)}"
            gathered.note(what, f"the id and the name are {shown}; wanted a number and a string")
        elif found.setdefault(kind, called) != called:
            gathered.note(what, f"the id is already used by {found[kind]!r}")
    return found


def _photographs(entries: list[Any], name: str, gathered: Gathered) -> dict[Any, str]:
    """The photographs' names by id."""
    photos: dict[Any, str] = {}
    for number, entry in enumerate(entries):
        what = f"{name}, image {_id(entry, number)}"
        if not _is_entry(entry, what, gathered):
            continue
        image, photo = entry.get("id"), entry.get("file_name")
        if not _is_id(image):
            gathered.note(what, f"the id is {reprlib.repr(image)}; wanted a number or a string")
        elif not isinstance(photo, str) or not photo:
            gathered.note(what, f"the file_name is {reprlib.repr(photo)}; wanted a string")
        elif image in photos:
            gathered.note(what, f"the id is already used by {photos[image]}")
        else:
            photos[image] = photo
            gathered.photograph(photo, (entry.get("width"), entry.get("height")), what)
    return photos


def _is_entry(entry: Any, what: str, gathered: Gathered) -> bool:
    if not isinstance(entry, dict):
        gathered.note(what, f"is {reprlib.repr(entry)}; wanted an object")
    elif _TWICE in entry:
        gathered.note(what, f"has {reprlib.repr(entry[_TWICE])[1:-1]} twice")
    else:
        return True
    return False


def _is_id(value: Any) -> bool:
    return isinstance(value, int | float | str)


def _kind(value: Any) -> Class:
    """A category's id, an integer or a string; None if it is neither."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    known = isinstance(value, int | str) and not isinstance(value, bool)
    return value if known and value != "" else None


def _id(entry: Any, number: int) -> str:
    found = entry.get("id") if isinstance(entry, dict) else None
    if isinstance(found, int):
        return str(found)
    return reprlib.repr(found) if _is_id(found) else f"number {number}"
