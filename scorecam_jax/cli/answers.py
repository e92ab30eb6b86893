"""What a network answers about photographs, several in one call where that is faster."""

import argparse
import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scorecam_jax import models
from scorecam_jax._internal.signatures import accepts
from scorecam_jax.cli.choice import named
from scorecam_jax.cli.classes import file_names
from scorecam_jax.cli.errors import UserError, memory_told, out_of_memory
from scorecam_jax.cli.files import Source, check_output, open_photo
from scorecam_jax.cli.programs import Programs
from scorecam_jax.cli.progress import Progress
from scorecam_jax.contract.model import channel_axis_of
from scorecam_jax.diagnosis import diagnose
from scorecam_jax.evaluate.measure import one_ahead
from scorecam_jax.methods.base import Explanation
from scorecam_jax.visualize import layer_sums, pixelate


class Job(NamedTuple):
    """One photograph and the files to be made of it.

    Attributes:
        photo: to be read.
        output: the picture to write.
        map: where to write the heatmaps, if anywhere.
        each: whether `output` only begins the names of a picture for each class.
    """

    photo: Source
    output: Path
    map: Path | None
    each: bool


class Answer(NamedTuple):
    """What a network says of one photograph.

    Attributes:
        indices: of the classes explained.
        probabilities: of all classes.
        pictures: the files to write.
        heatmaps: of the network's input, (methods, targets, height, width).
        cells: the same in the layer's cells; None if they are not asked for.
        peaks: (methods, targets), what 1 stands for in each heatmap.
        findings: by target: what `diagnose` says.
        notes: what there is to tell of the file.
        signed: by method, whether its heatmaps tell what speaks against a class.
        interpolated: by method that interpolates: how many channels it scored, of how many, and the
            heatmap's largest standard deviation.
    """

    indices: list[int]
    probabilities: np.ndarray
    pictures: list[Path]
    heatmaps: np.ndarray
    cells: np.ndarray | None
    peaks: np.ndarray
    findings: list[list[dict[str, Any]]]
    notes: list[str]
    signed: list[bool]
    interpolated: dict[str, dict[str, Any]]


class _Input(NamedTuple):
    """A photograph that was read: a batch of one, and what there is to tell of the file."""

    values: np.ndarray
    notes: list[str]


class _Question(NamedTuple):
    """A photograph whose classes are known: what it takes to explain it.

    Attributes:
        inputs: a batch of one.
        notes: what there is to tell of the file.
        probabilities: of all classes.
        classes: to explain, (1, T).
        indices: the same without repetition.
        pictures: the files to write.
    """

    inputs: np.ndarray
    notes: list[str]
    probabilities: np.ndarray
    classes: np.ndarray
    indices: list[int]
    pictures: list[Path]


def answers(
    jobs: Sequence[Job],
    programs: Programs,
    alone: Callable[[], Programs],
    classifier: models.Classifier,
    options: argparse.Namespace,
    progress: Progress,
) -> Generator[Answer | UserError, None, None]:
    """Put photographs to a network, `programs.size` of them in one call.

    A thread reads the photographs of the next call. To be closed by who stops early; see
    `one_ahead`.

    Args:
        jobs: the photographs.
        programs: what explains them.
        alone: compiles programs for one photograph a call, which explain those left if there is too
            little memory for several.
        classifier: the network.
        options: as parsed.
        progress: told what is put to the network.

    Yields:
        For each photograph the answer, or why there is none.
    """
    model = classifier.model

    def read(job: Job) -> _Input:
        notes: list[str] = []
        photo = open_photo(job.photo.path, window=options.window, page=job.photo.page, notes=notes)
        return _Input(classifier.preprocess(photo)[None], notes)

    def ask(job: Job, given: _Input) -> _Question:
        told = programs.predict(model, given.values)
        probabilities, classes, _ = map(np.asarray, told)
        if not np.isfinite(probabilities).all():
            raise UserError("the network's outputs are NaN or infinite on this photograph")
        # A class may be both asked for and among the likeliest.
        indices = list(dict.fromkeys(classes[0].tolist()))
        pictures = [job.output]
        if job.each:
            names = file_names(classifier.labels)
            stem = job.output.stem
            pictures = [job.output.with_stem(f"{stem}-{names[index]}") for index in indices]
            check_outputs(job, pictures, options)
        return _Question(given.values, given.notes, probabilities, classes, indices, pictures)

    def explain(questions: list[Any]) -> list[Any]:
        nonlocal programs
        asked = [one for one in questions if isinstance(one, _Question)]
        if programs.size > 1 and asked:
            inputs, classes = [one.inputs for one in asked], [one.classes for one in asked]
            try:
                found = iter(programs.explain(model, inputs, classes))
                return [next(found) if isinstance(one, _Question) else one for one in questions]
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            programs = alone()
        return _each(lambda one: programs.explain(model, [one.inputs], [one.classes])[0], questions)

    def answer(question: _Question, found: dict[str, Any]) -> Answer:
        return _answer(question, found, classifier, options)

    size = programs.size
    groups = [jobs[first : first + size] for first in range(0, len(jobs), size)]
    coming = (_each(read, group) for group in groups)
    with contextlib.closing(one_ahead(coming)) as loaded:
        for group, inputs in zip(groups, loaded, strict=True):
            progress.start(group[0].photo.name)
            questions = _each(ask, group, inputs)
            yield from _each(answer, questions, explain(questions))
            progress.advance(len(group))


def check_outputs(job: Job, paths: Sequence[Path], options: argparse.Namespace) -> None:
    """Refuse to write files that must not be written; see `check_output`."""
    inputs = [*options.photos, *filter(None, [options.weights])]
    for path in paths:
        check_output(path, job.photo.path, inputs, force=options.force)


def _each(function: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    """Apply a function to each row. A `UserError` in a row, or of a row, takes its place."""

    def apply(row: tuple[Any, ...]) -> Any:
        try:
            for value in row:
                if isinstance(value, UserError):
                    raise value
            with memory_told():
                return function(*row)
        except UserError as problem:
            return problem

    return [apply(row) for row in zip(*columns, strict=True)]


def _answer(
    question: _Question,
    found: Mapping[str, Any],
    classifier: models.Classifier,
    options: argparse.Namespace,
) -> Answer:
    indices, classes = question.indices, question.classes[0].tolist()
    columns = [classes.index(index) for index in indices]
    heatmaps = np.stack([one.heatmap[0] for one in found.values()])[:, columns]
    return Answer(
        indices,
        question.probabilities,
        question.pictures,
        heatmaps,
        _cells(found, heatmaps, columns, classifier) if options.pixels else None,
        np.stack([one.peak[0] for one in found.values()])[:, columns],
        _findings(found, indices),
        question.notes,
        [bool(options.signed) and accepts(named(name), "variant") for name in found],
        {
            name: {
                "scored": int(one.scored.sum()),
                "channels": one.scored.size,
                "deviation": float(one.deviation.max()),
            }
            for name, one in found.items()
            if one.scored is not None
        },
    )


def _cells(
    explanations: Mapping[str, Explanation],
    heatmaps: np.ndarray,
    columns: Sequence[int],
    classifier: models.Classifier,
) -> np.ndarray:
    """The heatmaps in the layer's cells, at the size of the network's input."""
    channel_axis = channel_axis_of(classifier.model)
    cells = np.empty_like(heatmaps)
    for row, (name, explanation) in enumerate(explanations.items()):
        sums = layer_sums(explanation, channel_axis)
        assert sums is not None  # as _check_pixels has seen
        for place, column in enumerate(columns):
            try:
                cells[row, place] = pixelate(heatmaps[row, place], sums[0, column])
            except ValueError as error:
                raise UserError(f"--pixels: {name}: {error}; leave out --pixels") from error
    return cells


def _findings(
    explanations: Mapping[str, Explanation], indices: Sequence[int]
) -> list[list[dict[str, Any]]]:
    """What `diagnose` says of each target, once for all methods of which it says the same."""
    by_target: list[dict[tuple[str, str], dict[str, Any]]] = [{} for _ in indices]
    for name, explanation in explanations.items():
        for finding in diagnose(explanation):
            told = by_target[indices.index(finding.target)]
            one = told.setdefault(
                (finding.kind, finding.text),
                {
                    "kind": finding.kind,
                    "figure": finding.figure,
                    "text": finding.text,
                    "methods": [],
                },
            )
            if name not in one["methods"]:
                one["methods"].append(name)
    return [list(told.values()) for told in by_target]
