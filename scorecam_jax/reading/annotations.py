"""Reading annotations and matching them to photographs."""

import posixpath
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from scorecam_jax.reading.annotation_files import coco, png, rows, voc, yolo
from scorecam_jax.reading.annotation_files.gather import Annotation as Annotation
from scorecam_jax.reading.annotation_files.gather import Box as Box
from scorecam_jax.reading.annotation_files.gather import Gathered, content
from scorecam_jax.reading.annotation_files.outlines import Outline as Outline
from scorecam_jax.reading.annotation_files.outlines import painted
from scorecam_jax.reading.labels import Category, Kind, class_index
from scorecam_jax.reading.notes import Note


def read_annotations(path: Path) -> tuple[dict[str, Annotation], list[Note]]:
    """Read a COCO file, a CSV file, or a file or folder of VOC's XML, YOLO's text or PNG masks.

    An invalid annotation, image, line or file in a folder is noted, and the rest is read. COCO's
    crowds (`iscrowd`) are skipped, because their boxes contain more than one object. YOLO's boxes
    are fractions of the photograph's size; `usable` converts them to pixels. Outlines come from
    COCO's `segmentation`, and from the nonzero pixels of PNG files named like their photographs.

    Returns:
        The annotations by photograph, and notes on those that cannot be used. A photograph is
        named by COCO's `file_name`, by the CSV column, or by the path of a VOC, YOLO or PNG file
        within its folder, without the suffix.

    Raises:
        ValueError: the file is in none of these formats, contains no usable annotation, is not a
            regular file, or is too large: over 1 GB of JSON or CSV, or 1 MB of XML or text.
        OSError: the file cannot be read.
    """
    gathered = _read_folder(path) if path.is_dir() else _read_file(path)
    if not gathered.found:
        why = "; ".join(f"{what}: {why}" for what, why in gathered.notes[:3])
        raise ValueError(
            f"{path} contains no usable annotation: {why or 'it names no photograph'}; "
            "wanted COCO's JSON, CSV, or a folder of Pascal VOC's XML, YOLO's text or PNG masks"
        )
    return gathered.found, gathered.notes


def match(
    names: Sequence[str],
    annotations: Mapping[str, Annotation],
    *,
    boxes: Path | str = "the annotations",
    folder: Path | None = None,
) -> tuple[dict[str, Annotation], list[Note]]:
    """Match annotations to photographs.

    An annotation is matched by the first of these that fits: the photograph's path in the folder,
    that path without its suffix, the file name, the file name without its suffix, the `filename`
    inside a VOC file. The last three must fit a single annotation and a single photograph.
    Backslashes count as slashes.

    Args:
        names: the paths of the photographs in their folder.
        annotations: the result of `read_annotations`.
        boxes: the source of the annotations, for notes.
        folder: the photographs' folder. None if they were named one by one: annotations of other
            photographs are then not noted.

    Returns:
        The annotations by photograph, and notes. The notes list photographs without boxes or
        classes, including those whose names are not unique, and annotations without a photograph.

    Raises:
        ValueError: there are annotations, and none belongs to any of the photographs.
    """
    keys = {_plain(key): key for key in annotations}
    plain = {name: _plain(name) for name in names}
    found: dict[str, str] = {}
    for name, path in plain.items():
        key = keys.get(path) or keys.get(posixpath.splitext(path)[0])
        if key is not None:
            found[name] = key
    own = {path: [key] for path, key in keys.items()}
    inside: dict[str, list[str]] = {}
    for key, annotation in annotations.items():
        if annotation.file:
            inside.setdefault(posixpath.basename(_plain(annotation.file)), []).append(key)
    unsure: dict[str, str] = {}
    for named, part in ((own, posixpath.basename), (own, _stem), (inside, posixpath.basename)):
        taken = set(found.values())
        files = {name: part(path) for name, path in plain.items()}
        sharing = Counter(files.values())
        for name, file in files.items():
            fitting = named.get(file, [])
            if name in found or not fitting or fitting[0] in taken:
                continue
            if len(fitting) == sharing[file] == 1:
                found[name] = fitting[0]
            else:
                several = "photographs" if sharing[file] > 1 else "annotations"
                why = f"several {several} are called {file}; use paths instead"
                unsure[name] = f"has no boxes, because {why}"
    if annotations and not found and not unsure:
        there = f" in {folder}" if folder else ""
        raise ValueError(
            f"{boxes} names none of the photographs{there}: it names {list(annotations)[:3]}, "
            f"and the photographs are {list(names)[:3]}; wanted paths within the folder"
        )
    known = {name: annotations[key] for name, key in found.items()}
    notes = [
        Note(name, unsure.get(name, "has no boxes"))
        for name in plain
        if annotations and name not in known
    ]
    notes += [
        Note(name, "has no boxes") for name, annotation in known.items() if not annotation.classes
    ]
    absent = len(annotations) - len(set(found.values()))
    if absent and folder:
        why = f"{absent} of its {len(annotations)} photographs are not in {folder}"
        notes.append(Note(str(boxes), why))
    return known, notes


def usable(
    annotation: Annotation | None, size: tuple[int, int], name: str
) -> tuple[list[Box], list[Kind], list[Note]]:
    """The boxes and classes of a photograph.

    Boxes that were drawn on a photograph of another size are dropped, with a note.

    Args:
        annotation: from `match`; None if there is none.
        size: the photograph's width and height, after it was turned upright.
        name: the photograph's name.

    Returns:
        The boxes in pixels; the class of each box, then the classes of the whole photograph; and
        notes.
    """
    if annotation is None:
        return [], [], []
    boxes = annotation.boxes
    classes = [_named(kind, annotation.names) for kind in annotation.classes]
    if annotation.size and annotation.size != size and boxes:
        drawn, own = (f"{width} x {height}" for width, height in (annotation.size, size))
        why = f"its boxes were drawn on {drawn} pixels, and its size is {own}"
        return [], classes[len(boxes) :], [Note(name, why)]
    if annotation.relative:
        across, down = size
        boxes = [(x * across, y * down, w * across, h * down) for x, y, w, h in boxes]
    return boxes, classes, []


def mask_of(
    annotation: Annotation, boxes: Sequence[Box], size: tuple[int, int], name: str
) -> tuple[Bool[np.ndarray, "rows columns"] | None, list[Note]]:
    """The mask of the objects in some of a photograph's boxes.

    Args:
        annotation: the photograph's annotation.
        boxes: the boxes to include, from `usable`.
        size: the photograph's width and height.
        name: the photograph's name.

    Returns:
        The mask, and a note on each outline that cannot be used. Where an outline is unknown, the
        mask has the whole box. It is None if no outline is usable.
    """
    known: dict[Box, list[Outline | None]] = {}
    for place, box in enumerate(annotation.boxes):
        known.setdefault(box, []).append(annotation.outlines.get(place))
    mask = np.zeros((size[1], size[0]), bool)
    notes: list[Note] = []
    found = False
    for box in dict.fromkeys(boxes):
        for outline in known.get(box, [None]):
            if outline is not None:
                try:
                    mask |= painted(outline, size)
                    found = True
                    continue
                except ValueError as error:
                    notes.append(Note(name, f"the outline in the box {box} is ignored: {error}"))
            x, y, width, height = box
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            mask |= painted(Outline([corners]), size)
    return (mask if found else None), notes


def annotated_class(
    boxes: Sequence[Box], classes: Sequence[Kind], labels: Sequence[str], name: str
) -> tuple[int | None, list[Box], list[Note]]:
    """The annotated class to explain, and its boxes.

    This is the class with the largest total box area. Without boxes, it is the photograph's first
    class that the model knows.

    Args:
        boxes: from `usable`.
        classes: from `usable`.
        labels: the name of each class of the model.
        name: the photograph's name.

    Returns:
        The class, or None if the model knows none of the annotated classes; the boxes of that
        class; and notes on classes that the model does not know, and on a missing class.
    """
    indices = [class_index(kind, labels) for kind in classes]
    unknown = dict.fromkeys(
        _shown(kind) for kind, index in zip(classes, indices, strict=True) if index is None
    )
    notes = [Note(name, why) for why in unknown]
    areas: dict[int, float] = {}
    for (_, _, width, height), index in zip(boxes, indices, strict=False):
        if index is not None:
            areas[index] = areas.get(index, 0) + width * height
    known = [index for index in indices if index is not None]
    if not known:
        return None, [], [*notes, Note(name, "has no annotated class to explain")]
    target = max(areas, key=lambda index: areas[index]) if areas else known[0]
    kept = [box for box, index in zip(boxes, indices, strict=False) if index == target]
    return target, kept, notes


def _read_folder(path: Path) -> Gathered:
    readers: dict[str, Callable[[list[tuple[Path, Path]]], Gathered]] = {
        ".xml": voc.read_voc,
        ".txt": lambda files: yolo.read_yolo(files, path),
        ".png": png.read_masks,
    }
    files = sorted(path.rglob("*"))
    for suffix, read in readers.items():
        found = [
            (file.relative_to(path), file)
            for file in files
            if file.suffix.lower() == suffix and file.name not in yolo.NAMES
        ]
        if found:
            return read(found)
    raise ValueError(
        f"there are no .xml, .txt or .png files in {path}; wanted Pascal VOC's or YOLO's "
        "annotations, or masks"
    )


def _read_file(path: Path) -> Gathered:
    suffix, alone = path.suffix.lower(), [(Path(path.name), path)]
    if suffix == ".xml":
        return voc.read_voc(alone)
    if suffix == ".png":
        return png.read_masks(alone)
    if suffix == ".txt":
        return yolo.read_yolo(alone, path.parent)
    read = rows.read_rows if suffix in (".csv", ".tsv") else coco.read_coco
    text = content(path, coco.LARGEST)
    try:
        return read(text, path.name)
    except coco.LayoutError as error:
        raise ValueError(f"{path} {error}") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(
            f"{path} is neither COCO's JSON nor CSV, nor a folder of VOC's XML or YOLO's text: "
            f"{error}"
        ) from error
    except MemoryError as error:
        raise ValueError(f"{path} is too large for this machine's memory") from error


def _plain(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]


def _named(kind: int | str | None, names: Mapping[int, str]) -> Kind:
    return Category(kind, names[kind]) if isinstance(kind, int) and kind in names else kind


def _shown(kind: Kind) -> str:
    if kind is None:
        return "a box has no class"
    if isinstance(kind, Category):
        return f"neither {kind.name[:60]!r} nor {kind.number} is a class of the model"
    return f"{kind!r:.60} is not a class of the model"
