"""The names of classes: finding a class by name, and naming files after it."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from scorecam_jax._internal.text import abridged, short


class Category(NamedTuple):
    """A class given by a number and a name in an annotation file.

    Attributes:
        number: the number, used as an index if the model does not know the name.
        name: the name.
    """

    number: int
    name: str


Kind = int | str | Category | None
"""A class in an annotation: its index, its name, both, or None."""


def matching_classes(name: str, labels: Sequence[str], *, whole: bool = False) -> list[int]:
    """The classes that a name may mean; more than one if it is ambiguous.

    A label may contain several names, separated by commas. A whole name takes precedence over
    whole words in a name, and these over any part. Case is ignored, and "_" counts as a space.

    Args:
        name: the name to look for.
        labels: the name of each class.
        whole: whether to accept only whole names.

    >>> labels = ["tabby, tabby cat", "tiger cat", "tiger", "catamaran"]
    >>> matching_classes("tiger", labels), matching_classes("cat", labels)
    ([2], [0, 1])
    """
    wanted = _plain(name)
    words = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    plain = [_plain(label) for label in labels]
    stages = [
        lambda label: wanted in [label, *(part.strip() for part in label.split(","))],
        lambda label: words.search(label),
        lambda label: wanted in label,
    ]
    for matches in stages[:1] if whole else stages:
        found = [index for index, label in enumerate(plain) if wanted and matches(label)]
        if found:
            return found
    return []


def class_index(kind: Kind, labels: Sequence[str]) -> int | None:
    """The class that an annotation names; None if there is not exactly one.

    A whole name of exactly one of the model's classes takes precedence. Otherwise the number is
    used as an index; if several classes have the name, it must be the index of one of these.
    A string of digits that names no class counts as a number. Parts of names are not accepted,
    because nobody would notice that "cow" became "cowboy hat".

    >>> labels = ["tench", "crane", "crane"]
    >>> class_index(Category(1, "tench"), labels), class_index(Category(2, "bird"), labels)
    (0, 2)
    >>> class_index("Tench", labels), class_index("crane", labels), class_index("2", labels)
    (0, None, 2)
    """
    if kind is None:
        return None
    index, name = kind if isinstance(kind, Category) else (kind, kind)
    found = matching_classes(name, labels, whole=True) if isinstance(name, str) else []
    if len(found) == 1:
        return found[0]
    if isinstance(index, str):
        index = int(index) if re.fullmatch("[0-9]{1,9}", index) else -1
    return index if index in (found or range(len(labels))) else None


def class_of_folder(name: str, labels: Sequence[str]) -> int | None:
    """The class that a photograph's folder is named after, found by `class_index`.

    Args:
        name: the photograph's path, with forward slashes.
        labels: the name of each class.

    >>> class_of_folder("birds/crane/1.jpg", ["tench", "crane"])
    1
    """
    folders = name.split("/")[:-1]
    return class_index(folders[-1], labels) if folders else None


def find_class(name: str, labels: Sequence[str]) -> int:
    """The index of a class given by its index, its name, or a part of its name.

    Names are matched by `matching_classes`.

    Raises:
        ValueError: there is no such class, or there are several.
    """
    wanted = name.strip()
    if re.fullmatch("-?[0-9]+", wanted):
        if len(wanted) > 9 or not 0 <= int(wanted) < len(labels):
            raise ValueError(
                f"class {abridged(wanted)} does not exist; the model knows 0 to {len(labels) - 1}"
            )
        return int(wanted)
    found = matching_classes(wanted, labels)
    if len(found) == 1:
        return found[0]
    shown = abridged(name)
    if found:
        raise ValueError(
            f"{shown!r} may mean several classes; give a longer part of the name, or the index:\n"
            + _listing(found, labels)
        )
    found = nearest_classes(wanted, labels)
    raise ValueError(
        f"no class is called {shown!r}"
        + (
            f"; the nearest:\n{_listing(found, labels)}"
            if found
            else f"; try another part of its name, or an index from 0 to {len(labels) - 1}"
        )
    )


def nearest_classes(name: str, labels: Sequence[str], most: int = 8) -> list[int]:
    """The classes whose names are spelt most like a name, nearest first.

    The name is compared with each of a label's names, and with each word in them.

    Args:
        name: a name, possibly misspelt.
        labels: the name of each class.
        most: the maximum number of classes.

    >>> nearest_classes("labradr", ["tabby cat", "Labrador retriever", "tench"])
    [1]
    """
    every: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        parts = [part.strip() for part in _plain(label).split(",")]
        for text in dict.fromkeys([*parts, *(word for part in parts for word in part.split())]):
            every.setdefault(text, []).append(index)
    near = difflib.get_close_matches(_plain(name)[:200], every, n=most, cutoff=0.7)
    return list(dict.fromkeys(index for text in near for index in every[text]))[:most]


def file_names(labels: Sequence[str]) -> list[str]:
    """A name for each class for use in file names: its first name, in lower case.

    Characters other than letters and digits become hyphens. The index is appended where classes
    would share a name, and used alone where no letter or digit is left.

    >>> file_names(["Red panda, lesser panda", "crane", "crane", "???"])
    ['red-panda', 'crane-1', 'crane-2', '3']
    """
    plain = [re.sub(r"[\W_]+", "-", short(label)[:60].lower()).strip("-") for label in labels]
    count = Counter(plain)
    return [
        name if name and count[name] == 1 else f"{name}-{index}".strip("-")
        for index, name in enumerate(plain)
    ]


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().casefold()


def _listing(indices: list[int], labels: Sequence[str], most: int = 12) -> str:
    lines = [f"  {index:>4}  {labels[index]}" for index in indices[:most]]
    if len(indices) > most:
        lines.append(f"        and {len(indices) - most} more")
    return "\n".join(lines)
