"""Corrupted files are read as what they hold, or refused, in little memory and at once."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
@pytest.mark.parametrize(
    "count", [500, pytest.param(10_000, marks=pytest.mark.fuzz)], ids=["some", "many"]
)
def test_corrupted_checkpoints(count):
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.checkpoints.corrupt", str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    last = "\n".join(done.stdout.splitlines()[-1:])
    assert done.returncode == 0, f"failed at {last}: {done.stderr[-2000:]}"
    found = re.findall(r"(\w+): (\d+) files, (\d+) refused", done.stdout)
    assert [(name, int(files)) for name, files, _ in found] == [
        ("zip", count),
        ("legacy", count),
        ("safetensors", count),
    ]
    # Enough are damaged where it matters, and some remain whole.
    assert all(0.5 * count < int(refused) < count for _, _, refused in found)
