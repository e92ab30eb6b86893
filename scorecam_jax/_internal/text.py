"""Text for messages."""


def abridged(text: str, most: int = 60) -> str:
    """Shorten a text to quote by leaving out its middle."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 4 :]}"
