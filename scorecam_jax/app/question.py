"""Questions about a photograph, and the plans that answer them."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from scorecam_jax._internal.signatures import requires
from scorecam_jax._internal.text import short
from scorecam_jax.methods import METHODS
from scorecam_jax.metrics.localization import cover
from scorecam_jax.models import Classifier
from scorecam_jax.reading.annotations import Annotation
from scorecam_jax.reading.labels import find_class, matching_classes, nearest_classes
from scorecam_jax.steps import scores
from scorecam_jax.study.choosing import Targets
from scorecam_jax.study.pipeline import Plan
from scorecam_jax.study.registry import named_metrics
from scorecam_jax.study.study import asked_targets

Corners = tuple[float, float, float, float]
"""Left, top, right and bottom of a box, in the photograph's pixels."""


class Question(NamedTuple):
    """A question about a photograph.

    Attributes:
        photo: the photograph's file.
        target: the class to explain, by its name, a part of its name, or its index; "": the
            likeliest.
        rather_than: the class to contrast it with, likewise; "": none.
        method: a name from `METHODS`.
        layer: the layer to explain; None: the network's default.
        layers: the number of layers to explain together.
        like: another photograph's file: explain the likeness to it, by embeddings.
        box: for a classifier, the box in which the heatmap is measured. For a segmentation network
            or a detector, the region or the detection to explain.
    """

    photo: Path
    target: str = ""
    rather_than: str = ""
    method: str = "score-cam"
    layer: str | None = None
    layers: int = 1
    like: Path | None = None
    box: Corners | None = None


def class_names(labels: Sequence[str]) -> list[str]:
    """The name of each class on the page: its first name, made unique.

    >>> class_names(["tench, Tinca tinca", "crane", "crane", "crane, machine"])
    ['tench', 'crane (1)', 'crane (2)', 'crane, machine']
    """
    shorts, wholes = Counter(map(short, labels)), Counter(labels)
    return [
        short(label)
        if shorts[short(label)] == 1
        else label
        if wholes[label] == 1 and "," in label
        else f"{label} ({index})"
        for index, label in enumerate(labels)
    ]


def class_called(text: str, labels: Sequence[str]) -> int:
    """The class that a text means: a name on the page, or the result of `find_class`.

    Raises:
        ValueError: there is no such class, or there are several.
    """
    names = class_names(labels)
    return names.index(text) if text in names else find_class(text, labels)


def suggestions(text: str, labels: Sequence[str], most: int = 8) -> list[str]:
    """The names on the page of classes that an unknown or ambiguous text may mean.

    >>> suggestions("tigre", ["tench", "tiger, Panthera tigris"])
    ['tiger']
    """
    found = matching_classes(text, labels) or nearest_classes(text, labels)
    names = class_names(labels)
    return [names[index] for index in found[:most]]


def plan_of(
    question: Question, classifier: Classifier, name: str, size: tuple[int, int]
) -> tuple[Plan, Any]:
    """Make the pipeline's plan for a question.

    Args:
        question: the question.
        classifier: the network; for `question.like`, the classifier of likeness.
        name: the photograph's name.
        size: the photograph's width and height.

    Returns:
        The plan, and the score for the network's outputs; None if they are logits.

    Raises:
        ValueError: there is no such class or method, or they do not fit together.
    """
    labels = classifier.labels
    text = question.target.strip()
    first = 0 if question.like else class_called(text, labels) if text else None
    targets = asked_targets([] if first is None else [first], None, labels)
    own, boxes = _score(question, classifier, size), _box(question)
    other = _other(question, targets, labels)
    score = own if other is None else scores.contrast(other, score=own or scores.logits)
    plan = Plan(
        classifier=classifier,
        methods={question.method: _method(question.method, score)},
        metrics=named_metrics(["energy"] if boxes else []),
        targets=targets,
        annotations={name: Annotation(boxes, [None])} if boxes else {},
        rather_than=other,
    )
    return plan, own


def _other(question: Question, targets: Targets, labels: Sequence[str]) -> int | None:
    """The class with which the target is contrasted; None if there is none."""
    if question.like or not question.rather_than.strip():
        return None
    other = class_called(question.rather_than.strip(), labels)
    if other in targets.named:
        raise ValueError(
            f"rather than {question.rather_than}: this is the class being explained, and nothing "
            "tells a class from itself"
        )
    return other


def _method(name: str, score: Any) -> Callable[..., Any]:
    if name not in METHODS:
        raise ValueError(f"no method is called {name!r}; there are {', '.join(METHODS)}")
    method = METHODS[name]
    options: dict[str, Any] = {}
    if score is not None:
        options["score"] = score
    if requires(method, "key"):
        options["key"] = jax.random.key(0)
    return functools.partial(method, **options)


def _box(question: Question) -> list[tuple[float, float, float, float]]:
    """The box as a list of one (x, y, width, height); empty if there is no box."""
    if question.box is None:
        return []
    left, top, right, bottom = question.box
    return [(left, top, right - left, bottom - top)]


def _score(question: Question, classifier: Classifier, size: tuple[int, int]) -> Any:
    """The score of a region or of a box; None if the outputs are logits (N, classes)."""
    inputs = jax.ShapeDtypeStruct((1, *classifier.input_shape), "float32")
    outputs, _ = jax.eval_shape(classifier.model, inputs)
    shape = getattr(outputs, "shape", None)
    if shape is not None and len(shape) == 2:
        return None
    boxes = _box(question)
    height, width = classifier.input_size[-2:]
    x, y, across, down = 0.0, 0.0, float(width), float(height)
    if boxes:
        x, y, across, down = classifier.preprocess.boxes(np.array(boxes), size)[0].tolist()
        if not across * down > 0:
            raise ValueError("the network does not see this box: it lies outside the bright part")
    if shape is not None and len(shape) == 4:
        rows, columns = shape[1:3]
        sides = np.array([columns / width, rows / height] * 2, np.float32)
        place = np.array([x, y, across, down], np.float32) * sides
        region = cover(jax.numpy.asarray(place[None, None]), (rows, columns))[0]
        return scores.segmentation(region, activation=jax.nn.softmax)
    if not boxes:
        raise ValueError("click two corners of a box first: this network's outputs are boxes")
    return scores.detection(np.array([x, y, x + across, y + down], np.float32))
