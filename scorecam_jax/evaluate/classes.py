"""Finding a class by its name."""

import re
from collections.abc import Sequence


def matching_classes(name: str, labels: Sequence[str], *, whole: bool = False) -> list[int]:
    """The classes that a name may mean; more than one if it is ambiguous.

    A label may hold several names, separated by commas. A whole name takes precedence over whole
    words in a name, and these over any part. Capitals do not matter, and "_" is a blank.

    Args:
        name: what to look for.
        labels: the name of each class.
        whole: accept whole names only.

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


def class_index(kind: int | str, labels: Sequence[str]) -> int | None:
    """The class that an annotation names by its index or a whole name; None if not exactly one.

    Parts of names are not accepted: nobody is there to notice that "cow" became "cowboy hat".
    """
    if isinstance(kind, int):
        return kind if 0 <= kind < len(labels) else None
    found = matching_classes(kind, labels, whole=True)
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().casefold()
