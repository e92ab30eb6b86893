"""Measuring methods on batches of inputs: every metric of every method."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from scorecam_jax._internal.checks import check_classes, check_inputs, check_targets
from scorecam_jax.contract.model import channel_axis_of
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.study.beside import one_ahead
from scorecam_jax.study.metering import findings, measure
from scorecam_jax.study.programs import Programs
from scorecam_jax.study.registry import (
    DEFAULT_METHODS,
    DEFAULT_METRICS,
    Case,
    Method,
    Metric,
    named_methods,
    named_metrics,
)
from scorecam_jax.study.results import ROW, Evaluation, summarize


class Batch(NamedTuple):
    """Some images to measure on. A plain tuple in this order does as well.

    Attributes:
        inputs: (B, *spatial, C), preprocessed; or a tuple or dict of a network's several inputs,
            the first of which is the image.
        targets: None (each image's best class), an int or (B,).
        boxes: None, or (B, N, 4), (x, y, width, height) in pixels of the inputs; zeros where an
            image has fewer than N. Or segmentation masks, (B, *spatial), boolean.
        names: of the images; None numbers them.
    """

    inputs: Any
    targets: Any = None
    boxes: Any = None
    names: Sequence[str] | None = None


def evaluate(
    model: Callable[..., Any],
    batches: Iterable[Any],
    methods: Sequence[str] | Mapping[str, Method] = DEFAULT_METHODS,
    metrics: Sequence[str] | Mapping[str, Metric | Callable[[Case], Any]] = DEFAULT_METRICS,
    *,
    score: Callable[..., Any] | None = None,
    batch_size: int | None = None,
    channel_axis: int | None = None,
) -> Evaluation:
    """Measure methods on batches of your own inputs; for photographs see `study`.

    An option is passed to every method whose signature has it, unless a `functools.partial` has set
    it. Methods that need a `key` get a fixed one.

    Args:
        model: as in `score_cam`.
        batches: of `Batch`, or of tuples like it. A thread prepares the next batch. There
            is one compilation per shape.
        methods: names from `METHODS`, or functions called as `score_cam` is, by name.
        metrics: names from `METRICS`, or `Metric`s or functions of a `Case`, by name.
        score: outputs -> (N, classes), for methods and metrics alike. Drop, gain, insertion,
            deletion and ADCC expect values in [0, 1]. None: each method's own, and
            `jax.nn.softmax` for the metrics.
        batch_size: masked inputs per pass, for methods and metrics alike.
        channel_axis: of the inputs. None: the model's own.

    Raises:
        ValueError: a name is unknown, targets or boxes do not fit the inputs, or the model's score
            of an image is not finite.

    >>> import jax, jax.numpy as jnp
    >>> kernel = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> def model(x):
    ...     activations = jax.nn.relu(x @ kernel)
    ...     return 9 * activations.mean(1), activations
    >>> loader = [(jnp.array([[[1.0, 0.0], [0.0, 0.2]]]), 0, jnp.array([[[0.0, 1.0]]]))]
    >>> found = evaluate(model, loader, ["score-cam", "uniform"], ["energy"])
    >>> [(row["method"], row["energy"]) for row in found.rows]
    [('score-cam', 1.0), ('uniform', 0.5)]
    """
    chosen = named_metrics(metrics)
    scoring: dict[str, Any] = {
        "score": score,
        "batch_size": batch_size,
        "channel_axis": channel_axis,
    }
    programs = Programs(named_methods(methods), **scoring)
    rows: list[dict[str, Any]] = []
    count = 0
    with contextlib.closing(one_ahead(batches)) as loaded:
        for batch in loaded:
            batch = Batch(*batch)
            names = batch.names
            if names is None:
                _, images = split_inputs(model, batch.inputs)
                names = [str(count + place) for place in range(len(images))]
            count += len(names)
            batch = batch._replace(names=names)
            rows += _rows(programs, model, batch, chosen, scoring)
    return summarize(rows, list(programs.methods), chosen)


def _rows(
    programs: Programs,
    model: Callable[..., Any],
    batch: Batch,
    metrics: Mapping[str, Metric],
    scoring: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """The rows of a batch, method by method."""
    model, inputs = split_inputs(model, batch.inputs)
    inputs = check_inputs(inputs, channel_axis_of(model, scoring["channel_axis"]))
    names = list(batch.names or ())
    predicted = programs.predict(model, inputs)
    targets, one_each = check_targets(batch.targets, len(inputs))
    classes = predicted.ranking[:, :1] if targets is None else np.asarray(targets)
    if not one_each or len(names) != len(inputs):
        raise ValueError(
            f"a batch of {len(inputs)} images has {len(names)} names and targets of shape "
            f"{classes.shape}, wanted one of each per image"
        )
    check_classes(classes, predicted.scores.shape[1])
    scores = np.take_along_axis(predicted.scores, np.asarray(classes), 1)[:, 0]
    for name, score in zip(names, scores, strict=True):
        if not np.isfinite(score):
            raise ValueError(
                f"the model's score of image {name!r} is {score}: look for NaN in the model's "
                "weights"
            )
    rows = []
    for method in programs.methods:
        heatmaps, explanation, seconds = programs.explain(method, model, inputs, classes[:, 0])
        said: list[list[list[str]]] = [[] for _ in names]
        for row, _, (kind, _, text) in findings(explanation):
            said[row].append([kind, text])
        figures = measure(
            programs, metrics, method, model, inputs, heatmaps, classes[:, 0], batch.boxes,
            **scoring,
        )  # fmt: skip
        share = [seconds / len(names)] * len(names)
        columns = (names, [method] * len(names), map(int, classes[:, 0]), map(float, scores))
        rows += [
            {**dict(zip(ROW, values, strict=True)), **measured}
            for *values, measured in zip(*columns, share, said, figures, strict=True)
        ]
    return rows
