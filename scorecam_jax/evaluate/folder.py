"""Measuring methods on a folder of photographs."""

import contextlib
import functools
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from scorecam_jax.evaluate.annotations import Annotation, Note, read_annotations
from scorecam_jax.evaluate.classes import class_index
from scorecam_jax.evaluate.journal import Journal
from scorecam_jax.evaluate.lock import alone_in
from scorecam_jax.evaluate.measure import Batch, Evaluator, NotFiniteError, one_ahead
from scorecam_jax.evaluate.registry import (
    DEFAULT_METHODS,
    DEFAULT_METRICS,
    METRICS,
    Case,
    Method,
    Metric,
    named_methods,
    named_metrics,
)
from scorecam_jax.evaluate.results import ROW, Evaluation, summarize
from scorecam_jax.reading import as_rgb


def evaluate_folder(
    classifier: Any,
    folder: Path,
    *,
    boxes: Path | None = None,
    methods: Sequence[str] | Mapping[str, Method] = DEFAULT_METHODS,
    metrics: Sequence[str] | Mapping[str, Metric | Callable[[Case], Any]] | None = None,
    target: str = "predicted",
    output: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    keep: Callable[[str, str, str, Any], Any] | None = None,
) -> Evaluation:
    """Measure methods on a folder of photographs and its subfolders.

    With `output`, the figures of each photograph are in `rows.jsonl` there as soon as they are
    known. A later run with the same settings measures only what is missing: what an interruption
    left, photographs that are new or were changed, further methods and metrics. At the end
    `table.txt`, `table.csv`, `rows.csv` and `results.json` are written.

    Args:
        classifier: as from `models.load`.
        folder: the photographs.
        boxes: a COCO file, a VOC file, or a folder of VOC files named as the photographs are.
            COCO's `file_name` is the photograph's path in the folder.
        methods: as in `evaluate`.
        metrics: as in `evaluate`. None: `DEFAULT_METRICS`; without boxes, those that need none.
        target: "predicted": each photograph's best class, and the boxes of all its objects.
            "annotated": the annotated class that covers most, and the boxes of that class. COCO's
            `category_id` is taken for the class index, VOC's name for one of the class's names.
        output: a folder for the results.
        settings: what else the figures depend on, such as the name of the model.
        batch_size: masked inputs per pass, for methods and metrics alike.
        progress: called with the number of rows that are done, that of all, and what is measured
            next.
        keep: called with each photograph that is measured, the method, the SHA-256 of the file and
            the heatmap.

    Returns:
        An `Evaluation`. Its `left_out` alone tells what could not be read or used. A photograph for
        which memory does not suffice is left out, and the others are measured.

    Raises:
        ValueError: an option is unknown; there is nothing to measure; or `output` holds results
            for other settings, or is in use by another run.
        OSError: the folder cannot be read, or the output not written.
    """
    if target not in ("predicted", "annotated") or (target == "annotated" and boxes is None):
        raise ValueError(
            f"target is {target!r} and boxes {boxes}; wanted 'predicted', or 'annotated' and boxes"
        )
    if metrics is None:
        metrics = [name for name in DEFAULT_METRICS if boxes or not METRICS[name].boxes]
    chosen = named_metrics(metrics)
    boxed = [name for name, metric in chosen.items() if metric.boxes]
    if boxed and boxes is None:
        raise ValueError(f"{', '.join(boxed)} cannot be measured without boxes")
    evaluator = Evaluator(
        classifier.model,
        named_methods(methods),
        chosen,
        score=None,
        batch_size=batch_size,
        channel_axis=None,
    )
    notes: list[Note] = []
    photos = find_photos(folder, notes)
    annotations: dict[str, Annotation] = {}
    if boxes:
        annotations, broken = read_annotations(boxes)
        notes += broken
    known = {photo: _annotation(photo, annotations) for photo in photos}
    if boxes:
        notes += _unmatched(known, annotations, folder, boxes)
    width = max([len(found.boxes) for found in known.values() if found] or [0])
    load = functools.partial(_load, classifier, folder, target=target, width=width)

    with contextlib.ExitStack() as stack:
        journal = None
        if output:
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone_in(output))
            journal = Journal(
                output / "rows.jsonl",
                {
                    "folder": str(folder.resolve()),
                    "boxes": _annotations_digest(annotations) if boxes else None,
                    "target": target,
                    "preprocess": str(classifier.preprocess),
                    **(settings or {}),
                },
                valid=_is_row,
            )
        done = _Done(journal, folder, photos)
        unusable = _measure_missing(evaluator, photos, known, load, done, notes, progress, keep)
        names = [*ROW, *chosen]
        rows = [
            {name: done.row(photo, method)[name] for name in names}
            for photo in photos
            for method in evaluator.methods
            if photo not in unusable
        ]
        if not rows:
            raise ValueError(
                f"none of the {len(photos)} photographs in {folder} could be measured: "
                + "; ".join(f"{note.what}: {note.why}" for note in notes[:3])
            )
        remeasured = journal.damaged if journal else []
        found = summarize(rows, list(evaluator.methods), chosen, notes, remeasured)
        if output:
            found.write(output)
    return found


def find_photos(folder: Path, notes: list[Note] | None = None) -> list[str]:
    """The images in a folder and its subfolders, by suffix: their paths in it, sorted.

    Args:
        folder: where to look.
        notes: subfolders that cannot be read are noted here.

    Raises:
        ValueError: there are none.
    """
    suffixes = Image.registered_extensions()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")

    def note(error: OSError) -> None:
        if notes is not None:
            notes.append(Note(str(error.filename), f"cannot be read: {error.strerror}"))

    paths = [Path(at, name) for at, _, names in os.walk(folder, onerror=note) for name in names]
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in paths
        if path.suffix.lower() in suffixes and path.is_file()
    )
    if not found:
        raise ValueError(f"there are no photographs in {folder}")
    return found


class _Done:
    """The rows measured so far, each for a photograph with the content that it has now."""

    def __init__(self, journal: Journal | None, folder: Path, photos: Iterable[str]) -> None:
        self._journal = journal
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        records = journal.records if journal else []
        recorded = {row["image"] for row in records}
        digests = {photo: _file_digest(folder / photo) for photo in photos if photo in recorded}
        for row in records:
            if row["sha256"] == digests.get(row["image"]):
                self._add(row)

    def row(self, photo: str, method: str) -> dict[str, Any]:
        """What is known of a photograph and a method."""
        return self._rows.get((photo, method), {})

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, in the journal too."""
        self._add(row)
        if self._journal:
            self._journal.add(row)

    def _add(self, row: dict[str, Any]) -> None:
        pair = row["image"], row["method"]
        self._rows[pair] = self._rows.get(pair, {}) | row


def _is_row(record: Any) -> bool:
    """Whether a document from a journal is a row of figures."""
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(name), str) for name in ("image", "method", "sha256"))
        and isinstance(record.get("target"), int)
        and all(isinstance(record.get(name), int | float) for name in ("score", "seconds"))
        and _are_findings(record.get("findings", []))
        and all(
            isinstance(value, int | float | list | None)
            for name, value in record.items()
            if name not in (*ROW, "sha256")
        )
    )


def _are_findings(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(w, str) for w in pair)
        for pair in value
    )


class _Loaded(NamedTuple):
    """A photograph that was read: its batch, or None if it cannot be used, and its digest."""

    batch: Batch | None
    notes: list[Note]
    sha256: str = ""


def _measure_missing(
    evaluator: Evaluator,
    photos: Sequence[str],
    known: Mapping[str, Annotation | None],
    load: Callable[[str, Annotation | None], _Loaded],
    done: _Done,
    notes: list[Note],
    progress: Callable[[int, int, str], None] | None,
    keep: Callable[[str, str, str, Any], Any] | None,
) -> set[str]:
    """Measure what is not done yet; return the photographs that cannot be used."""

    def missing(photo: str, method: str) -> bool:
        return not set(evaluator.metrics) | set(ROW) <= set(done.row(photo, method))

    methods = list(evaluator.methods)
    waiting = [photo for photo in photos if any(missing(photo, name) for name in methods)]
    total = len(photos) * len(methods)
    count = total - len(waiting) * len(methods)
    unusable = set()
    with contextlib.closing(one_ahead(load(photo, known[photo]) for photo in waiting)) as loaded:
        for photo, found in zip(waiting, loaded, strict=True):
            notes += found.notes
            if found.batch is None:
                unusable.add(photo)
            for method in methods:
                if progress:
                    progress(count, total, f"{photo}: {method}")
                count += 1
                if found.batch is None or photo in unusable or not missing(photo, method):
                    continue
                maps: list[Any] = []
                try:
                    (row,) = evaluator.measure(method, found.batch, [photo], maps.extend)
                except (MemoryError, NotFiniteError, jax.errors.JaxRuntimeError) as error:
                    notes.append(Note(photo, _excuse(error, method)))
                    unusable.add(photo)
                else:
                    if keep:
                        keep(photo, method, found.sha256, maps[0])
                    done.add({**row, "sha256": found.sha256})
    return unusable


def _excuse(error: Exception, method: str) -> str:
    """Why a photograph is left out.

    Raises:
        Exception: the error itself, if it is not about one photograph.
    """
    if isinstance(error, NotFiniteError):
        return str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"{method} ran out of memory; a smaller batch size needs less"
    raise error


def _annotation(photo: str, annotations: Mapping[str, Annotation]) -> Annotation | None:
    return annotations.get(photo) or annotations.get(Path(photo).with_suffix("").as_posix())


def _unmatched(
    known: Mapping[str, Annotation | None],
    annotations: Mapping[str, Annotation],
    folder: Path,
    boxes: Path,
) -> list[Note]:
    """Notes on annotations without a photograph, and photographs without annotations."""
    matched = sum(found is not None for found in known.values())
    if not matched:
        raise ValueError(
            f"{boxes} names none of the photographs in {folder}: it names {list(annotations)[:3]}, "
            f"and there are {list(known)[:3]}; the names are paths in the folder"
        )
    notes = [Note(photo, "has no boxes") for photo, found in known.items() if not found]
    notes += [
        Note(photo, "has no boxes") for photo, found in known.items() if found and not found.boxes
    ]
    if len(annotations) > matched:
        absent = f"{len(annotations) - matched} of its {len(annotations)} photographs are not in"
        notes.append(Note(str(boxes), f"{absent} {folder}"))
    return notes


def _annotations_digest(annotations: Mapping[str, Annotation]) -> str:
    return hashlib.sha256(json.dumps(annotations, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _load(
    classifier: Any,
    folder: Path,
    photo: str,
    annotation: Annotation | None,
    *,
    target: str,
    width: int,
) -> _Loaded:
    """Read a photograph; its batch has `width` boxes, some of which may be empty."""
    try:
        content = (folder / photo).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            upright = as_rgb(image)
        inputs = classifier.preprocess(upright)[None]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return _Loaded(None, [Note(photo, f"cannot be read: {error}")])
    except MemoryError:
        return _Loaded(None, [Note(photo, "is too large for this machine's memory")])
    digest = hashlib.sha256(content).hexdigest()
    boxes, classes, notes = _usable(annotation, upright.size, photo)
    targets = None
    if target == "annotated":
        areas: dict[int, float] = {}
        indices = [class_index(kind, classifier.labels) for kind in classes]
        for box, index, kind in zip(boxes, indices, classes, strict=True):
            if index is None:
                notes.append(Note(photo, f"{kind!r} is not a class of the model"))
            else:
                areas[index] = areas.get(index, 0) + box[2] * box[3]
        if not areas:
            return _Loaded(None, [*notes, Note(photo, "has no annotated class to explain")])
        targets = max(areas, key=lambda index: areas[index])
        boxes = [box for box, index in zip(boxes, indices, strict=True) if index == targets]
    if not width:
        return _Loaded(Batch(inputs, targets), notes, digest)
    carried = np.zeros((1, width, 4), np.float32)
    if boxes:
        carried[0, : len(boxes)] = classifier.preprocess.boxes(np.array(boxes), upright.size)
        for box, (*_, across, down) in zip(boxes, carried[0], strict=False):
            if not (across > 0 and down > 0):
                notes.append(Note(photo, f"the network does not see the box {box}"))
    return _Loaded(Batch(inputs, targets, carried), notes, digest)


def _usable(
    annotation: Annotation | None, size: tuple[int, int], photo: str
) -> tuple[list[Any], list[Any], list[Note]]:
    """The boxes and classes of a photograph, if they were drawn on one of its size."""
    if annotation is None:
        return [], [], []
    if annotation.size and annotation.size != size:
        drawn, found = (f"{width} x {height}" for width, height in (annotation.size, size))
        why = f"its boxes were drawn on {drawn} pixels, and it has {found}"
        return [], [], [Note(photo, why)]
    return annotation.boxes, annotation.classes, []
