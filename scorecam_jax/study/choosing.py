"""Which classes of a photograph are explained, and which boxes go with them: one rule for all."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from scorecam_jax.reading import Note
from scorecam_jax.reading.labels import class_index

RULES = ("predicted", "annotated", "folder")


class Targets(NamedTuple):
    """The classes to explain in each photograph.

    Attributes:
        named: classes to explain in all of them.
        top: how many of the likeliest classes to explain after these.
        rule: "annotated": first the annotated class that covers most, and only the boxes of that
            class. "folder": first the class that the photograph's folder is called after. None:
            neither.
    """

    named: tuple[int, ...] = ()
    top: int = 1
    rule: str | None = None

    @property
    def count(self) -> int:
        """How many classes a photograph has, of which some may be the same."""
        return (self.rule is not None) + len(self.named) + self.top


class Choice(NamedTuple):
    """What is explained in a photograph.

    Attributes:
        classes: their indices, (T,); some may be the same.
        boxes: the boxes to compare with.
        notes: what could not be used.
    """

    classes: list[int]
    boxes: list[Any]
    notes: list[Note]


def choose(
    targets: Targets,
    ranking: Sequence[int] | np.ndarray,
    name: str,
    boxes: Sequence[Any],
    kinds: Sequence[int | str],
    labels: Sequence[str],
) -> Choice | Note:
    """Choose the classes of one photograph.

    Args:
        targets: what was asked for.
        ranking: the classes from the likeliest on.
        name: of the photograph.
        boxes: of its objects, (x, y, width, height).
        kinds: the classes of these objects, as annotated.
        labels: the name of each class.

    Returns:
        The choice, or why there is none.
    """
    notes: list[Note] = []
    first: list[int] = []
    used = list(boxes)
    if targets.rule == "folder":
        folder = PurePath(name).parent.name
        index = class_index(int(folder) if folder.isdecimal() else folder, labels)
        if index is None:
            return Note(name, f"its folder {folder!r} is not called after a class of the model")
        first = [index]
    elif targets.rule == "annotated":
        indices = [class_index(kind, labels) for kind in kinds]
        notes += [
            Note(name, f"{kind!r} is not a class of the model")
            for kind, index in zip(kinds, indices, strict=True)
            if index is None
        ]
        covered: dict[int, float] = {}
        for place, index in enumerate(indices):
            if index is not None:
                area = boxes[place][2] * boxes[place][3] if place < len(boxes) else 0.0
                covered[index] = covered.get(index, 0.0) + area
        if not covered:
            why = "; ".join(dict.fromkeys(note.why for note in notes))
            return Note(name, f"has no annotated class to explain{': ' * bool(why)}{why}")
        first = [max(covered, key=lambda index: covered[index])]
        used = [box for box, index in zip(boxes, indices, strict=False) if index == first[0]]
    likeliest = [int(index) for index in ranking[: targets.top]]
    return Choice([*first, *targets.named, *likeliest], used, notes)
