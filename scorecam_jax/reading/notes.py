"""Notes on what could not be used."""

from typing import NamedTuple


class Note(NamedTuple):
    """Something that could not be used, and why.

    Attributes:
        what: the photograph, annotation, file or line of a file.
        why: the reason.
    """

    what: str
    why: str
