"""The class that is meant by what was typed, and what files call it."""

import difflib
import re
from collections import Counter
from collections.abc import Sequence

from scorecam_jax.cli.errors import UserError, abridged, short
from scorecam_jax.evaluate.classes import matching_classes


def find_class(name: str, labels: Sequence[str]) -> int:
    """The index of the class meant by an index, a name, or a part of a name.

    Names are matched as by `matching_classes`.

    Raises:
        UserError: there is no such class, or there are several.
    """
    wanted = name.strip()
    if re.fullmatch("-?[0-9]+", wanted):
        if len(wanted) > 9 or not 0 <= int(wanted) < len(labels):
            raise UserError(
                f"class {abridged(wanted)} does not exist; the model knows 0 to {len(labels) - 1}"
            )
        return int(wanted)
    found = matching_classes(wanted, labels)
    if len(found) == 1:
        return found[0]
    shown = abridged(name)
    if found:
        raise UserError(
            f"{shown!r} may mean several classes; say more of the name, or give the index:\n"
            + _listing(found, labels)
        )
    every = {
        part.strip(): index
        for index, label in enumerate(labels)
        for part in label.casefold().split(",")
    }
    near = difflib.get_close_matches(wanted[:200].casefold(), every, n=8, cutoff=0.7)
    found = list(dict.fromkeys(every[part] for part in near))
    raise UserError(
        f"no class is called {shown!r}"
        + (
            f"; the nearest:\n{_listing(found, labels)}"
            if found
            else f"; try another part of its name, or an index from 0 to {len(labels) - 1}"
        )
    )


def file_names(labels: Sequence[str]) -> list[str]:
    """What the names of files call each class: the first of its names, in lower case.

    What is neither a letter nor a digit becomes a hyphen. The index follows where classes would
    share a name, and stands alone where there is none.

    >>> file_names(["Red panda, lesser panda", "crane", "crane", "???"])
    ['red-panda', 'crane-1', 'crane-2', '3']
    """
    plain = [re.sub(r"[\W_]+", "-", short(label)[:60].lower()).strip("-") for label in labels]
    count = Counter(plain)
    return [
        name if name and count[name] == 1 else f"{name}-{index}".strip("-")
        for index, name in enumerate(plain)
    ]


def _listing(indices: list[int], labels: Sequence[str], most: int = 12) -> str:
    lines = [f"  {index:>4}  {labels[index]}" for index in indices[:most]]
    if len(indices) > most:
        lines.append(f"        and {len(indices) - most} more")
    return "\n".join(lines)
