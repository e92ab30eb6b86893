"""Measuring methods on many images: every metric of every method on each, and tables of means."""

import concurrent.futures
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from PIL import Image

from scorecam_jax import metrics
from scorecam_jax._internal.checks import check_classes, check_inputs, check_targets
from scorecam_jax._internal.trees import join_arrays, split_arrays
from scorecam_jax.engine.options import Masking
from scorecam_jax.evaluate import tables
from scorecam_jax.evaluate.annotations import Annotation, Note, read_annotations
from scorecam_jax.evaluate.journal import Journal
from scorecam_jax.methods import METHODS as _METHODS
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.models.preprocess import as_rgb
from scorecam_jax.steps.outputs import class_scores, select

Method = Callable[..., Any]
Item = TypeVar("Item")


class Batch(NamedTuple):
    """Some images to measure on. A plain tuple in this order does as well.

    Attributes:
        inputs: (B, *spatial, C), preprocessed.
        targets: None (each image's best class), an int or (B,).
        boxes: None, or (B, N, 4), (x, y, width, height) in pixels of the inputs; zeros where an
            image has fewer than N.
        names: of the images; None numbers them.
    """

    inputs: Any
    targets: Any = None
    boxes: Any = None
    names: Sequence[str] | None = None


class Case(NamedTuple):
    """What a metric is given: a batch and one method's heatmaps of it.

    Attributes:
        model: the model.
        inputs: (B, *spatial, C).
        heatmaps: (B, *spatial).
        targets: (B,).
        boxes: (B, N, 2n), or None.
        explain: (inputs, targets) -> heatmaps: the method itself.
        scoring: keywords of the metrics that put masked inputs to the model.
    """

    model: Callable[..., Any]
    inputs: Float[Array, "batch ..."]
    heatmaps: Float[Array, "batch *spatial"]
    targets: Int[Array, " batch"]
    boxes: Float[Array, "batch boxes sides"] | None
    explain: Callable[..., Any]
    scoring: Masking


class Metric(NamedTuple):
    """A column of the table.

    Attributes:
        measure: case -> (B,), or (B, n) if one number does not tell.
        better: "more", "less", or "" if neither is.
        boxes: whether it needs boxes.
        settle: (images, ...) -> (images,): what `measure` gave for all images of a method to the
            values that are averaged.
        digits: how many are shown after the point.
    """

    measure: Callable[[Case], Any]
    better: str = ""
    boxes: bool = False
    settle: Callable[[Any], Any] = np.asarray
    digits: int = 3


def _on_model(metric: Callable[..., Any], *, drawn: bool = False, **options: Any) -> Any:
    def measure(case: Case) -> Any:
        # One seed for all: methods are compared under the same draws.
        key = {"key": jax.random.key(0)} if drawn else {}
        asked = (case.model, case.inputs, case.heatmaps, case.targets)
        return metric(*asked, **options, **key, **case.scoring)

    return measure


def _adcc(case: Case) -> Any:
    asked = (case.model, case.inputs, case.heatmaps, case.targets)
    return metrics.adcc(*asked, explain=case.explain, **case.scoring)


METHODS: dict[str, Method] = {
    "score-cam": score_cam,
    "score-cam-128": functools.partial(score_cam, channels=128),
    **_METHODS,
}
"""The methods that have a name, and shortcuts. "uniform" and "center" look at nothing."""

DEFAULT_METHODS = ("score-cam", "score-cam-128", "grad-cam", "grad-cam++", "uniform", "center")

METRICS: dict[str, Metric] = {
    "average-drop": Metric(_on_model(metrics.average_drop, mute=0.5), "less", digits=1),
    "average-increase": Metric(_on_model(metrics.average_increase, mute=0.5), "more", digits=1),
    "average-gain": Metric(_on_model(metrics.average_gain, mute=0.5), "more", digits=1),
    "insertion": Metric(_on_model(metrics.insertion, drawn=True), "more"),
    "deletion": Metric(_on_model(metrics.deletion, drawn=True), "less"),
    "adcc": Metric(_adcc, "more"),
    "road": Metric(_on_model(metrics.road, drawn=True), "more"),
    "energy": Metric(
        lambda case: metrics.energy_pointing_game(case.heatmaps, case.boxes), "more", boxes=True
    ),
    "pointing": Metric(
        lambda case: metrics.pointing_game(case.heatmaps, case.boxes, 15.0), "more", boxes=True
    ),
    "box-acc": Metric(
        lambda case: metrics.box_ious(case.heatmaps, case.boxes),
        "more", boxes=True, settle=metrics.max_box_acc,
    ),
}  # fmt: skip
"""The metrics that have a name.

Drop, increase and gain mute each heatmap's lowest half, and insertion and deletion change 1 % of
the pixels a step, as in Score-CAM's paper; pixels of one value are taken in random order. Pointing
has a tolerance of 15 pixels; box-acc is `max_box_acc`, at an IoU of 0.5.
"""

DEFAULT_METRICS = (
    "average-drop", "average-increase", "average-gain", "insertion", "deletion",
    "energy", "pointing", "box-acc",
)  # fmt: skip
"""The metrics measured unless others are named; those with boxes if there are boxes."""


class Evaluation(NamedTuple):
    """What came of it.

    Attributes:
        rows: one for each image and method: image, method, target, score (the target's, unmasked),
            seconds (one image's share of the batch's, compilation apart) and the metrics' values;
            None where there is no value, as without boxes.
        columns: the metrics' means over images, with their intervals, by method.
        left_out: what could not be used.
    """

    rows: list[dict[str, Any]]
    columns: list[tables.Column]
    left_out: list[Note]

    @property
    def methods(self) -> list[str]:
        """The methods, in the order asked for."""
        return list(dict.fromkeys(row["method"] for row in self.rows))

    def as_text(self, width: int = 100) -> str:
        """The table, methods in rows and metrics in columns: mean [95 % interval]."""
        return tables.as_text(self.methods, self.columns, width)

    def as_records(self) -> list[dict[str, Any]]:
        """The table as one flat record a method."""
        return [
            {"method": method}
            | {
                f"{column.name}{'' if part == 'mean' else f'_{part}'}": (
                    value if math.isfinite(value) else None
                )
                for column in self.columns
                for part, value in column.figures[method]._asdict().items()
            }
            for method in self.methods
        ]


def evaluate(
    model: Callable[..., Any],
    batches: Iterable[Any],
    methods: Sequence[str] | Mapping[str, Method] = DEFAULT_METHODS,
    metrics: Sequence[str] | Mapping[str, Metric | Callable[[Case], Any]] = DEFAULT_METRICS,
    *,
    score: Callable[..., Any] = jax.nn.softmax,
    batch_size: int | None = None,
    channel_axis: int = -1,
) -> Evaluation:
    """Measure methods on your images.

    Args:
        model: as in `score_cam`.
        batches: of `Batch`, or of tuples like it; drawn from in a thread, one ahead. Batches of
            one shape are compiled for once.
        methods: names from `METHODS`, or functions called as `score_cam` is, by name.
        metrics: names from `METRICS`, or `Metric`s or functions of a `Case`, by name.
        score: outputs -> (N, classes), in [0, 1]: for the predictions and the metrics. Methods
            keep their own, which `functools.partial` sets.
        batch_size: masked inputs per pass in the metrics.
        channel_axis: of the inputs.

    Raises:
        ValueError: a name is unknown, or targets or boxes do not fit the inputs.

    >>> kernel = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> def model(x):
    ...     activations = jax.nn.relu(x @ kernel)
    ...     return 9 * activations.mean(1), activations
    >>> loader = [(jnp.array([[[1.0, 0.0], [0.0, 0.2]]]), 0, jnp.array([[[0.0, 1.0]]]))]
    >>> found = evaluate(model, loader, ["score-cam", "uniform"], ["energy"])
    >>> [(row["method"], row["energy"]) for row in found.rows]
    [('score-cam', 1.0), ('uniform', 0.5)]
    """
    chosen = _metrics(metrics)
    bench = _Bench(model, _methods(methods), chosen, score, batch_size, channel_axis)
    rows: list[dict[str, Any]] = []
    for batch in _one_ahead(batches):
        batch = Batch(*batch)
        names = batch.names
        if names is None:
            first = len(rows) // max(len(bench.methods), 1)
            names = [str(first + place) for place in range(len(batch.inputs))]
        for method in bench.methods:
            rows.extend(bench.measure(method, batch, names))
    return _evaluation(rows, list(bench.methods), chosen, [])


_ROW = ("image", "method", "target", "score", "seconds")


class _Bench:
    """Methods and metrics, ready to measure."""

    def __init__(
        self,
        model: Callable[..., Any],
        methods: Mapping[str, Method],
        metrics: Mapping[str, Metric],
        score: Callable[..., Any],
        batch_size: int | None,
        channel_axis: int,
    ) -> None:
        self.methods, self.metrics = methods, metrics
        self._model = model
        self._channel_axis = channel_axis
        self._scoring = Masking(score=score, batch_size=batch_size, channel_axis=channel_axis)
        self._arrays, static = split_arrays(model)

        def predict(arrays: Any, inputs: Array) -> Array:
            return class_scores(score, join_arrays(arrays, static)(inputs)[0], len(inputs))

        def explain(arrays: Any, inputs: Array, targets: Array, *, method: Method) -> Array:
            model = join_arrays(arrays, static)
            return method(model, inputs, targets, channel_axis=channel_axis).heatmap

        self._predict = jax.jit(predict)
        self._explain = {
            name: jax.jit(functools.partial(explain, method=method))
            for name, method in methods.items()
        }
        self._compiled: dict[Any, Any] = {}

    def measure(self, method: str, batch: Batch, names: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of a batch for one method."""
        inputs = check_inputs(batch.inputs, self._channel_axis)
        scores = self._predict(self._arrays, inputs)
        targets, one_each = check_targets(batch.targets, len(inputs))
        if targets is None:
            targets = scores.argmax(1)[:, None]
        if not one_each or len(names) != len(inputs):
            raise ValueError(
                f"a batch of {len(inputs)} images has {len(names)} names and targets of shape "
                f"{targets.shape}, wanted one of each an image"
            )
        check_classes(targets, scores.shape[1])
        targets, scores = targets[:, 0], select(scores, targets)[:, 0]
        explain = self._timed(method, inputs, targets)
        began = time.perf_counter()
        heatmaps = jax.block_until_ready(explain(inputs, targets))
        seconds = (time.perf_counter() - began) / len(inputs)

        boxes = None if batch.boxes is None else jnp.asarray(batch.boxes, heatmaps.dtype)
        case = Case(self._model, inputs, heatmaps, targets, boxes, explain, self._scoring)
        boxed = np.zeros(len(inputs), bool)
        if boxes is not None:
            boxed = np.asarray((boxes[..., boxes.shape[-1] // 2 :] > 0).all(-1).any(-1))
        rows = [
            dict(zip(_ROW, (name, method, int(target), float(score), seconds), strict=True))
            for name, target, score in zip(names, targets, scores, strict=True)
        ]
        for name, metric in self.metrics.items():
            if metric.boxes and not boxed.any():
                values = np.full(len(rows), np.nan)
            else:
                values = np.asarray(metric.measure(case))
            if values.shape[:1] != (len(rows),):
                raise ValueError(
                    f"metric {name!r} gave shape {values.shape}, wanted one value for each of the "
                    f"{len(rows)} images: ({len(rows)},)"
                )
            for row, value, has_boxes in zip(rows, values, boxed, strict=True):
                usable = np.isfinite(value).all() and (has_boxes or not metric.boxes)
                row[name] = value.tolist() if usable else None
        return rows

    def _timed(self, method: str, inputs: Array, targets: Array) -> Callable[..., Any]:
        """The method, compiled already, so that its time can be told."""
        kind = method, inputs.shape, inputs.dtype
        if kind not in self._compiled:
            lowered = self._explain[method].lower(self._arrays, inputs, targets)
            self._compiled[kind] = functools.partial(lowered.compile(), self._arrays)
        return self._compiled[kind]


def _methods(asked: Sequence[str] | Mapping[str, Method]) -> dict[str, Method]:
    return _named(asked, METHODS, "method")


def _metrics(asked: Sequence[str] | Mapping[str, Any]) -> dict[str, Metric]:
    found = _named(asked, METRICS, "metric")
    return {
        name: metric if isinstance(metric, Metric) else Metric(metric)
        for name, metric in found.items()
    }


def _named(asked: Any, known: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if isinstance(asked, Mapping):
        return dict(asked)
    if isinstance(asked, str):
        raise ValueError(f"{kind}s are {asked!r}, wanted a list of names")
    for name in asked:
        if name not in known:
            raise ValueError(
                f"no {kind} is called {name!r}; wanted names among {', '.join(known)}, or a "
                "mapping of names to your own"
            )
    return {name: known[name] for name in asked}


def _evaluation(
    rows: list[dict[str, Any]],
    methods: Sequence[str],
    chosen: Mapping[str, Metric],
    left_out: list[Note],
) -> Evaluation:
    rows = [dict(row) for row in rows]

    def figures(name: str, settle: Callable[[Any], Any]) -> dict[str, tables.Figure]:
        found = {}
        for method in methods:
            valid = [row for row in rows if row["method"] == method and row[name] is not None]
            values = np.array([row[name] for row in valid], np.float32)
            settled = np.asarray(settle(values) if valid else values, float)
            for row, value in zip(valid, settled.tolist(), strict=True):
                row[name] = value
            found[method] = tables.figure(settled)
        return found

    arrows = {"more": " ↑", "less": " ↓", "": ""}
    columns = [
        tables.Column(
            name, name + arrows[metric.better], figures(name, metric.settle), metric.digits
        )
        for name, metric in chosen.items()
    ]
    columns.append(tables.Column("seconds", "s/image", figures("seconds", np.asarray), 2))
    return Evaluation(rows, columns, left_out)


def _one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The items, the next of which is being made in a thread while one is worked on."""
    items, end = iter(items), object()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]


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
) -> Evaluation:
    """Measure methods on a folder of photographs, those in its subfolders included.

    With `output`, each photograph's figures are in `rows.jsonl` there as soon as they are known. A
    later run with the same settings measures only what is missing: what an interruption left, more
    photographs, more methods, more metrics. At the end there are also `table.txt`, `table.csv`,
    `rows.csv` and `results.json`, which holds all of it.

    Args:
        classifier: as from `models.load`.
        folder: the photographs.
        boxes: a COCO file, a VOC file, or a folder of VOC files named as the photographs are.
            COCO's `file_name` is the photograph's path in the folder.
        methods: as in `evaluate`.
        metrics: as in `evaluate`. None: `DEFAULT_METRICS`, without boxes those that need none.
        target: "predicted": each photograph's best class, and the boxes of all its objects.
            "annotated": the annotated class that covers most, and the boxes of that class; COCO's
            `category_id` is taken for the class index, VOC's name for one of the class's names.
        output: a folder for the results.
        settings: what else the figures depend on, such as the name of the model.
        batch_size: masked inputs per pass in the metrics.
        progress: called with the number of figures' rows that are done, that of all, and what is
            measured next.

    Returns:
        An `Evaluation`; what could not be read or used is in its `left_out`, and nowhere else.

    Raises:
        ValueError: an option is unknown; there is nothing to measure; or `output` holds results
            for other settings.
        OSError: the folder cannot be read, or the output not written.
    """
    if target not in ("predicted", "annotated") or (target == "annotated" and boxes is None):
        raise ValueError(
            f"target is {target!r} and boxes {boxes}; wanted 'predicted', or 'annotated' and boxes"
        )
    if metrics is None:
        metrics = [name for name in DEFAULT_METRICS if boxes or not METRICS[name].boxes]
    chosen = _metrics(metrics)
    needy = [name for name, metric in chosen.items() if metric.boxes]
    if needy and boxes is None:
        raise ValueError(f"{', '.join(needy)} cannot be measured without boxes")
    bench = _Bench(classifier.model, _methods(methods), chosen, jax.nn.softmax, batch_size, -1)
    photos = find_photos(folder)
    annotations, notes = read_annotations(boxes) if boxes else ({}, [])
    known = {photo: _annotation(photo, annotations) for photo in photos}
    if boxes:
        notes += _unmatched(known, annotations, folder, boxes)
    journal = Journal(
        output / "rows.jsonl",
        {
            "folder": str(folder.resolve()),
            "boxes": _digest(annotations) if boxes else None,
            "target": target,
            "preprocess": str(classifier.preprocess),
            **(settings or {}),
        },
    ) if output else None  # fmt: skip
    done: dict[tuple[str, str], dict[str, Any]] = {}
    for row in journal.records if journal else []:
        pair = row["image"], row["method"]
        done[pair] = done.get(pair, {}) | row

    def missing(photo: str, method: str) -> bool:
        return not set(chosen) <= set(done.get((photo, method), {}))

    width = max([len(found.boxes) for found in known.values() if found] or [0])
    load = functools.partial(_load, classifier, folder, target=target, width=width)
    total = len(photos) * len(bench.methods)
    waiting = [photo for photo in photos if any(missing(photo, name) for name in bench.methods)]
    count = total - len(waiting) * len(bench.methods)
    unread = set()
    for photo, (batch, troubles) in zip(
        waiting, _one_ahead(load(photo, known[photo]) for photo in waiting), strict=True
    ):
        notes += troubles
        for method in bench.methods:
            if progress:
                progress(count, total, f"{photo}: {method}")
            count += 1
            if batch is None:
                unread.add(photo)
            elif missing(photo, method):
                (row,) = bench.measure(method, batch, [photo])
                done[photo, method] = done.get((photo, method), {}) | row
                if journal:
                    journal.add(row)
    names = [*_ROW, *chosen]
    rows = [
        {name: done[photo, method][name] for name in names}
        for photo in photos
        for method in bench.methods
        if photo not in unread
    ]
    if not rows:
        raise ValueError(
            f"none of the {len(photos)} photographs in {folder} could be measured: "
            + "; ".join(f"{note.what}: {note.why}" for note in notes[:3])
        )
    found = _evaluation(rows, list(bench.methods), chosen, notes)
    if output:
        _write(found, output)
    return found


def find_photos(folder: Path) -> list[str]:
    """The images in a folder and its subfolders, by suffix: their paths in it, sorted.

    Raises:
        ValueError: there are none.
    """
    suffixes = Image.registered_extensions()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and path.is_file()
    )
    if not found:
        raise ValueError(f"there are no photographs in {folder}")
    return found


def _annotation(photo: str, annotations: Mapping[str, Annotation]) -> Annotation | None:
    return annotations.get(photo) or annotations.get(Path(photo).with_suffix("").as_posix())


def _unmatched(
    known: Mapping[str, Annotation | None],
    annotations: Mapping[str, Annotation],
    folder: Path,
    boxes: Path,
) -> list[Note]:
    """What is said of photographs that are not there, and what of those that nothing is said of."""
    matched = sum(found is not None for found in known.values())
    if not matched:
        raise ValueError(
            f"{boxes} names none of the photographs in {folder}: it has {list(annotations)[:3]}, "
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


def _digest(annotations: Mapping[str, Annotation]) -> str:
    return hashlib.sha256(json.dumps(annotations, sort_keys=True).encode()).hexdigest()


def _load(
    classifier: Any,
    folder: Path,
    photo: str,
    annotation: Annotation | None,
    *,
    target: str,
    width: int,
) -> tuple[Batch | None, list[Note]]:
    """A photograph with `width` boxes, of which some may be empty; None if it cannot be used."""
    try:
        with Image.open(folder / photo) as image:
            upright = as_rgb(image)
        inputs = classifier.preprocess(upright)[None]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return None, [Note(photo, f"cannot be read: {error}")]
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
            return None, [*notes, Note(photo, "has no annotated class to explain")]
        targets = max(areas, key=lambda index: areas[index])
        boxes = [box for box, index in zip(boxes, indices, strict=True) if index == targets]
    if not width:
        return Batch(inputs, targets), notes
    carried = np.zeros((1, width, 4), np.float32)
    if boxes:
        carried[0, : len(boxes)] = classifier.preprocess.boxes(np.array(boxes), upright.size)
        for box, (*_, across, down) in zip(boxes, carried[0], strict=False):
            if not (across > 0 and down > 0):
                notes.append(Note(photo, f"the network does not get to see the box {box}"))
    return Batch(inputs, targets, carried), notes


def _usable(
    annotation: Annotation | None, size: tuple[int, int], photo: str
) -> tuple[list[Any], list[Any], list[Note]]:
    if annotation is None:
        return [], [], []
    if annotation.size and annotation.size != size:
        drawn, found = (f"{width} x {height}" for width, height in (annotation.size, size))
        why = f"its boxes were drawn on {drawn} pixels, and it has {found}"
        return [], [], [Note(photo, why)]
    return annotation.boxes, annotation.classes, []


def class_index(kind: int | str, labels: Sequence[str]) -> int | None:
    """The class with an index or a name; None if there is none, or several have the name."""
    if isinstance(kind, int):
        return kind if 0 <= kind < len(labels) else None
    wanted = kind.replace("_", " ").strip().casefold()
    found = [
        index
        for index, label in enumerate(labels)
        if wanted in [name.strip().casefold() for name in label.split(",")]
    ]
    return found[0] if len(found) == 1 else None


def _write(found: Evaluation, output: Path) -> None:
    document = {
        "table": found.as_records(),
        "left_out": [note._asdict() for note in found.left_out],
        "rows": found.rows,
    }
    for name, text in (
        ("table.txt", found.as_text() + "\n"),
        ("table.csv", tables.as_csv(found.as_records())),
        ("rows.csv", tables.as_csv(found.rows)),
        ("results.json", json.dumps(document, indent=1, allow_nan=False) + "\n"),
    ):
        (output / name).write_text(text, "utf-8")
