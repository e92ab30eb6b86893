import io
import re
import threading
import time

import pytest

from scorecam_jax.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def wait_for(condition):
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_progress_is_drawn_on_a_terminal_and_taken_away(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress(3, enabled=True, delay=0) as progress:
        progress.start("first.jpg")
        assert wait_for(lambda: "<==>" in stream.getvalue())
        progress.advance()
        progress.start("second.jpg")
        assert wait_for(lambda: re.search(r"\[=+ *\] 2 of 3 \d+ s  second.jpg", stream.getvalue()))
    lines = stream.getvalue().split("\r")
    assert lines[-1] == ""
    assert lines[-2].strip() == ""
    assert len(lines[-2]) >= len(lines[-3].rstrip())


def test_steps_of_one_task_are_counted_together(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress(8, enabled=True, delay=0) as progress:
        progress.start("first.jpg")
        progress.advance(4)
        progress.start("fifth.jpg")
        # As long a task as the first is over: of its four steps, nearly four.
        assert wait_for(lambda: re.search(r"\[={23,24} *\] 5 of 8 .* fifth.jpg", stream.getvalue()))


def test_progress_follows_someone_elses_count(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress(1, enabled=True, delay=0) as progress:
        progress.follow(6, 9, "a.jpg")
        assert wait_for(lambda: re.search(r"<==>.* 7 of 9 \d+ s  a.jpg", stream.getvalue()))
        progress.follow(7, 9, "b.jpg")
        assert wait_for(lambda: re.search(r"\[={19,} *\] 8 of 9 .* b.jpg", stream.getvalue()))


@pytest.mark.parametrize(
    ("stream", "enabled", "delay"),
    [(io.StringIO, True, 0), (Terminal, False, 0), (Terminal, True, 2)],
)
def test_progress_is_silent_in_a_pipe_when_quiet_and_at_first(monkeypatch, stream, enabled, delay):
    stream = stream()
    monkeypatch.setattr("sys.stderr", stream)
    before = threading.active_count()
    with Progress(1, enabled=enabled, delay=delay) as progress:
        progress.start("first.jpg")
        time.sleep(0.3)
        progress.hide()
    assert stream.getvalue() == ""
    assert threading.active_count() == before


def test_a_pipe_gets_a_line_now_and_then(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress(17, enabled=True, lines=(0.2, 0.3)) as progress:
        progress.follow(2, 17, "le\x1bmur.jpg")
        assert wait_for(lambda: stream.getvalue().count("\n") == 1)
        progress.follow(3, 17, "owl.jpg")
        progress.hide()
        assert wait_for(lambda: stream.getvalue().count("\n") == 2)
    lines = re.sub(r"\d+ s", "0 s", stream.getvalue()).splitlines()
    assert lines == ["scorecam: 3 of 17, 0 s: le\\x1bmur.jpg", "scorecam: 4 of 17, 0 s: owl.jpg"]


def test_progress_in_a_pipe_is_silent_when_quiet_and_when_nobody_reads(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    for stream, enabled in ((io.StringIO(), False), (Closed(), True)):
        monkeypatch.setattr("sys.stderr", stream)
        with Progress(1, enabled=enabled, lines=(0, 0)):
            time.sleep(0.25)
        assert stream.getvalue() == ""
