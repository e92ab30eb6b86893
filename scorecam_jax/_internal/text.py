"""Texts to quote."""


def abridged(text: str, most: int = 60) -> str:
    """A text to quote; if it is long, its middle is left out."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}"
