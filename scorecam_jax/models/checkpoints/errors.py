"""Messages about files that may hold anything: short, whatever is in them."""

LONGEST = 500


class BadCheckpointError(Exception):
    """What is wrong with a file, to be completed by its name."""


def short(value: object, most: int = 60) -> str:
    """A value from a file, for a message: a string cut to size, of anything else its type.

    Nothing but strings and numbers is ever written out, because a few bytes can describe a value
    whose text would not end.
    """
    if isinstance(value, str):
        text = repr(value[: most + 1])
    elif isinstance(value, int | float):
        # Numbers of thousands of digits are refused by Python itself.
        text = repr(value) if abs(value) < 1e18 else "a huge number"
    else:
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def within(message: str, most: int = LONGEST) -> str:
    """The message, its middle left out if it is too long."""
    if len(message) <= most:
        return message
    half = (most - 5) // 2
    return f"{message[:half]} ... {message[-half:]}"
