"""Text for messages and captions."""


def abridged(text: str, most: int = 60) -> str:
    """Shorten a text to quote by leaving out its middle."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}"


def short(label: str) -> str:
    """The first name in a class's label.

    >>> short("tench, Tinca tinca")
    'tench'
    """
    return label.split(",")[0]
