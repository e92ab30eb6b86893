"""Annotations of photographs: COCO's JSON and Pascal VOC's XML."""

import json
import math
import xml.etree.ElementTree
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from scorecam_jax.reading.notes import Note

Box = tuple[float, float, float, float]


class Annotation(NamedTuple):
    """The objects in one photograph.

    Attributes:
        boxes: (x, y, width, height) of each, in pixels from the top left corner.
        classes: of each, an index (COCO's `category_id`) or a name (VOC's).
        size: width and height of the photograph the boxes were drawn on, if it is known.
    """

    boxes: list[Box]
    classes: list[int | str]
    size: tuple[int, int] | None


def read_annotations(path: Path) -> tuple[dict[str, Annotation], list[Note]]:
    """Read a COCO file, a VOC file, or a folder of VOC files.

    Crowds (COCO's `iscrowd`) are skipped, since their boxes hold no single object.

    Returns:
        The annotations by photograph, and notes on the boxes that cannot be used. A photograph is
        named by COCO's `file_name`, or by the path of a VOC file in its folder without its suffix.

    Raises:
        ValueError: the file is in neither format.
        OSError: the file cannot be read.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.xml"))
        if not files:
            raise ValueError(f"no .xml files in {path}; wanted Pascal VOC annotations")
        return _read_voc((file.relative_to(path), file) for file in files)
    if path.suffix.lower() == ".xml":
        return _read_voc([(Path(path.name), path)])
    try:
        return _read_coco(json.loads(path.read_text("utf-8")), path.name)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is neither COCO's JSON nor a folder of VOC's XML: {error}"
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not laid out as COCO's annotations are, with images (id, file_name) and "
            f"annotations (image_id, category_id, bbox): {type(error).__name__} {error}"
        ) from error


def _read_coco(content: Any, name: str) -> tuple[dict[str, Annotation], list[Note]]:
    images = {image["id"]: image for image in content["images"]}
    found: dict[str, Annotation] = {}
    notes: list[Note] = []
    for image in images.values():
        size = (image["width"], image["height"]) if {"width", "height"} <= set(image) else None
        found[image["file_name"]] = Annotation([], [], size)
    for number, entry in enumerate(content["annotations"]):
        what = f"{name}, annotation {entry.get('id', f'number {number}')}"
        if entry.get("iscrowd"):
            continue
        if entry["image_id"] not in images:
            notes.append(Note(what, f"no image has the id {entry['image_id']}"))
            continue
        image = images[entry["image_id"]]
        what = f"{image['file_name']}, annotation {entry.get('id', f'number {number}')}"
        _add(found[image["file_name"]], entry.get("bbox"), entry["category_id"], what, notes)
    return found, notes


def _read_voc(files: Iterable[tuple[Path, Path]]) -> tuple[dict[str, Annotation], list[Note]]:
    found: dict[str, Annotation] = {}
    notes: list[Note] = []
    for relative, file in files:
        try:
            root = xml.etree.ElementTree.parse(file).getroot()
        except (OSError, xml.etree.ElementTree.ParseError) as error:
            notes.append(Note(str(relative), f"cannot be read: {error}"))
            continue
        width, height = (_number(root.findtext(f"size/{side}")) for side in ("width", "height"))
        size = (round(width), round(height)) if width > 0 and height > 0 else None
        annotation = found[relative.with_suffix("").as_posix()] = Annotation([], [], size)
        for number, item in enumerate(root.iter("object")):
            left, top, right, bottom = (
                _number(item.findtext(f"bndbox/{edge}"))
                for edge in ("xmin", "ymin", "xmax", "ymax")
            )
            # VOC counts pixels from 1 and includes the last.
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
            _add(annotation, box, item.findtext("name", ""), f"{relative}, object {number}", notes)
    return found, notes


def _add(annotation: Annotation, box: Any, kind: int | str, what: str, notes: list[Note]) -> None:
    """Add an object, or a note if its box is broken."""
    try:
        x, y, width, height = map(float, box)
    except (TypeError, ValueError):
        notes.append(Note(what, f"the box is {box}, wanted (x, y, width, height)"))
        return
    across, down = annotation.size or (math.inf, math.inf)
    if not all(map(math.isfinite, (x, y, width, height))):
        notes.append(Note(what, f"the box {box} is not finite"))
    elif width <= 0 or height <= 0:
        notes.append(Note(what, f"the box {box} has no area"))
    elif x >= across or y >= down or x + width <= 0 or y + height <= 0:
        notes.append(Note(what, f"the box {box} lies outside the photograph of {across} x {down}"))
    else:
        annotation.boxes.append((x, y, width, height))
        annotation.classes.append(kind)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
