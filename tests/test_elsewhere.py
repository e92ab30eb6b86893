"""Windows and macOS, as far as a Linux machine can tell."""

import io
import os
import signal
import subprocess
import sys
from pathlib import PurePosixPath, PureWindowsPath

import pytest

from scorecam_jax.cli import system
from scorecam_jax.reading.labels import class_of_folder
from scorecam_jax.study import outputs

# Python on Windows has none of these modules and signals. Other packages' use of them is theirs.
AS_ON_WINDOWS = """
import pkgutil, importlib, signal, sys
import flax.nnx, flax.linen, jax, keras, optax, PIL.Image, equinox, haiku
for name in ("fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "pthread_kill", "setitimer"):
    delattr(signal, name)
import scorecam_jax
for module in pkgutil.walk_packages(scorecam_jax.__path__, "scorecam_jax."):
    importlib.import_module(module.name)
from scorecam_jax.study import lock
from pathlib import Path
with lock.alone_in(Path(sys.argv[1])):
    pass
from scorecam_jax.cli.main import main
sys.exit(main(["methods"]))
"""


@pytest.mark.slow
def test_modules_and_signals_that_windows_lacks_are_not_needed(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", AS_ON_WINDOWS, str(tmp_path)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "score-cam" in found.stdout
    assert os.listdir(tmp_path) == []


def test_names_made_of_folders_have_no_drive():
    assert outputs.folder_names(PureWindowsPath(r"C:\birds\crane\1.jpg")) == ["birds", "crane"]
    assert outputs.folder_names(PureWindowsPath(r"\\server\share\crane\1.jpg")) == ["crane"]
    assert outputs.folder_names(PureWindowsPath(r"..\birds\1.jpg")) == ["birds"]
    assert outputs.folder_names(PurePosixPath("/birds/1.jpg")) == ["birds"]


def test_a_folder_names_the_class_whatever_the_slashes():
    # `find` names photographs by `as_posix`.
    name = PureWindowsPath(r"C:\birds\crane\1.jpg").as_posix()
    assert class_of_folder(name, ["tench", "crane"]) == 1


def test_a_backslash_ends_a_folders_name_where_it_separates(monkeypatch):
    assert not outputs.is_folder("maps.old\\")
    monkeypatch.setattr(os, "sep", "\\")
    assert outputs.is_folder("maps.old\\")


@pytest.mark.skipif(sys.platform == "win32", reason="borrows a signal that Windows lacks")
def test_ctrl_break_stops_the_command_in_an_orderly_way(monkeypatch):
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(system.Stopped) as stop, system.stoppable():
        signal.raise_signal(signal.SIGUSR1)
    assert stop.value.reason == "terminated"
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_windows_terminal_gets_what_its_code_page_holds(monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="\r\n")
    monkeypatch.setattr(sys, "stdout", output)
    system.prepare_streams()
    print("energy ↑ ± 0.1, 7 × 7, 日本.jpg", flush=True)
    text = output.buffer.getvalue().decode("cp1252")
    assert text == "energy ^ ± 0.1, 7 × 7, \\u65e5\\u672c.jpg\r\n"
