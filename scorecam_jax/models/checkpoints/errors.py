"""Error messages about untrusted files: short, whatever the files contain."""

LONGEST = 500


class BadCheckpointError(Exception):
    """A fault in a file. Whoever catches the error adds the file's name."""


def short(value: object, most: int = 60) -> str:
    """A value from a file, for a message: a string or a number, shortened, or else its type.

    Only strings and numbers are written out, because a few bytes can describe a value whose text
    would not end.
    """
    if isinstance(value, str):
        text = repr(value[: most + 1])
    elif isinstance(value, int | float):
        # Python itself refuses to print integers with thousands of digits.
        text = repr(value) if abs(value) < 1e18 else "a huge number"
    else:
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def within(message: str, most: int = LONGEST) -> str:
    """The message, without its middle if it is too long."""
    if len(message) <= most:
        return message
    half = (most - 5) // 2
    return f"{message[:half]} ... {message[-half:]}"
