"""Measuring methods on batches of images: every metric of every method."""

import concurrent.futures
import contextlib
import functools
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scorecam_jax._internal.checks import check_classes, check_inputs, check_targets
from scorecam_jax._internal.filter_jit import filter_jit
from scorecam_jax._internal.signatures import accepts, requires
from scorecam_jax._internal.trees import Static, join_arrays, split_arrays
from scorecam_jax.contract.model import channel_axis_of
from scorecam_jax.contract.per_input import count_images
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.diagnosis import diagnose
from scorecam_jax.engine.options import Masking
from scorecam_jax.evaluate.registry import (
    DEFAULT_METHODS,
    DEFAULT_METRICS,
    Case,
    Method,
    Metric,
    named_methods,
    named_metrics,
)
from scorecam_jax.evaluate.results import ROW, Evaluation, summarize
from scorecam_jax.methods.base import Explanation
from scorecam_jax.steps.outputs import class_scores, of_targets

Item = TypeVar("Item")


class Batch(NamedTuple):
    """Some images to measure on. A plain tuple in this order does as well.

    Attributes:
        inputs: (B, *spatial, C), preprocessed; or a tuple or dict of a network's several inputs,
            the first of which is the image.
        targets: None (each image's best class), an int or (B,).
        boxes: None, or (B, N, 4), (x, y, width, height) in pixels of the inputs; zeros where an
            image has fewer than N.
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
    """Measure methods on your images.

    Options reach every method whose signature has them. What a `functools.partial` has set stays.
    Methods that need a `key` get a fixed one.

    Args:
        model: as in `score_cam`.
        batches: of `Batch`, or of tuples like it. A thread prepares the next batch. Batches of one
            shape are compiled for once.
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
    evaluator = Evaluator(
        model,
        named_methods(methods),
        chosen,
        score=score,
        batch_size=batch_size,
        channel_axis=channel_axis,
    )
    rows: list[dict[str, Any]] = []
    count = 0
    with contextlib.closing(one_ahead(batches)) as loaded:
        for batch in loaded:
            batch = Batch(*batch)
            names = batch.names
            if names is None:
                names = [str(count + place) for place in range(count_images(batch.inputs))]
            count += len(names)
            for method in evaluator.methods:
                rows.extend(evaluator.measure(method, batch, names))
    return summarize(rows, list(evaluator.methods), chosen)


class NotFiniteError(ValueError):
    """The model's score of an image is NaN or infinite."""


class Evaluator:
    """Methods and metrics of one model, compiled once per shape of batch."""

    def __init__(
        self,
        model: Callable[..., Any],
        methods: Mapping[str, Method],
        metrics: Mapping[str, Metric],
        *,
        score: Callable[..., Any] | None,
        batch_size: int | None,
        channel_axis: int | None,
    ) -> None:
        self.methods, self.metrics = methods, metrics
        self._model = model
        self._channel_axis = channel_axis_of(model, channel_axis)
        scoring = score or jax.nn.softmax
        self._scoring = Masking(score=scoring, batch_size=batch_size, channel_axis=channel_axis)
        wanted: dict[str, Any] = {
            "score": score,
            "batch_size": batch_size,
            "channel_axis": channel_axis,
        }

        def predict(model: Callable[..., Any], inputs: Array) -> Array:
            return class_scores(scoring, model(inputs)[0], len(inputs))

        key = jax.random.key(0)

        def explain(
            arrays: Any, inputs: Array, targets: Array, *, static: Static, method: Method
        ) -> tuple[Array, Explanation | None]:
            keywords = {
                name: value
                for name, value in wanted.items()
                if value is not None and accepts(method, name)
            }
            if requires(method, "key"):
                keywords["key"] = key
            found = method(join_arrays(arrays, static), inputs, targets, **keywords)
            return found.heatmap, found if isinstance(found, Explanation) else None

        self._predict = filter_jit(predict)
        self._explain = {
            name: jax.jit(functools.partial(explain, method=method), static_argnames="static")
            for name, method in methods.items()
        }
        self._compiled: dict[Any, Any] = {}

    def measure(
        self,
        method: str,
        batch: Batch,
        names: Sequence[str],
        keep: Callable[[Any], Any] | None = None,
    ) -> list[dict[str, Any]]:
        """The rows of a batch for one method; `keep` is called with the batch's heatmaps.

        Raises:
            ValueError: targets, boxes or names do not fit the inputs, or a metric does not return
                one value per image.
            NotFiniteError: the model's score of an image is NaN or infinite.
        """
        model, inputs = split_inputs(self._model, batch.inputs)
        inputs = check_inputs(inputs, self._channel_axis)
        scores = self._predict(model, inputs)
        targets, one_each = check_targets(batch.targets, len(inputs))
        if targets is None:
            targets = scores.argmax(1)[:, None]
        if not one_each or len(names) != len(inputs):
            raise ValueError(
                f"a batch of {len(inputs)} images has {len(names)} names and targets of shape "
                f"{targets.shape}, wanted one of each per image"
            )
        check_classes(targets, scores.shape[1])
        targets, scores = targets[:, 0], of_targets(scores, targets)[:, 0]
        for name, score in zip(names, np.asarray(scores), strict=True):
            if not np.isfinite(score):
                raise NotFiniteError(
                    f"the model's score of image {name!r} is {score}: look for NaN in the model's "
                    "weights"
                )
        explain = self._compile(method, model, inputs, targets)
        began = time.perf_counter()
        heatmaps, explanation = jax.block_until_ready(explain(inputs, targets))
        seconds = (time.perf_counter() - began) / len(inputs)
        findings: list[list[list[str]]] = [[] for _ in names]
        for finding in () if explanation is None else diagnose(explanation):
            findings[finding.input].append([finding.kind, finding.text])

        boxes = None if batch.boxes is None else jnp.asarray(batch.boxes, heatmaps.dtype)
        case = Case(
            model, inputs, heatmaps, targets, boxes, lambda *given: explain(*given)[0],
            self._scoring,
        )  # fmt: skip
        boxed = np.zeros(len(inputs), bool)
        if boxes is not None:
            boxed = np.asarray((boxes[..., boxes.shape[-1] // 2 :] > 0).all(-1).any(-1))
        rows = [
            dict(zip(ROW, (name, method, int(target), float(score), seconds, said), strict=True))
            for name, target, score, said in zip(names, targets, scores, findings, strict=True)
        ]
        for name, metric in self.metrics.items():
            if metric.boxes and not boxed.any():
                values = np.full(len(rows), np.nan)
            else:
                values = np.asarray(metric.measure(case))
            if values.shape[:1] != (len(rows),):
                raise ValueError(
                    f"metric {name!r} gave shape {values.shape}, wanted one value for each of "
                    f"the {len(rows)} images: ({len(rows)},)"
                )
            for row, value, has_boxes in zip(rows, values, boxed, strict=True):
                usable = np.isfinite(value).all() and (has_boxes or not metric.boxes)
                row[name] = value.tolist() if usable else None
        if keep is not None:
            keep(np.asarray(heatmaps))
        return rows

    def _compile(
        self, method: str, model: Callable[..., Any], inputs: Array, targets: Array
    ) -> Callable[..., Any]:
        """The method, compiled beforehand so that its time can be told."""
        arrays, static = split_arrays(model)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves((arrays, inputs)))
        kind = method, static, shapes
        if kind not in self._compiled:
            lowered = self._explain[method].lower(arrays, inputs, targets, static=static)
            self._compiled[kind] = lowered.compile()
        return functools.partial(self._compiled[kind], arrays)


def one_ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The items. While one is worked on, a thread prepares the next.

    To be closed by who stops early: else the garbage collector may end it in that very thread.
    """
    items, end = iter(items), object()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
