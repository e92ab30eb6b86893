"""Photographs become records: read, predict, choose, explain, measure, diagnose."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from scorecam_jax._internal.files import digest
from scorecam_jax.adapters.model import register
from scorecam_jax.contract.model import channel_axis_of
from scorecam_jax.engine.tuning import inputs_together
from scorecam_jax.methods.base import Explanation
from scorecam_jax.models import Classifier
from scorecam_jax.reading import Note, Source
from scorecam_jax.reading.annotations import Annotation, mask_of, usable
from scorecam_jax.study.beside import one_ahead
from scorecam_jax.study.choosing import Choice, Targets, choose
from scorecam_jax.study.journal import Journal
from scorecam_jax.study.layers import AtLayer
from scorecam_jax.study.material import material
from scorecam_jax.study.metering import findings, measure
from scorecam_jax.study.programs import Method, Prediction, Programs
from scorecam_jax.study.record import Given, Record, Result, Target, as_row, from_rows
from scorecam_jax.study.registry import Metric
from scorecam_jax.visualize.grids import layer_sums
from scorecam_jax.visualize.report import cells_for

# How many photographs are tried for one that can be read.
_TRIES = 5

LIKELIEST = 5
"""How many of the likeliest classes a record tells."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The request: what to do with each photograph.

    Attributes:
        classifier: the network, and the way of a photograph into it.
        methods: by name.
        metrics: by name.
        targets: the classes.
        annotations: by the photograph's name.
        window: as in `read_picture`.
        batch_size: masked inputs per pass, for methods and metrics alike.
        signed: the methods whose heatmaps show evidence against a class too.
        same: by method, the one that gives the same heatmap and is run in its place.
        maps: whether records keep heatmaps at full size, or packed as grids.
        rather_than: the class that the methods' scores contrast the targets with, if any.
        layers: by the name of a method that explains a layer of its own, the method itself and
            the layer; see `layers.by_layer`.
    """

    classifier: Classifier
    methods: Mapping[str, Method]
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    targets: Targets = dataclasses.field(default_factory=Targets)
    annotations: Mapping[str, Annotation] = dataclasses.field(default_factory=dict)
    window: tuple[float, float] | None = None
    batch_size: int | None = None
    signed: frozenset[str] = frozenset()
    same: Mapping[str, str] = dataclasses.field(default_factory=dict)
    maps: bool = True
    rather_than: int | None = None
    layers: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def other_name(self) -> str | None:
        """The name of the class of `rather_than`."""
        return None if self.rather_than is None else self.classifier.labels[self.rather_than]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an input, (*spatial, C)."""
        return self.classifier.input_shape

    @property
    def cells(self) -> int:
        """How many values along an axis a packed heatmap may have."""
        return cells_for(len(self.methods), len(self.methods) * self.targets.each)

    @property
    def run(self) -> list[str]:
        """The methods that are run."""
        return [name for name in self.methods if name not in self.same]

    def programs(self) -> Programs:
        """What explains a photograph."""
        wanted = {name: self.methods[name] for name in self.run}
        return Programs(wanted, batch_size=self.batch_size)


class Wait(NamedTuple):
    """Figures for an estimate of the time, before the first heatmap is made.

    Attributes:
        live: the number of live channels of the first photograph.
        seconds: the duration of a pass of the network.
    """

    live: int
    seconds: float


def records(
    plan: Plan,
    items: Sequence[Source | Given],
    *,
    programs: Programs | None = None,
    journal: Journal | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    announce: Callable[[Wait], None] | None = None,
) -> Generator[Record | Note, None, None]:
    """Yield each photograph's record, in order, or the reason why there is none.

    On an accelerator several photographs share a call. A thread reads those of the next call.
    Close the iterator if you stop early, with `contextlib.closing`.

    Args:
        plan: the request.
        items: the photographs.
        programs: `plan.programs()`; None makes them.
        journal: the results of earlier runs, to which those of this run are added.
        progress: called with the number of finished heatmaps, the number of all, and the next task.
        announce: called once, before the first heatmap is made.

    Raises:
        TypeError, ValueError: a method or metric does not fit the network.
        jax.errors.JaxRuntimeError: the device failed for another reason than its memory.
    """
    count = len(plan.run)
    known = _Known(journal, plan, items)
    waiting = [item for item in items if known.missing(item)]
    size = inputs_together(len(waiting))
    plan = _registered(plan, waiting)
    if programs is None:
        programs = plan.programs()
        if waiting:
            programs.prepare(plan.classifier.model, plan.shape, plan.targets.each, size)
    run = _Run(plan, programs, known, size, announce)
    total = len(items) * count
    done = total - len(waiting) * count

    def step(task: str, steps: int) -> None:
        nonlocal done
        if progress:
            progress(done, total, task)
        done += steps

    groups = [waiting[first : first + size] for first in range(0, len(waiting), size)]
    coming = ([run.read(item) for item in group] for group in groups)
    found: dict[int, Record | Note] = {}
    order = iter(items)
    with contextlib.closing(one_ahead(coming)) as loaded:
        for group, inputs in zip(groups, loaded, strict=True):
            found.update(zip(map(id, group), run.explain(inputs, step), strict=True))
            last = id(group[-1])
            for item in order:
                yield found.pop(id(item)) if id(item) in found else known.record(item)
                if id(item) == last:
                    break
    for item in order:
        yield known.record(item)


def _registered(plan: Plan, items: Sequence[Source | Given]) -> Plan:
    """The plan with its layer's place in the image measured, if the program does not show it.

    It is measured once, on the first photograph that can be read.

    Raises:
        ValueError: the layer does not lie over the image.
    """
    if not hasattr(plan.classifier.model, "measured"):
        return plan
    run = _Run(plan, Programs({}), _Known(None, plan, ()), 1, None)
    read = (run.read(item) for item in items[:_TRIES])
    inputs = next((one.inputs for one in read if isinstance(one, _Asked)), None)
    if inputs is None:
        return plan
    model = register(plan.classifier.model, inputs)
    methods = {
        name: one.measured(model, inputs) if isinstance(one, AtLayer) else one
        for name, one in plan.methods.items()
    }
    classifier = plan.classifier._replace(model=model)
    return dataclasses.replace(plan, classifier=classifier, methods=methods)


class _Asked(NamedTuple):
    """A photograph that was read, and what it takes to explain it."""

    item: Source | Given
    sha256: str
    size: tuple[int, ...]
    inputs: np.ndarray
    boxes: list[Any]
    kinds: list[Any]
    remarks: list[str]
    notes: list[Note]
    predicted: Prediction | None = None
    classes: tuple[int, ...] = ()
    mask: np.ndarray | None = None  # of the network's input, (1, height, width)


class _Known:
    """The rows of earlier runs, each for a photograph with the content that it has now."""

    def __init__(self, journal: Journal | None, plan: Plan, items: Sequence[Any]) -> None:
        self._journal, self._plan = journal, plan
        self._rows: dict[str, dict[str, Any]] = {}
        rows = journal.records if journal else []
        recorded = {row["image"] for row in rows}
        self._digests = {
            item.name: _digest(item.path)
            for item in items
            if isinstance(item, Source) and item.name in recorded
        }
        for row in rows:
            if row["sha256"] == self._digests.get(row["image"]):
                self._add(row)

    @property
    def keeps(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    def rows(self, item: Source | Given) -> dict[str, Any]:
        """What is known of a photograph, by method."""
        return self._rows.get(item.name, {})

    def lacks(self, item: Source | Given, method: str) -> bool:
        """Whether a method or a metric of it is still to be run."""
        row = self.rows(item).get(method)
        return row is None or not set(self._plan.metrics) <= set(row["metrics"])

    def missing(self, item: Source | Given) -> bool:
        """Whether anything is still to be done."""
        return any(self.lacks(item, method) for method in self._plan.run)

    def record(self, item: Source | Given) -> Record:
        """The record of a photograph of which everything is known."""
        rows = self.rows(item)
        found = from_rows(item, {name: rows[name] for name in self._plan.run})
        return _complete(self._plan, found)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self._add(row)
        if self._journal:
            self._journal.add(row)

    def _add(self, row: dict[str, Any]) -> None:
        known = self._rows.setdefault(row["image"], {})
        before = known.get(row["method"])
        if before is not None and before["targets"] == row["targets"]:
            row = {**row, "metrics": {**before["metrics"], **row["metrics"]}}
        known[row["method"]] = row


class _Run:
    """What reads and explains photographs."""

    def __init__(
        self,
        plan: Plan,
        programs: Programs,
        known: _Known,
        size: int,
        announce: Callable[[Wait], None] | None,
    ) -> None:
        self.plan, self.programs, self.known, self.size = plan, programs, known, size
        self._announce = announce
        self._width = max([len(one.boxes) for one in plan.annotations.values()] or [0])

    def read(self, item: Source | Given) -> _Asked | Note:
        """Read a photograph and make the network's input of it."""
        classifier = self.plan.classifier
        try:
            found = material(classifier, item, self.plan.window)
            sha256 = self._digest(item) if isinstance(item, Source) else ""
            inputs = np.asarray(classifier.preprocess(found.content))[None]
        except ValueError as error:  # of the file, or of a user's own preprocessing
            return Note(item.name, str(error))
        except MemoryError:
            return Note(item.name, "out of memory: the photograph is too large for this machine")
        asked = _Asked(item, sha256, found.size, inputs, [], [], found.remarks, [])
        if classifier.takes != "pictures":  # boxes lie in pictures
            return asked
        annotation = self.plan.annotations.get(item.name)
        boxes, kinds, notes = usable(annotation, found.content.size, item.name)
        return asked._replace(boxes=boxes, kinds=kinds, notes=notes)

    def _digest(self, item: Source) -> str:
        """What tells a journal's photograph from a changed one."""
        return (self.known.keeps and _digest(item.path)) or ""

    def explain(
        self, group: Sequence[_Asked | Note], step: Callable[[str, int], None]
    ) -> list[Record | Note]:
        """Explain the photographs of one call by all methods."""
        asked = [self._guard(self._ask, one) for one in group]
        results: list[dict[str, Result]] = [{} for _ in asked]
        for method in self.plan.run:
            step(f"{_name(group[0])}: {method}", len(group))
            rows = [
                row
                for row, one in enumerate(asked)
                if isinstance(one, _Asked) and self.known.lacks(one.item, method)
            ]
            for row, result in zip(
                rows, self._results(method, [asked[r] for r in rows]), strict=True
            ):
                one = asked[row]
                assert isinstance(one, _Asked)
                if isinstance(result, Note):
                    asked[row] = result
                    continue
                if self.known.keeps:
                    record = self._record(one, {method: result})
                    self.known.add(as_row(record, method, self.plan.cells))
                if not self.plan.maps:
                    result = result._replace(heatmaps=None, sums=None)
                results[row][method] = result
        return [
            self._finish(one, found) if isinstance(one, _Asked) else one
            for one, found in zip(asked, results, strict=True)
        ]

    def _ask(self, one: _Asked) -> _Asked | Note:
        """Predict, and choose the classes."""
        classifier = self.plan.classifier
        predicted = self.programs.predict(classifier.model, one.inputs)
        if not np.isfinite(predicted.scores).all():
            why = "the network's outputs are NaN or infinite on this photograph"
            return Note(one.item.name, why)
        choice = choose(
            self.plan.targets, predicted.ranking[0], one.item.name, one.boxes, one.kinds,
            classifier.labels,
        )  # fmt: skip
        if not isinstance(choice, Choice):
            return choice
        if self._announce:
            began = time.perf_counter()  # of a second run: a program's first is slow
            self.programs.predict(classifier.model, one.inputs)
            seconds = time.perf_counter() - began
            self._announce(Wait(int(predicted.live[0].sum()), seconds))
            self._announce = None
        mask, broken = self._mask(one, choice.boxes)
        return one._replace(
            predicted=predicted,
            classes=tuple(choice.classes),
            boxes=choice.boxes,
            notes=[*one.notes, *choice.notes, *broken],
            mask=mask,
        )

    def _mask(self, one: _Asked, boxes: Sequence[Any]) -> tuple[np.ndarray | None, list[Note]]:
        """Where the objects in some boxes are in the input, if their outlines are known."""
        annotation = self.plan.annotations.get(one.item.name)
        if annotation is None or not annotation.outlines or not boxes:
            return None, []
        size = one.size[0], one.size[1]
        mask, notes = mask_of(annotation, boxes, size, one.item.name)
        if mask is None:
            return None, notes
        return self.plan.classifier.preprocess.masks(mask[None], size), notes

    def _results(self, method: str, asked: Sequence[Any]) -> list[Result | Note]:
        """What a method finds, in one call for all if memory suffices."""
        model, during = self.plan.classifier.model, f" during {method}"
        if not asked:
            return []

        def explain(some: Sequence[_Asked], size: int) -> list[Any]:
            inputs, classes = [one.inputs for one in some], [one.classes for one in some]
            return self.programs.explain_each(method, model, inputs, classes, size)

        found: list[Any] = []
        if self.size > 1:
            try:
                found = explain(asked, self.size)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                self.size = 1
        if not found:
            found = [self._guard(lambda one: explain([one], 1)[0], one, during) for one in asked]

        def result(one: _Asked, made: Any) -> Result | Note:
            if isinstance(made, Note):
                return made
            return self._guard(lambda one: self._result(method, one, *made), one, during)

        return [result(one, made) for one, made in zip(asked, found, strict=True)]

    def _result(
        self,
        method: str,
        one: _Asked,
        heatmaps: np.ndarray,
        explanation: Explanation | None,
        seconds: float,
    ) -> Result:
        """Measure and diagnose what a method found."""
        model = self.plan.classifier.model
        indices = list(dict.fromkeys(one.classes))
        columns = [one.classes.index(index) for index in indices]
        said: list[list[tuple[str, float, str]]] = [[] for _ in indices]
        for _, target, finding in findings(explanation):
            place = said[indices.index(target)]
            if finding not in place:
                place.append(finding)
        sums = None
        peaks = [1.0] * len(indices)
        interpolated = None
        if explanation is not None:
            sums = layer_sums(explanation, channel_axis_of(model))
            sums = None if sums is None else sums[0, columns]
            peaks = np.ravel(explanation.peak[0])[columns].astype(float).tolist()
            if explanation.scored is not None and explanation.deviation is not None:
                scored = jax.tree.leaves(explanation.scored)  # of each layer
                interpolated = {
                    "scored": sum(int(each.sum()) for each in scored),
                    "channels": sum(each.size for each in scored),
                    "deviation": float(explanation.deviation.max()),
                }
        metrics: dict[str, Any] = {}
        if self.plan.metrics:
            targets = np.array(one.classes[:1], np.int32)
            (metrics,) = measure(
                self.programs, self.plan.metrics, method, model, one.inputs, heatmaps[:1],
                targets, self._boxes(one), masks=one.mask, batch_size=self.plan.batch_size,
            )  # fmt: skip
        return Result(
            heatmaps[columns], sums, None, peaks, said, metrics, seconds,
            method in self.plan.signed, interpolated,
        )  # fmt: skip

    def _boxes(self, one: _Asked) -> np.ndarray | None:
        """The boxes in the network's input, in as many rows for each: one program serves all."""
        if not self._width:
            return None
        carried = np.zeros((1, self._width, 4), np.float32)
        if one.boxes:
            boxes = np.asarray(one.boxes, float)
            carried[0, : len(boxes)] = self.plan.classifier.preprocess.boxes(boxes, one.size)
        return carried

    def _record(self, one: _Asked, results: dict[str, Result]) -> Record:
        assert one.predicted is not None
        scores = one.predicted.scores[0]

        def target(index: Any) -> Target:
            return Target(int(index), float(scores[index]))

        notes = list(one.notes)
        carried = self._boxes(one)
        if one.boxes and carried is not None:
            unseen = [not (box[2] > 0 and box[3] > 0) for box in carried[0, : len(one.boxes)]]
            notes += [
                Note(one.item.name, f"the network does not see the box {tuple(box)}")
                for box, hidden in zip(one.boxes, unseen, strict=True)
                if hidden
            ]
        return Record(
            one.item,
            one.sha256,
            one.size,
            [target(index) for index in dict.fromkeys(one.classes)],
            [target(index) for index in one.predicted.ranking[0, :LIKELIEST]],
            float(scores[one.classes[0]]),
            int(one.predicted.live[0].sum()),
            one.boxes,
            results,
            one.remarks,
            notes,
        )

    def _finish(self, one: _Asked, results: dict[str, Result]) -> Record | Note:
        """The record, with what earlier runs found."""
        rows = self.known.rows(one.item)
        kept = {name: rows[name] for name in self.plan.run if name in rows}
        found = self._record(one, results)
        if kept:
            earlier = from_rows(one.item, kept).results
            whole = {name: value for name, value in results.items() if self.plan.maps}
            found = found._replace(results={**earlier, **whole})
        ordered = {name: found.results[name] for name in self.plan.run}
        return _complete(self.plan, found._replace(results=ordered))

    def _guard(self, function: Callable[[Any], Any], one: Any, during: str = "") -> Any:
        """Apply a function; a lack of memory skips this photograph only."""
        if isinstance(one, Note):
            return one
        try:
            return function(one)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            why = f"out of memory{during}: {error}\na smaller batch_size needs less memory"
            return Note(one.item.name, why)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error reports a lack of memory."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _complete(plan: Plan, record: Record) -> Record:
    """Give methods that were not run the result of the method that is the same."""
    results = record.results
    return record._replace(
        results={name: results[plan.same.get(name, name)] for name in plan.methods}
    )


def _name(one: _Asked | Note) -> str:
    return one.what if isinstance(one, Note) else one.item.name


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file; None if it cannot be read."""
    with contextlib.suppress(OSError):
        return digest(path)
    return None
