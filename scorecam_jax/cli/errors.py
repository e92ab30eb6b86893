"""What the command line says, on standard output and on standard error."""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from scorecam_jax._internal.text import abridged as abridged
from scorecam_jax.cli.progress import Progress
from scorecam_jax.reading.labels import short as short


class UserError(Exception):
    """What went wrong and what to do about it, in words for the person at the terminal."""


class OutputError(Exception):
    """Standard output takes no more."""


# What the library advises people who write Python, and what that is called at the terminal.
_TRANSLATIONS = (
    (r"list_layers\(model, inputs\) shows", "`scorecam layers` shows"),
    (r"load\('\w+', weights='(\S+)'\)", r"--weights \1"),
    (r"\bchannels=(\d+)", r"--channels \1"),
    (r", or None for all of them", ""),
    (r"; for tokens pass grid=\(height, width\) to the adapter", ""),
)

# Long enough for any sentence, too short for a whole file.
_LONGEST = 2000


def translated(error: Exception) -> UserError:
    """A library error in the words of the command line."""
    text = str(error) or type(error).__name__
    for python, terminal in _TRANSLATIONS:
        text = re.sub(python, terminal, text)
    return UserError(text)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory does not suffice."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


@contextlib.contextmanager
def memory_told() -> Iterator[None]:
    """Turn an error that memory does not suffice into a `UserError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"out of memory: {error}\na smaller --batch-size needs less memory"
        ) from error


def say(text: str, end: str = "\n") -> None:
    """Print a result on standard output.

    Raises:
        OutputError: standard output is closed, or what it goes to is full.
        BrokenPipeError: whoever read standard output has closed it.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot print: {error}") from error


def complain(problem: object) -> None:
    """Tell a problem on standard error, if there is one."""
    text = str(problem)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ... ({len(text)} characters)"
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"scorecam: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def reported(record: dict[str, Any], progress: Progress | None = None) -> Iterator[None]:
    """Tell a `UserError` on standard error, note it in `record`, and go on."""
    try:
        yield
    except UserError as problem:
        record["error"] = str(problem)
        if progress:
            progress.hide()
        complain(f"{record['photo']}: {problem}")


def percent(probability: float) -> str:
    """A probability with one decimal, such as 94.3%."""
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"
