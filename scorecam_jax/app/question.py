"""What a person asks of a photograph, and what it takes to answer."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from scorecam_jax._internal.signatures import requires
from scorecam_jax.methods import METHODS
from scorecam_jax.metrics.localization import cover
from scorecam_jax.models import Classifier
from scorecam_jax.reading.annotations import Annotation
from scorecam_jax.reading.labels import find_class, matching_classes, nearest_classes, short
from scorecam_jax.steps import scores
from scorecam_jax.study.choosing import Targets
from scorecam_jax.study.pipeline import Plan
from scorecam_jax.study.registry import named_metrics
from scorecam_jax.study.study import asked_targets

Corners = tuple[float, float, float, float]
"""Left, top, right and bottom of a box, in the photograph's pixels."""


class Question(NamedTuple):
    """What is asked of a photograph.

    Attributes:
        photo: the file.
        target: a class by its name, index or a part of its name; "" for the likeliest.
        rather_than: a class that it is contrasted with, likewise; "" for none.
        method: a name from `METHODS`.
        layer: to explain; None: the network's usual one.
        layers: how many are explained together.
        like: a file: explain what makes the photograph like this one, by embeddings.
        box: of a classifier: how much of the heatmap lies in it. Of a network whose outputs have
            places or boxes of their own: the region or the detection that is explained.
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
    """What the page calls each class: the first of its names, or what no other class has.

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
    """The class that a text means: what the page calls it, or as by `find_class`.

    Raises:
        ValueError: there is no such class, or there are several.
    """
    names = class_names(labels)
    return names.index(text) if text in names else find_class(text, labels)


def suggestions(text: str, labels: Sequence[str], most: int = 8) -> list[str]:
    """The classes that a text may mean where it means none, or several, as the page calls them.

    >>> suggestions("tigre", ["tench", "tiger, Panthera tigris"])
    ['tiger']
    """
    found = matching_classes(text, labels) or nearest_classes(text, labels)
    names = class_names(labels)
    return [names[index] for index in found[:most]]


def plan_of(
    question: Question, classifier: Classifier, name: str, size: tuple[int, int]
) -> tuple[Plan, Any]:
    """What a question asks of the pipeline.

    Args:
        question: what is asked.
        classifier: the network; for `question.like`, put to that question already.
        name: of the photograph.
        size: its width and height.

    Returns:
        The plan, and the score that the network's outputs need; None if they are logits.

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
    """The class that the target is contrasted with."""
    if question.like or not question.rather_than.strip():
        return None
    other = class_called(question.rather_than.strip(), labels)
    if other in targets.named:
        raise ValueError(
            f"rather than {question.rather_than}: that is the class that is explained, and nothing "
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
    """The box as (x, y, width, height), if there is one."""
    if question.box is None:
        return []
    left, top, right, bottom = question.box
    return [(left, top, right - left, bottom - top)]


def _score(question: Question, classifier: Classifier, size: tuple[int, int]) -> Any:
    """The score of outputs that are not logits (N, classes): of a region, or of a box."""
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
