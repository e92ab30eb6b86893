"""Damaged files of every kind: read or refused in words, in little time and memory."""

import json
import subprocess
import sys

import pytest

for package in ("nibabel", "pydicom", "tifffile"):
    pytest.importorskip(package)

SOME, MANY = 300, 3000


@pytest.mark.parametrize(
    "count", [SOME, pytest.param(MANY, id=f"{MANY}-many", marks=pytest.mark.fuzz)]
)
def test_damaged_files_are_read_or_refused(count):
    command = [sys.executable, "-m", "tests.fuzz.pictures", str(count), "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, content, problem in found["failures"]:
        pytest.fail(f"{len(found['failures'])} failures; {name}: {content}\n{problem}")
    seconds, slowest = found["slowest"]
    assert seconds < 2, slowest
    assert found["memory"] < 2 * 2**30
