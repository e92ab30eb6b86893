"""Which classes of a photograph are explained, and with which boxes: one rule for all commands."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scorecam_jax.reading import Note
from scorecam_jax.reading.annotations import annotated_class
from scorecam_jax.reading.labels import Kind, class_of_folder

RULES = ("predicted", "annotated", "folder")


class Targets(NamedTuple):
    """The classes to explain in each photograph.

    Attributes:
        named: classes to explain in every photograph.
        top: the number of likeliest classes to explain after these.
        rule: "annotated": first the annotated class that covers most, and only the boxes of that
            class. "folder": first the class that the photograph's folder is called after. None:
            neither.
    """

    named: tuple[int, ...] = ()
    top: int = 1
    rule: str | None = None

    @property
    def each(self) -> int:
        """How many classes of each photograph are explained; some may be the same."""
        return (self.rule is not None) + len(self.named) + self.top


class Choice(NamedTuple):
    """What is explained in a photograph.

    Attributes:
        classes: their indices, (T,); an index may occur twice.
        boxes: the boxes for metrics.
        notes: annotations that could not be used.
    """

    classes: list[int]
    boxes: list[Any]
    notes: list[Note]


def choose(
    targets: Targets,
    ranking: Sequence[int] | np.ndarray,
    name: str,
    boxes: Sequence[Any],
    kinds: Sequence[Kind],
    labels: Sequence[str],
) -> Choice | Note:
    """Choose the classes of one photograph.

    Args:
        targets: the request.
        ranking: the classes from the likeliest on.
        name: of the photograph.
        boxes: of its objects, (x, y, width, height).
        kinds: the classes of these objects, and of the photograph as a whole, as annotated.
        labels: the name of each class.

    Returns:
        The choice, or the reason why there is none.
    """
    notes: list[Note] = []
    first: list[int] = []
    used = list(boxes)
    if targets.rule == "folder":
        index = class_of_folder(name, labels)
        if index is None:
            return Note(name, "its folder is not called after a class of the model")
        first = [index]
    elif targets.rule == "annotated":
        index, used, notes = annotated_class(boxes, kinds, labels, name)
        if index is None:
            return Note(name, "; ".join(note.why for note in notes))
        first = [index]
    likeliest = [int(index) for index in ranking[: targets.top]]
    return Choice([*first, *targets.named, *likeliest], used, notes)
