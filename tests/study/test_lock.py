import os
import subprocess
import sys
from pathlib import Path

import pytest

from scorecam_jax.study.lock import alone_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")

HOLD = """
import sys, importlib.util
spec = importlib.util.spec_from_file_location("lock", sys.argv[1])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
from pathlib import Path
with lock.alone_in(Path(sys.argv[2])):
    print("there", flush=True)
    sys.stdin.read()
"""


def other_run(folder):
    """Another process that is in the folder until its standard input ends."""
    from scorecam_jax.study import lock

    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, lock.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"there\n"
    return process


def test_a_second_run_is_told_who_is_there(tmp_path):
    with other_run(tmp_path) as process:
        with pytest.raises(ValueError, match=f"process {process.pid} on "), alone_in(tmp_path):
            pass
        process.stdin.close()
    with alone_in(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_run_that_was_killed_keeps_nobody_out(tmp_path):
    with other_run(tmp_path) as process:
        process.kill()
    assert os.listdir(tmp_path) == [".lock"]
    with alone_in(tmp_path):
        assert Path(tmp_path, ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert os.listdir(tmp_path) == []


def test_a_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(KeyError), alone_in(tmp_path):
        raise KeyError
    with alone_in(tmp_path):
        pass
