"""Photographs in, records out: a whole study in one call."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from PIL import Image

from scorecam_jax.models import Classifier
from scorecam_jax.reading import Note, Source, Takes, find
from scorecam_jax.reading.annotations import Annotation, match, read_annotations
from scorecam_jax.reading.labels import find_class
from scorecam_jax.study.choosing import RULES, Targets
from scorecam_jax.study.journal import Journal
from scorecam_jax.study.layers import by_layer, every_layer
from scorecam_jax.study.lock import alone_in
from scorecam_jax.study.page import as_page, photographs
from scorecam_jax.study.pipeline import Plan, Wait, records
from scorecam_jax.study.record import Given, Record, is_row
from scorecam_jax.study.registry import (
    DEFAULT_METHODS,
    DEFAULT_METRICS,
    LOCALIZATION,
    METRICS,
    Case,
    Method,
    Metric,
    named_methods,
    named_metrics,
)
from scorecam_jax.study.results import Evaluation, summarize
from scorecam_jax.study.sameness import same_methods
from scorecam_jax.visualize.pictures import as_picture
from scorecam_jax.visualize.show import Viewer

# What results call an array without a name.
_ONE: Mapping[Takes, str] = {"pictures": "image", "volumes": "volume", "series": "series"}


class Study(NamedTuple):
    """What a study of photographs found.

    Attributes:
        plan: the request.
        records: one for each photograph that could be explained, in order.
        left_out: what could not be used, with reasons.
        remarks: notes on how files were read, and on methods that are the same on this network.
        remeasured: damaged results of an earlier run, which were measured again.
    """

    plan: Plan
    records: list[Record]
    left_out: list[Note]
    remarks: list[Note]
    remeasured: list[Note]

    def evaluation(self) -> Evaluation:
        """The metrics' means over the photographs, by method, with intervals."""
        metrics = self.plan.metrics
        rows = [
            {
                "image": record.name,
                "method": method,
                "target": record.targets[0].index,
                "score": record.score,
                "seconds": result.seconds,
                "findings": [[kind, text] for kind, _, text in result.findings[0]],
                **{name: result.metrics[name] for name in metrics},
            }
            for record in self.records
            for method, result in record.results.items()
        ]
        methods = list(self.plan.methods)
        return summarize(rows, methods, metrics, self.left_out, self.remeasured)

    def report(self, **options: Any) -> str:
        """One HTML file to look through: its text. Options are those of `visualize.report`."""
        return as_page(self.plan, self.records, self.evaluation(), **options)

    def show(self, colormap: str = "ember", height: int = 640) -> Viewer:
        """The same in a notebook."""
        shown, _ = photographs(self.plan, self.records, self.evaluation())
        return Viewer(shown, colormap, height)


def study(
    classifier: Classifier,
    pictures: Any,
    *,
    methods: Sequence[str] | Mapping[str, Method] = ("score-cam",),
    targets: Sequence[int | str] | int | str = (),
    top: int | None = None,
    layers: Sequence[str] | Literal["all"] | None = None,
    boxes: str | os.PathLike[str] | Mapping[str, Annotation] | None = None,
    metrics: Sequence[str] | Mapping[str, Metric | Callable[[Case], Any]] | None = None,
    window: tuple[float, float] | None = None,
    page: Any = None,
    batch_size: int | None = None,
    signed: Collection[str] = (),
    heatmaps: bool = True,
    output: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    announce: Callable[[Wait], None] | None = None,
) -> Study:
    """Explain photographs, measure the heatmaps and diagnose them.

    The commands `explain`, `report` and `evaluate` call this: all choose classes, match boxes and
    read files by the same rules.

    With `output`, the results of each photograph are written to `rows.jsonl` there at once. A later
    run with the same settings measures only what is missing: photographs after an interruption,
    new or changed photographs, further methods and metrics. At the end
    `table.txt`, `table.csv`, `rows.csv` and `results.json` are written.

    Args:
        classifier: as from `models.load`, or your own.
        pictures: a file or a folder, or a sequence of files, folders, Pillow images and arrays as
            in `visualize.overlay`. Or a mapping of names to images and arrays. For a network of
            volumes or series, arrays are volumes or series.
        methods: names from `METHODS`, or functions called as `score_cam` is, by name.
        targets: the classes to explain: indices, or names as on the command line. "predicted",
            "annotated" and "folder" alone name rules: each photograph's likeliest class, the
            annotated class that covers most with the boxes of that class, or the class that its
            folder is called after.
        top: also explain this many of the likeliest classes. None: 1 if no class is named.
        layers: explain each of these layers by itself, by each method: their paths, or "all": the
            last layer, and the last at each finer grid or blocks before it. None: the classifier's.
        boxes: a file or folder of annotations (see `read_annotations`), or annotations by
            photograph, of those in memory too. None: `annotations.json` in a folder of
            photographs, if it is there.
        metrics: names from `METRICS`, or `Metric`s or functions of a `Case`, by name; measured of
            the first target. None: where the boxes lie, if there are boxes.
        window: the values shown as black and white in greyscale of more than 8 bits.
        page: which page of files with several, from 1; "all" for each. None: the usual one.
        batch_size: masked inputs per pass, for methods and metrics alike.
        signed: the methods whose heatmaps show evidence against a class too.
        heatmaps: whether the records keep heatmaps whole. False saves memory with many
            photographs: a report needs only what it packs.
        output: a folder for the results.
        settings: what else the results in `output` depend on, such as the name of the model.
        progress: called with the number of finished heatmaps, the number of all, and the next task.
        announce: called once, before the first heatmap is made, with the duration of a pass.

    Returns:
        The records, with `evaluation()`, `report()` and `show()`. Photographs that cannot be read,
        or need more memory than there is, are listed in `left_out`.

    Raises:
        ValueError: an option is unknown or does not fit, no photograph can be explained, or
            `output` holds results for other settings, or is in use by another run.
        OSError: the output cannot be written.

    >>> from scorecam_jax import models, samples
    >>> classifier = models.load("efficientnet_lite0")
    >>> found = study(classifier, samples.path("owl"), methods=["grad-cam"])
    >>> found.records[0].targets[0].index
    24
    """
    files, given = _sort_out(pictures, classifier.takes)
    for path in files:
        if not path.exists():
            raise ValueError(f"{path} is not a folder, and no file either")
    wanted = named_methods(methods)
    known = named_metrics(metrics or ())
    asked = asked_targets(targets, top, classifier.labels)
    if boxes is not None and not isinstance(boxes, Mapping):
        boxes = Path(boxes)
    named = [one.name for one in given]
    listing = Listed(files, boxes, page=page, takes=classifier.takes, given=named)
    listing.require(asked.rule)
    if not listing.sources and not given:
        raise ValueError(f"there are no photographs in {', '.join(map(str, files))}")
    if metrics is None:
        known = named_metrics(LOCALIZATION if listing.annotations else ())
    apart: Mapping[str, tuple[str, str]] = {}
    if layers is not None:
        paths = every_layer(classifier) if layers == "all" else list(layers)
        wanted, apart = by_layer(wanted, paths)
    plan = Plan(
        classifier=classifier,
        methods=wanted,
        layers=apart,
        metrics=with_boxes(known, bool(listing.annotations)),
        targets=asked,
        annotations=listing.annotations,
        window=window,
        batch_size=batch_size,
        signed=frozenset(signed),
        maps=heatmaps,
    )
    depends = {
        "folder": ", ".join(str(path.resolve()) for path in files),
        "boxes": listing.digest(),
        "target": targets,
        "top": top,
        "layers": layers,
        "preprocess": str(classifier.preprocess),
        "window": window,
        "page": page,
        **(settings or {}),
    }
    folder = Path(output) if output else None
    with results_in(folder, depends) if folder else contextlib.nullcontext() as journal:
        found = conduct(
            plan, [*listing.sources, *given], listing.left_out, listing.remarks, journal=journal,
            progress=progress, announce=announce,
        )  # fmt: skip
        if folder:
            found.evaluation().write(folder)
    return found


@contextlib.contextmanager
def results_in(output: Path, settings: Mapping[str, Any]) -> Iterator[Journal]:
    """The journal of a folder of results, which no other run writes to meanwhile.

    Raises:
        ValueError: the folder holds results for other settings, or is in use by another run.
        OSError: it cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    with alone_in(output):
        yield Journal(output / "rows.jsonl", dict(settings), valid=is_row)


def evaluate_folder(
    classifier: Classifier,
    folder: Path | Sequence[Path],
    *,
    boxes: Path | None = None,
    methods: Sequence[str] | Mapping[str, Method] = DEFAULT_METHODS,
    metrics: Sequence[str] | Mapping[str, Metric | Callable[[Case], Any]] | None = None,
    target: Sequence[int | str] | int | str = "predicted",
    output: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Measure methods on photographs: the table of a `study` with the usual methods and metrics.

    Args:
        classifier: as in `study`.
        folder: the photographs: a folder, a file, or a sequence of them.
        boxes: a file or folder of annotations. None: there are none.
        methods: as in `evaluate`.
        metrics: as in `evaluate`. None: `DEFAULT_METRICS`; without boxes, those that need none.
        target: the `targets` of `study`; the first is measured.
        output: as in `study`.
        settings: as in `study`.
        batch_size: as in `study`.
        progress: as in `study`.

    Raises:
        ValueError: as in `study`.
        OSError: as in `study`.
    """
    return study(
        classifier,
        folder,
        methods=methods,
        targets=target,
        boxes=boxes or {},
        metrics=default_metrics(bool(boxes)) if metrics is None else metrics,
        batch_size=batch_size,
        heatmaps=False,
        output=output,
        settings=settings,
        progress=progress,
    ).evaluation()


def default_metrics(boxes: bool) -> list[str]:
    """The metrics measured by default, with boxes or without."""
    return [name for name in DEFAULT_METRICS if boxes or not METRICS[name].boxes]


def conduct(
    plan: Plan,
    items: Sequence[Source | Given],
    left_out: Sequence[Note] = (),
    remarks: Sequence[Note] = (),
    *,
    journal: Journal | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    announce: Callable[[Wait], None] | None = None,
) -> Study:
    """Carry out a plan.

    Raises:
        ValueError: none of the photographs can be explained.
    """
    plan, same = without_repeats(plan)
    found: list[Record] = []
    faults = list(left_out)
    told = [*remarks, *same]
    with contextlib.closing(
        records(plan, items, journal=journal, progress=progress, announce=announce)
    ) as each:
        for one in each:
            if isinstance(one, Note):
                faults.append(one)
                continue
            found.append(one)
            faults += one.left_out
            told += [Note(one.name, remark) for remark in one.remarks]
    if not found:
        why = "; ".join(f"{note.what}: {note.why}" for note in faults[:3])
        raise ValueError(f"none of the {len(items)} photographs could be explained: {why}")
    return Study(plan, found, faults, told, list(journal.damaged) if journal else [])


def without_repeats(plan: Plan) -> tuple[Plan, list[Note]]:
    """A plan that runs no method twice, and notes on those that are the same."""
    inputs = jax.ShapeDtypeStruct((1, *plan.shape), "float32")
    same = same_methods(plan.methods, plan.classifier.model, inputs)
    notes = [
        Note(name, f"is {other} on this network, and is not run again")
        for name, other in same.items()
    ]
    return dataclasses.replace(plan, same=same), notes


def without_unfit(plan: Plan) -> tuple[Plan, list[Note]]:
    """A plan of the methods that the network can take, and notes on the others.

    Each method is traced, which tells whether the network has what it works on, such as attention.
    """
    programs = plan.programs()
    inputs = jax.ShapeDtypeStruct((1, *plan.shape), "float32")
    each = plan.targets.each
    targets = jax.ShapeDtypeStruct((1,) if each == 1 else (1, each), "int32")
    methods: dict[str, Method] = {}
    notes: list[Note] = []
    for name, method in plan.methods.items():
        try:
            programs.trace(name, plan.classifier.model, inputs, targets)
            methods[name] = method
        except (TypeError, ValueError) as error:
            notes.append(Note(name, f"cannot be asked of this network: {error}"))
    return dataclasses.replace(plan, methods=methods), notes


def asked_targets(
    targets: Sequence[int | str] | int | str, top: int | None, labels: Sequence[str]
) -> Targets:
    """The classes that are asked for.

    Raises:
        ValueError: there is no such class, there are fewer than `top`, or none at all.
    """
    if not labels:
        raise ValueError(
            "the network has no classes: its outputs are an embedding. CLIP and SigLIP take texts "
            "as classes, such as --target 'a photo of a cat'; of any network, Python explains the "
            "likeness to other photographs, score=scores.similarity(embeddings)"
        )
    wanted = [targets] if isinstance(targets, int | str) else list(targets)
    rules = [one for one in wanted if one in RULES]
    if len(rules) > 1:
        raise ValueError(f"targets are {rules}: give one of them")
    rule = rules[0] if rules else None
    named = tuple(find_class(str(one), labels) for one in dict.fromkeys(wanted) if one not in RULES)
    if rule == "predicted":
        rule, top = None, top or 1
    if top is None:
        top = int(rule is None and not named)
    if top > len(labels):
        raise ValueError(f"top is {top}, but the model knows only {len(labels)} classes")
    return Targets(named, top, rule)


def with_boxes(metrics: dict[str, Metric], boxes: bool) -> dict[str, Metric]:
    """The metrics; ValueError if one needs boxes and there are none."""
    boxed = [name for name, metric in metrics.items() if metric.boxes]
    if boxed and not boxes:
        raise ValueError(f"{', '.join(boxed)} cannot be measured without boxes")
    return metrics


class Listed:
    """The photographs that paths stand for, with their annotations.

    Attributes:
        sources: the photographs.
        annotations: by photograph; empty if there are none.
        boxes: the file or folder that the annotations come from, or None.
        left_out: what could not be used.
        remarks: what there is to know.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        boxes: Any = None,
        *,
        page: Any = None,
        takes: Takes | None = "pictures",
        given: Sequence[str] = (),
    ) -> None:
        """Look for photographs and read annotations; `given`: names of those in memory.

        Raises:
            ValueError: the annotations cannot be read or name none of the photographs; or there
                are no photographs.
            OSError: the annotations cannot be read.
        """
        self.annotations: Mapping[str, Annotation] = {}
        self.boxes: Path | None = None
        if boxes is None:
            usual = [path / "annotations.json" for path in paths if path.is_dir()]
            boxes = next((path for path in usual if path.is_file()), None)
        notes: list[Note] = []
        known: Mapping[str, Annotation] | None = None
        if isinstance(boxes, Mapping):
            known = boxes
        elif boxes is not None:
            self.boxes = Path(boxes)
            known, notes = read_annotations(self.boxes)
        used = [self.boxes] if self.boxes else []
        if (
            self.boxes
            and self.boxes.is_dir()
            and any(one.outlines for one in (known or {}).values())
        ):
            # Masks are no photographs.
            used += (file for file in self.boxes.rglob("*") if file.suffix.lower() == ".png")
        listing = find(paths, page=page, takes=takes, skip=used)
        self.sources = listing.sources
        self.left_out = [*listing.left_out, *notes]
        self.remarks = list(listing.remarks)
        names = [*(one.name for one in self.sources), *given]
        if known and names:
            folder = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
            origin = self.boxes or "the annotations"
            self.annotations, unmatched = match(names, known, boxes=origin, folder=folder)
            self.left_out += unmatched

    def require(self, rule: str | None) -> None:
        """Raise ValueError if a rule for targets needs annotations and there are none."""
        if rule == "annotated" and not self.annotations:
            raise ValueError("target 'annotated' needs annotations: name their file with boxes")

    def digest(self) -> str | None:
        """A digest of the annotations; None if there are none."""
        if not self.annotations:
            return None
        text = json.dumps(self.annotations, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _sort_out(pictures: Any, takes: Takes) -> tuple[list[Path], list[Given]]:
    """Files and folders, and photographs, volumes or series in memory."""
    checked = as_picture if takes == "pictures" else np.asarray
    if isinstance(pictures, Mapping):
        return [], [Given(name, checked(image)) for name, image in pictures.items()]
    single = isinstance(pictures, str | os.PathLike | Image.Image)
    paths: list[Path] = []
    given: list[Given] = []
    for place, one in enumerate([pictures] if single else pictures):
        if isinstance(one, str | os.PathLike):
            paths.append(Path(one))
        else:
            given.append(Given(f"{_ONE[takes]} {place}", checked(one)))
    return paths, given
