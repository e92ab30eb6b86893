"""What could not be used, and why."""

from typing import NamedTuple


class Note(NamedTuple):
    """Something that could not be used.

    Attributes:
        what: a photograph, an annotation, a file or a line of one.
        why: what is wrong with it.
    """

    what: str
    why: str
