"""Where the command meets the operating system: streams, signals and exit statuses."""

import codecs
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_PLAIN = {"↑": "^", "↓": "v"}


class Stopped(KeyboardInterrupt):
    """The process was told to end, by Ctrl-C or from outside."""

    def __init__(self, signum: int = signal.SIGINT) -> None:
        super().__init__(signum)
        self.status = 128 + signum
        self.reason = "interrupted" if signum == signal.SIGINT else "terminated"


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn the signals that end a process into `Stopped`, so that files are cleared away.

    An import that is interrupted may fail in some other way; that counts as stopped too.

    Raises:
        Stopped: a signal came.
    """
    received: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        raise Stopped(signum)

    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # `nohup` has SIGHUP ignored, and that has to stay.
            if number and signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, stop)
    try:
        yield
    except Exception as error:
        if received:
            raise Stopped(received[0]) from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def prepare_streams() -> None:
    """Make what is printed fit any terminal, and keep files off the numbers of closed streams."""
    codecs.register_error("scorecam", _escape)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="scorecam")
    # A file opened while standard output is closed would get its number, and stray prints with it.
    spare = os.open(os.devnull, os.O_RDWR)
    while spare <= 2:
        spare = os.open(os.devnull, os.O_RDWR)
    os.close(spare)


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


def raise_if_stopped() -> None:
    """Placeholder until signals are kept."""
