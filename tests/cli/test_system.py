import contextlib
import gc
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scorecam_jax import models
from scorecam_jax.cli import errors, system
from tests.cli.toy import COMMANDS, UNIX, scorecam


def in_a_process(*arguments, code=None, **options):
    command = ["-c", code] if code else ["-m", "scorecam_jax"]
    return subprocess.run(
        [sys.executable, *command, *arguments], stderr=subprocess.PIPE, text=True, **options
    )


def test_help_does_not_wait_for_jax():
    code = """
import sys
from scorecam_jax.cli.main import main
for arguments in ([], ["--version"], *([name, "--help"] for name in sys.argv[1:])):
    try:
        main(arguments or ["--help"])
    except SystemExit as end:
        assert end.code == 0
slow = {"jax", "jaxtyping", "numpy", "PIL", "flax", "optax"} & set(sys.modules)
sys.exit(f"imported {slow}" if slow else 0)
"""
    done = in_a_process(*COMMANDS, code=code, stdout=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
def test_a_full_output_is_told():
    with open("/dev/full", "w") as full:
        done = in_a_process("--help", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "scorecam: cannot print: [Errno 28] No space left on device\n"


@UNIX
def test_an_output_that_nobody_reads_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    done = in_a_process("--help", stdout=writer)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""


@UNIX
def test_a_closed_output_is_told():
    script = f'"{sys.executable}" -m scorecam_jax methods >&-'
    done = subprocess.run(["sh", "-c", script], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "scorecam: standard output is closed\n"


@UNIX
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_the_command_with_a_status_that_tells(
    photo, monkeypatch, capsys, number, status
):
    before = signal.getsignal(number)
    monkeypatch.setattr(models, "load", lambda *a, **named: os.kill(os.getpid(), number))
    assert scorecam("explain", photo) == status
    reason = {130: "interrupted", 143: "terminated"}[status]
    assert capsys.readouterr().err == f"scorecam: {reason}\n"
    assert signal.getsignal(number) is before


@UNIX
@pytest.mark.usefixtures("interruptible")
def test_an_import_that_fails_because_it_was_interrupted_counts_as_interrupted():
    def broken_import():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("cannot import name 'half' from 'a package'") from None

    with pytest.raises(system.Stopped) as stop, system.stoppable():
        broken_import()
    assert stop.value.status == 130


@UNIX
def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with system.stoppable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


@UNIX
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_whose_exception_was_lost_still_stops_the_command(name):
    number = getattr(signal, name)

    def swallow():
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)

    def run():
        swallow()
        system.raise_if_stopped()
        pytest.fail("went on")

    before = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup
    try:
        with pytest.raises(system.Stopped) as stop, system.stoppable():
            run()
        assert stop.value.status == 128 + number
        with pytest.raises(system.Stopped), system.stoppable():
            swallow()
    finally:
        signal.signal(number, before)
    system.raise_if_stopped()  # nothing came since


@UNIX
@pytest.mark.usefixtures("interruptible")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_during_a_callback_of_the_garbage_collection_stops_the_command():
    def callback(phase, info):
        signal.raise_signal(signal.SIGTERM)

    def collect():
        gc.callbacks.append(callback)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(callback)
        system.raise_if_stopped()
        pytest.fail("went on")

    with pytest.raises(system.Stopped) as stop, system.stoppable():
        collect()
    assert stop.value.status == 143


def test_control_characters_are_printed_escaped(capsys):
    errors.say("\x1b[2J\u202egnp.exe\r\x9b\x7f\ttab\nline é 猫 👩\u200d💻")
    errors.complain("\x00\u2066name")
    printed = capsys.readouterr()
    assert printed.out == ("\\x1b[2J\\u202egnp.exe\\r\\x9b\\x7f\ttab\nline é 猫 👩\u200d💻\n")
    assert printed.err == "scorecam: \\x00\\u2066name\n"


def test_a_narrow_output_gets_what_it_can_hold(monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    system.prepare_streams()
    errors.say("energy ↑, drop ↓: é " + os.fsdecode(b"\xff.jpg"))
    assert output.buffer.getvalue() == b"energy ^, drop v: \\xe9 \\udcff.jpg\n"


def test_problems_are_told_at_a_bearable_length(capsys, monkeypatch):
    errors.complain("x" * 10**6)
    assert len(capsys.readouterr().err) < 3000
    monkeypatch.setattr(sys, "stderr", None)
    errors.complain("nobody hears")


@UNIX
def test_an_interrupt_while_the_command_is_imported_is_no_traceback():
    code = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "scorecam_jax.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
from scorecam_jax.__main__ import main
sys.meta_path.insert(0, Interrupt())
main()
"""
    done = in_a_process(code=code, stdout=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""
