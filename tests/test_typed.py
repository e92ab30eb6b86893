"""A user's type checker reads the package as it is installed."""

import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROGRAM = """\
import jax
from flax import nnx
from scorecam_jax import METHODS, Explanation, Finding, diagnose, from_nnx, score_cam, variants
from scorecam_jax.visualize import overlay

def explain(network: nnx.Module, images: jax.Array) -> Explanation:
    return score_cam(from_nnx(network, "features"), images, [3, 7], variant=variants.PAPER)

def compare(network: nnx.Module, images: jax.Array) -> tuple[jax.Array, list[Finding]]:
    explanation = METHODS["grad-cam"](from_nnx(network), images)
    overlay(images[0], explanation.heatmap[0]).save("picture.png")
    return explanation.heatmap, list(diagnose(explanation))

def wrong(network: nnx.Module, images: jax.Array) -> str:
    score_cam(from_nnx(network), images, chanels=8)
    return score_cam(from_nnx(network), images)
"""


@pytest.mark.slow
def test_a_users_program_is_checked_by_the_installed_types(tmp_path):
    """In an environment that holds a copy of the package, as a wheel's installation leaves it."""
    venv.create(tmp_path / "env")
    places = {"base": str(tmp_path / "env"), "platbase": str(tmp_path / "env")}
    installed = Path(sysconfig.get_path("purelib", "venv", places))
    shutil.copytree(ROOT / "scorecam_jax", installed / "scorecam_jax")
    (installed / "others.pth").write_text("\n".join(site.getsitepackages()))
    (tmp_path / "program.py").write_text(PROGRAM)
    python = Path(sysconfig.get_path("scripts", "venv", places)) / Path(sys.executable).name
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "program.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    errors = [line for line in found.stdout.splitlines() if " error: " in line]
    assert len(errors) == 2, found.stdout + found.stderr
    assert '"chanels"' in errors[0]
    assert 'got "Explanation", expected "str"' in errors[1]
