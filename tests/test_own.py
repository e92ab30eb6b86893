"""The guide to networks of one's own: its files are written as they stand, and its commands run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "own.md").read_text("utf-8")
FILES = dict(re.findall(r"^```py\n# (\S+)\n(.*?)^```$", GUIDE, re.S | re.M))
COMMANDS = re.findall(r"^scorecam (.*)$", GUIDE, re.M)

pytestmark = pytest.mark.slow


@pytest.fixture
def run(here):
    for name, text in FILES.items():
        (here / name).write_text(text, encoding="utf-8")
    (here / "photographs").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (80, 100, 3), np.uint8)
        Image.fromarray(pixels).save(here / "photographs" / f"{number}.png")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}

    def run(*words):
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    return run


def test_an_nnx_network_restored_by_orbax_is_explained_reported_and_evaluated(run, here):
    pytest.importorskip("orbax.checkpoint")
    assert run("save_nnx.py").returncode == 0
    assert len(COMMANDS) == 4
    for command in COMMANDS:
        done = run("-m", "scorecam_jax", *command.split())
        assert done.returncode == 0, done.stderr
    made = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    assert {"heatmaps/0-scorecam.png", "report.html", "measured/table.csv"} <= made


@pytest.mark.parametrize("framework", ["equinox", "keras"])
def test_other_frameworks_are_explained(run, here, framework):
    pytest.importorskip(framework)
    model = f"mine_{framework}:classifier"
    done = run(
        "-m", "scorecam_jax", "explain", "photographs/0.png", "--model", model, "-o", "a.png"
    )
    assert done.returncode == 0, done.stderr
    assert (here / "a.png").exists()
