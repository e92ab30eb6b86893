"""Formatting of figures and names in a report."""

import math


def percent(share: int | float) -> str:
    """Format a probability, as "0 %" only if it is 0.

    >>> percent(0.863), percent(0.0004), percent(1e-9)
    ('86.3 %', '0.04 %', 'under 0.001 %')
    """
    value = 100 * share
    if 0 < value < 0.001:
        return "under 0.001 %"
    digits = 1 if value >= 1 or not value else -math.floor(math.log10(value))
    return f"{value:.{digits}f} %"


def plural(kind: str) -> str:
    """The plural of a kind of input.

    >>> plural("photograph"), plural("series")
    ('photographs', 'series')
    """
    return kind if kind.endswith("s") else f"{kind}s"


def number(value: int | float | None) -> str:
    """Format a figure to three digits; a dash if there is none.

    >>> number(0.12345), number(None)
    ('0.123', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"
