"""The operating system: streams, signals, exit statuses and a cache."""

import codecs
import contextlib
import hashlib
import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_PLAIN = {"↑": "^", "↓": "v"}

# Escape codes change a terminal's colours and more, and the overrides of the direction of text make
# one name look like another. The newlines and tabs of our own texts are no such codes.
_CONTROLS = {*range(0x20), *range(0x7F, 0xA0)} - {*map(ord, "\n\t")}
_DIRECTIONS = {0x061C, *range(0x200E, 0x2010), *range(0x2028, 0x202F), *range(0x2066, 0x206A)}
_ESCAPED = {one: chr(one).encode("unicode_escape").decode() for one in _CONTROLS | _DIRECTIONS}

# The signals that came since the command began.
_received: list[int] = []


class Stopped(KeyboardInterrupt):
    """The process was asked to end, by Ctrl-C or a signal."""

    def __init__(self, signum: int = signal.SIGINT) -> None:
        super().__init__(signum)
        self.status = 128 + signum
        self.reason = "interrupted" if signum == signal.SIGINT else "terminated"


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn signals that end a process into `Stopped`, so that partial files are removed.

    An import that is interrupted may fail in some other way; that counts as stopped too, and so
    does an end that was reached although a signal came.

    Raises:
        Stopped: a signal came.
    """
    _received.clear()

    def stop(signum: int, frame: FrameType | None) -> None:
        _received.append(signum)
        raise Stopped(signum)

    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        # SIGBREAK is Ctrl-Break on Windows.
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            # `nohup` has SIGHUP ignored, and that has to stay.
            if number and signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, stop)
    try:
        yield
        raise_if_stopped()
    except Exception as error:
        if _received:
            raise Stopped(_received[0]) from error
        raise
    finally:
        _received.clear()
        for number, handler in previous.items():
            signal.signal(number, handler)


def raise_if_stopped() -> None:
    """Stop if a signal came, even if its exception was lost.

    Python prints and drops what is raised in a callback, such as JAX's of the garbage collection.
    Call this between photographs.

    Raises:
        Stopped: a signal came.
    """
    if _received:
        raise Stopped(_received[0])


def prepare_streams() -> None:
    """Make output printable on any terminal, and keep files off the numbers of closed streams."""
    codecs.register_error("scorecam", _escape)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="scorecam")
    # A file opened while standard output is closed would get its number, and stray prints with it.
    spare = os.open(os.devnull, os.O_RDWR)
    while spare <= 2:
        spare = os.open(os.devnull, os.O_RDWR)
    os.close(spare)


def printable(text: str) -> str:
    r"""A text with its control characters escaped, all but newlines and tabs.

    >>> print(printable("\x1b[31mred\r"))
    \x1b[31mred\r
    """
    return text.translate(_ESCAPED)


def silence_output() -> None:
    """Send the rest of standard output nowhere, so that the interpreter's last flush succeeds."""
    if sys.stdout is None:
        return
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """What to print in place of characters that an output cannot hold."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = (_PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in text)
    return "".join(plain), error.end


def keep_compiled_programs() -> None:
    """Have JAX keep compiled programs in the user's cache folder.

    A folder that `JAX_COMPILATION_CACHE_DIR` names takes precedence. Where the folder cannot be
    written to, nothing is kept.
    """
    import jax

    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return
    # A program compiled for one processor may not run on another that shares the home folder.
    folder = user_cache() / "scorecam_jax" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def user_cache() -> Path:
    """The folder for caches: `$XDG_CACHE_HOME`, or the platform's own."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"


def _processor() -> str:
    """A name for processors that run the same programs."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
