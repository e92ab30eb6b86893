"""Texts to quote."""


def abridged(text: str, most: int = 60) -> str:
    """A text to quote, its middle left out if it is long."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}"
