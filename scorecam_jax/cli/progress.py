"""Progress: a bar on a terminal, an occasional line elsewhere."""

import contextlib
import shutil
import sys
import threading
import time

from scorecam_jax.cli.system import printable

LINES: tuple[int | float, int | float] = (15, 30)
"""Seconds to the first line, and from each to the next, where there is no terminal."""


class Progress:
    """Shows the command's progress on standard error.

    On a terminal a bar appears after two seconds. A task's duration is estimated from the task
    before it; the first one has a swinging bar. In a pipe or a file an occasional line is printed.

    Args:
        total: the number of steps.
        enabled: whether anything is shown.
        delay: of the bar, in seconds.
        lines: of the first line, and of each from the one before, in seconds; None: `LINES`.
    """

    def __init__(
        self,
        total: int,
        *,
        enabled: bool,
        delay: int | float = 2,
        lines: tuple[int | float, int | float] | None = None,
    ) -> None:
        self._stream = sys.stderr
        self._enabled = enabled and self._stream is not None
        self._bar = self._enabled and self._stream.isatty()
        self._delay, self._pause = (delay, 0) if self._bar else lines or LINES
        self._total = total
        self._done, self._steps = 0, 1
        self._task = ""
        self._began = self._task_began = time.monotonic()
        self._pace: float | None = None
        self._width = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Progress":
        """Start the clock."""
        if self._enabled:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the bar."""
        self._over.set()
        if self._enabled:
            self._thread.join()
            self.hide()

    def start(self, task: str) -> None:
        """Show the current task."""
        with self._lock:
            self._task, self._task_began = task, time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """Count finished steps that were one task."""
        with self._lock:
            self._done, self._steps = self._done + steps, steps
            self._pace = time.monotonic() - self._task_began

    def follow(self, done: int, total: int, task: str) -> None:
        """Show a given count: `done` of `total` steps are finished, and `task` is next."""
        if done == self._done + 1:
            self.advance()
        self._done, self._total = done, total
        self.start(task)

    def hide(self) -> None:
        """Clear the line for other output. The bar comes back below it."""
        with self._lock:
            self._draw("")

    def _run(self) -> None:
        due = self._began + self._delay
        while not self._over.wait(0.1):
            with self._lock:
                now = time.monotonic()
                if now >= due:
                    due = now + self._pause
                    if self._bar:
                        self._draw(self._line())
                    else:
                        self._tell(now - self._began)

    def _tell(self, seconds: float) -> None:
        count = f"{self._count()} of {self._total}, " if self._total > 1 else ""
        text = printable(f"{count}{seconds:.0f} s: {self._task}")
        with contextlib.suppress(OSError, ValueError):
            print(f"scorecam: {text}", file=self._stream, flush=True)

    def _count(self) -> int:
        return min(self._done + 1, self._total)

    def _line(self) -> str:
        now, cells = time.monotonic(), 24
        if self._pace is None:
            place = int(abs((now - self._began) / 2 % 2 - 1) * (cells - 4))
            bar = f"{'':{place}}<==>".ljust(cells)
        else:
            current = self._steps * min((now - self._task_began) / max(self._pace, 1e-9), 0.95)
            share = min((self._done + current) / self._total, 1)
            bar = ("=" * round(cells * share)).ljust(cells)
        count = f" {self._count()} of {self._total}" if self._total > 1 else ""
        line = f"[{bar}]{count} {now - self._began:.0f} s  {printable(self._task)}"
        return line[: shutil.get_terminal_size().columns - 1]

    def _draw(self, line: str) -> None:
        if line or self._width:
            # Blanks rather than escape codes, which not every terminal knows.
            self._stream.write(f"\r{line:<{self._width}}" + ("" if line else "\r"))
            self._stream.flush()
        self._width = len(line)
