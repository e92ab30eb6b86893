"""The command line's messages, on standard output and standard error."""

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from scorecam_jax.cli.progress import Progress
from scorecam_jax.cli.system import printable


class UserError(Exception):
    """An error for the person at the terminal: what went wrong, and what to try."""


class OutputError(Exception):
    """Standard output cannot be written to."""


# What the library advises people who write Python, and what that is called at the terminal.
_TRANSLATIONS = (
    (r"list_layers\(model, inputs\) shows", "`scorecam layers` shows"),
    (r"with layer=, list_layers\(.*\) tells which would do", "with --layer"),
    (r"load\('\w+', weights='(\S+)'\)", r"--weights \1"),
    (r"\bweights='(\S+)'", r"--weights \1"),
    (r"\bname='([\w/]+)'", r"--model \1"),
    (r"leave out the name", "leave out --model"),
    (r"\bchannels=(\d+)", r"--channels \1"),
    (r"\bbatch_size\b", "--batch-size"),
    (r", or None for all of them", ""),
    (r"; for tokens pass grid=\(height, width\) to the adapter", ""),
)

# Long enough for any sentence, too short for a whole file.
_LONGEST = 2000


def translated(error: Exception) -> UserError:
    """A library error in the words of the command line."""
    return UserError(at_the_terminal(str(error) or type(error).__name__))


def at_the_terminal(text: str) -> str:
    """The library's message, with options named as on the command line."""
    for python, terminal in _TRANSLATIONS:
        text = re.sub(python, terminal, text)
    return text


def say(text: str, end: str = "\n") -> None:
    """Print a result on standard output.

    Raises:
        OutputError: standard output is closed, or what it goes to is full.
        BrokenPipeError: whoever read standard output has closed it.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    try:
        print(printable(text), end=end, flush=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot print: {error}") from error


def complain(problem: object) -> None:
    """Print a problem on standard error, if standard error is open."""
    text = str(problem)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ... ({len(text)} characters)"
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"scorecam: {printable(text)}", file=sys.stderr, flush=True)


def complain_of(notes: Iterable[tuple[str, str]]) -> None:
    """Print each item that could not be used, with the reason."""
    for what, why in notes:
        complain(f"{what}: {at_the_terminal(why)}")


@contextlib.contextmanager
def reported(record: dict[str, Any], progress: Progress | None = None) -> Iterator[None]:
    """Print a `UserError` on standard error, note it in `record`, and continue."""
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
