"""What `scorecam report` does: explain photographs, keep what is done, write the file."""

import argparse
import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scorecam_jax import diagnose, metrics, models
from scorecam_jax._internal.axes import channel_axis_of
from scorecam_jax.cli.choice import chosen, given
from scorecam_jax.cli.classes import find_class
from scorecam_jax.cli.errors import UserError, out_of_memory, say, translated
from scorecam_jax.cli.files import Source, check_output, open_photo, pages_of, save
from scorecam_jax.cli.loading import load
from scorecam_jax.cli.programs import compile_programs
from scorecam_jax.cli.progress import Progress
from scorecam_jax.engine.tuning import device_of
from scorecam_jax.evaluate import tables
from scorecam_jax.evaluate.folder import find_photos
from scorecam_jax.evaluate.journal import Journal
from scorecam_jax.reading.annotations import Annotation, read_annotations, usable
from scorecam_jax.reading.notes import Note
from scorecam_jax.visualize.grids import Grid, coarse, layer_sums, pack, unpack
from scorecam_jax.visualize.report import Photograph, cells_for, photograph, report

_BETTER = {"energy": " ↑", "pointing": " ↑", "box-iou": " ↑"}
_NO_METRICS = ("image", "method", "target", "score", "findings", "sha256")


def report_photos(options: argparse.Namespace) -> list[Note]:
    """Explain the photographs that the options name, and write the report.

    What is done is kept beside the report until all is done, so that an interrupted run continues.

    Returns:
        What was left out.

    Raises:
        UserError: the options do not fit together, or no photograph can be explained.
    """
    notes: list[Note] = []
    photos = _photos(options.photos, options.page, notes)
    output = options.output
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"a report is an HTML file; name {output.with_suffix('.html')} with -o")
    inputs = [*(photo.path for photo in photos), *filter(None, [options.weights, options.boxes])]
    check_output(output, photos[0].path, inputs, force=options.force)
    annotations = _annotations(options, notes)
    partial = output.with_name(f"{output.name}.partial")
    with Progress(len(photos), enabled=not options.quiet) as progress:
        progress.start("loading the model")
        classifier = load(options.model, options.weights, layer=options.layer)
        settings = _settings(options, classifier, annotations)
        try:
            journal = Journal(partial, settings, valid=_is_record)
        except (OSError, ValueError) as error:
            raise translated(error) from error
        try:
            shown = _explain_all(options, classifier, photos, annotations, journal, notes, progress)
        except KeyboardInterrupt as stop:
            stop.add_note(
                f"{len(journal.records)} of {len(photos)} photographs are kept in {partial}, and "
                "the same command continues from there"
            )
            raise
    if not shown:
        partial.unlink(missing_ok=True)
        why = "; ".join(f"{note.what}: {note.why}" for note in notes[:3])
        raise UserError(f"none of the {len(photos)} photographs could be explained: {why}")
    text = report(
        shown,
        columns=_columns(shown, options.methods),
        left_out=notes,
        manifest=_manifest(options, classifier, settings),
        command=options.command,
        colormap=options.colormap,
    )
    content = text.encode("utf-8", "backslashreplace")
    save(output, lambda file: file.write(content))
    partial.unlink(missing_ok=True)
    _tell(options, shown, notes, len(content))
    return notes


class MapJournal:
    """The heatmaps of an evaluation, kept beside its figures for its report."""

    def __init__(self, output: Path, methods: Sequence[str]) -> None:
        self._path = output / "maps.jsonl"
        self._cells = cells_for(len(methods), len(methods))
        self._journal: Journal | None = None

    def keep(self, photo: str, method: str, sha256: str, heatmap: Any) -> None:
        """Keep a heatmap."""
        grid = pack(coarse(heatmap, cells=self._cells), signed=bool(heatmap.min() < 0))
        self._open().add({"photo": photo, "method": method, "sha256": sha256, "grid": grid})

    def grids(self) -> dict[tuple[str, str, str], Grid]:
        """What is kept, by photograph, method and SHA-256 of the photograph's file."""
        return {
            (record["photo"], record["method"], record["sha256"]): Grid(*record["grid"])
            for record in self._open().records
        }

    def _open(self) -> Journal:
        # Not before the evaluation has made sure that the folder is its own.
        self._journal = self._journal or Journal(self._path, {}, valid=_is_map)
        return self._journal


def _is_map(record: Any) -> bool:
    try:
        unpack(Grid(*record["grid"]))
        return all(isinstance(record[name], str) for name in ("photo", "method", "sha256"))
    except (KeyError, TypeError, ValueError):
        return False


def report_evaluation(
    options: argparse.Namespace,
    classifier: Any,
    found: Any,
    journal: MapJournal,
    path: Path,
) -> None:
    """Write the report of an evaluation.

    Args:
        options: of `scorecam evaluate`, as parsed.
        classifier: what was evaluated.
        found: the `Evaluation`.
        journal: the heatmaps.
        path: the file to write.
    """
    notes = list(found.left_out)
    annotations = _annotations(options, [])
    kept = journal.grids()
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in found.rows:
        rows.setdefault(row["image"], {})[row["method"]] = row
    shown = []
    for name, by_method in rows.items():
        sha256 = _digest(options.folder / name)
        keys = {method: (name, method, sha256) for method in by_method}
        if not all(key in kept for key in keys.values()):
            notes.append(Note(name, "is not in report.html: it was measured before maps were kept"))
            continue
        grids = {method: kept[key] for method, key in keys.items()}
        picture = open_photo(options.folder / name)
        first = next(iter(by_method.values()))
        label = classifier.labels[first["target"]]
        # The maps are stored already: these stand in for them.
        blank = dict.fromkeys(by_method, np.zeros((1, *classifier.input_size)))
        one = photograph(
            name,
            picture,
            [(label, first["score"])],
            blank,
            boxes=_boxes(name, annotations, picture.size)[0],
            findings={
                method: [[tuple(pair) for pair in row["findings"]]]
                for method, row in by_method.items()
            },
            metrics={
                method: {name: row[name] for name in row if name not in _NO_METRICS}
                for method, row in by_method.items()
            },
            **_region(classifier, picture.size),
        )
        shown.append(one._replace(maps={method: [grid] for method, grid in grids.items()}))
    if not shown:
        return
    text = report(
        shown,
        columns=found.columns,
        left_out=notes,
        manifest=_manifest(options, classifier, _settings(options, classifier, annotations)),
        command=options.command,
    )
    save(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def _photos(paths: Sequence[Path], page: int | None, notes: list[Note]) -> list[Source]:
    """The files, and those in the folders."""
    found: dict[Path, str] = {}
    for path in paths:
        if not path.is_dir():
            found.setdefault(path, str(path))
            continue
        try:
            names = find_photos(path, notes)
        except ValueError as error:
            raise translated(error) from error
        for name in names:
            shown = name if len(paths) == 1 else (path / name).as_posix()
            found.setdefault(path / name, shown)
    return [one for path, name in found.items() for one in pages_of(path, page, name)]


def _annotations(options: argparse.Namespace, notes: list[Note]) -> dict[str, Annotation]:
    boxes = options.boxes
    if boxes is None:
        folders = getattr(options, "photos", None) or [options.folder]
        usual = [path / "annotations.json" for path in folders]
        boxes = next((path for path in usual if path.is_file()), None)
    if boxes is None:
        return {}
    try:
        annotations, broken = read_annotations(boxes)
    except (OSError, ValueError) as error:
        raise translated(error) from error
    notes += broken
    return annotations


def _settings(
    options: argparse.Namespace, classifier: Any, annotations: Mapping[str, Annotation]
) -> dict[str, Any]:
    """What a photograph's part of the report depends on besides its file."""
    drawn = json.dumps(annotations, sort_keys=True).encode()
    return {
        "model": options.model,
        "weights": _weights_digest(options),
        "layer": classifier.layer,
        "methods": options.methods,
        "target": options.target,
        "top": getattr(options, "top", None),
        "window": getattr(options, "window", None),
        "page": getattr(options, "page", None),
        "boxes": hashlib.sha256(drawn).hexdigest() if annotations else None,
        "preprocess": str(classifier.preprocess),
        **given(options),
    }


def _weights_digest(options: argparse.Namespace) -> str | None:
    weights = options.weights
    if weights is None:
        with contextlib.suppress(ImportError, LookupError, ValueError):
            weights = models.packaged_weights(options.model)
    return None if weights is None else _digest(weights)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_record(record: Any) -> bool:
    try:
        Photograph.from_json(record["photograph"])
        return isinstance(record["name"], str) and isinstance(record["sha256"], str)
    except (AttributeError, KeyError, TypeError):
        return False


def _explain_all(
    options: argparse.Namespace,
    classifier: Any,
    photos: Sequence[Source],
    annotations: Mapping[str, Annotation],
    journal: Journal,
    notes: list[Note],
    progress: Progress,
) -> list[Photograph]:
    """The photographs in order: those that the journal has, and the others explained now."""
    done = {(record["name"], record["sha256"]): record["photograph"] for record in journal.records}
    targets = [find_class(name, classifier.labels) for name in options.target]
    top = options.top or int(not targets)
    explain: Callable[..., Photograph] | None = None
    shown = []
    for photo in photos:
        progress.start(photo.name)
        try:
            told: list[str] = []
            picture = open_photo(photo.path, window=options.window, page=photo.page, notes=told)
            sha256 = _digest(photo.path)
            record = done.get((photo.name, sha256))
            if record is None:
                if explain is None:
                    progress.start("compiling")
                    explain = _compile(options, classifier, targets, top)
                    progress.start(photo.name)
                boxes, remarks = _boxes(photo.name, annotations, picture.size)
                remarks += [Note(photo.name, text) for text in told]
                record = explain(photo.name, picture, boxes)._asdict()
                journal.add({"name": photo.name, "sha256": sha256, "photograph": record})
                notes += remarks
            shown.append(Photograph.from_json(record))
        except UserError as problem:
            notes.append(Note(photo.name, str(problem)))
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not out_of_memory(error):
                raise
            notes.append(Note(photo.name, "out of memory; a smaller --batch-size needs less"))
        progress.advance()
    return shown


def _boxes(
    name: str, annotations: Mapping[str, Annotation], size: tuple[int, int]
) -> tuple[list[Any], list[Note]]:
    """The boxes of a photograph, if they were drawn on one of its size."""
    path = Path(name)
    keys = (name, path.with_suffix("").as_posix(), path.name, path.stem)
    found = next((annotations[key] for key in keys if key in annotations), None)
    if found is None or not found.boxes:
        return [], [Note(name, "has no boxes")] if annotations else []
    boxes, _, notes = usable(found, size, name)
    return boxes, notes


def _compile(
    options: argparse.Namespace, classifier: Any, targets: list[int], top: int
) -> Callable[..., Photograph]:
    """A function that explains a photograph, compiled once for all."""
    channel_axis = channel_axis_of(classifier.model)
    methods = {name: chosen(options, name, classifier) for name in options.methods}
    programs = compile_programs(classifier, methods, targets, top)

    def explain(name: str, picture: Any, boxes: list[Any]) -> Photograph:
        image = classifier.preprocess(picture)[None]
        probabilities, classes, live = map(np.asarray, programs.predict(classifier.model, image))
        if not np.isfinite(probabilities).all():
            raise UserError("the network's outputs are NaN or infinite on this photograph")
        # A class may be both asked for and among the likeliest.
        indices = list(dict.fromkeys(classes[0].tolist()))
        kept = [classes[0].tolist().index(index) for index in indices]
        labels = [(classifier.labels[index], float(probabilities[index])) for index in indices]
        heatmaps, sums, findings, measured = {}, {}, {}, {}
        for method, run in programs.methods.items():
            began = time.perf_counter()
            found = jax.block_until_ready(run(classifier.model, image, classes))
            seconds = time.perf_counter() - began
            heatmaps[method] = np.asarray(found.heatmap)[0, kept]
            at_layer = layer_sums(found, channel_axis)
            if at_layer is not None:
                sums[method] = at_layer[0, kept]
            said = dict.fromkeys(
                (finding.target, finding.kind, finding.text) for finding in diagnose(found)
            )
            findings[method] = [
                [(kind, text) for target, kind, text in said if target == index]
                for index in indices
            ]
            measured[method] = _measured(heatmaps[method][0], boxes, classifier, picture.size)
            measured[method] |= {
                "live channels": int(live),
                "seconds": round(seconds, 4),
            }
        return photograph(
            name,
            picture,
            labels,
            heatmaps,
            sums=sums,
            boxes=boxes,
            findings=findings,
            metrics=measured,
            **_region(classifier, picture.size),
        )

    return explain


def _region(classifier: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Which part of a photograph the network saw, and where that lies in its input."""
    left, top, right, bottom = seen = classifier.preprocess.box(size)
    whole = np.array([left, top, right - left, bottom - top])
    place = classifier.preprocess.boxes(whole, size)
    return {
        "seen": [round(float(edge), 3) for edge in seen],
        "place": [float(side) for side in place],
    }


def _measured(
    heatmap: np.ndarray, boxes: list[Any], classifier: Any, size: tuple[int, int]
) -> dict[str, Any]:
    """How well a heatmap lies on the boxes, in so far as the network saw them."""
    carried = classifier.preprocess.boxes(np.array(boxes).reshape(-1, 4), size)
    carried = carried[(carried[:, 2:] > 0).all(1)].astype(np.float32)[None]
    if not carried.size:
        return {}
    heatmaps, boxes_seen = jnp.asarray(heatmap)[None], jnp.asarray(carried)
    figures = {
        name: getattr(metrics, metrics.ENTRIES[name].function)(heatmaps, boxes_seen)[0]
        for name in ("energy", "pointing", "box-iou")
    }
    return {name: round(float(value), 5) for name, value in figures.items()}


def _columns(shown: Sequence[Photograph], methods: Sequence[str]) -> list[tables.Column]:
    names = list(
        dict.fromkeys(name for one in shown for values in one.metrics.values() for name in values)
    )

    def figure(name: str, method: str) -> tables.Figure:
        values = [one.metrics[method].get(name) for one in shown]
        return tables.figure(np.array([value for value in values if value is not None], float))

    digits = {"live channels": 0, "seconds": 2}
    return [
        tables.Column(
            name,
            name + _BETTER.get(name, ""),
            {method: figure(name, method) for method in methods},
            digits.get(name, 3),
        )
        for name in names
    ]


def _manifest(
    options: argparse.Namespace, classifier: Any, settings: Mapping[str, Any]
) -> dict[str, Any]:
    height, width = classifier.input_size
    listed = {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in settings.items()
        if value not in (None, [])
    }
    names = {"weights": "weights, SHA-256", "boxes": "boxes, SHA-256"}
    versions = {}
    for package in ("scorecam_jax", "jax"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        **{names.get(name, name): value for name, value in listed.items()},
        "input": f"{width} x {height} pixels",
        **versions,
        "Python": platform.python_version(),
        "device": device_of().device_kind,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _tell(
    options: argparse.Namespace, shown: Sequence[Photograph], notes: Sequence[Note], size: int
) -> None:
    if not options.json:
        many = f"{len(shown)} photograph{'s' * (len(shown) != 1)}"
        say(f"wrote {options.output}: {many}, {size / 1e6:.1f} MB")
        return
    document = {
        "output": str(options.output),
        "photos": [
            {
                "photo": one.name,
                "targets": [
                    {"name": name, "probability": probability} for name, probability in one.classes
                ],
                "metrics": one.metrics,
                "findings": one.findings,
            }
            for one in shown
        ],
        "left_out": [note._asdict() for note in notes],
    }
    say(json.dumps(document, indent=2))
