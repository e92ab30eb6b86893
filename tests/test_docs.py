"""The documentation holds: the README's code runs, and every public name is documented."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import pytest

import scorecam_jax

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(scorecam_jax.__path__, "scorecam_jax.")
    if not any(part.startswith("_") for part in info.name.split("."))
)


def test_every_python_block_of_the_readme_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 5
    namespace = {"__name__": "readme"}
    for number, block in enumerate(blocks, 1):
        with jax.numpy_rank_promotion("allow"):  # what a user has
            exec(compile(block, f"README.md, Python block {number}", "exec"), namespace)


@pytest.mark.parametrize("command", ["explain", "tests", "notebooks"])
def test_the_readme_gives_each_command_once(command):
    assert len(re.findall(rf"<!-- {command} -->\n```bash\n.+?\n```", README, re.S)) == 1


def public_names():
    for name in MODULES:
        module = importlib.import_module(name)
        yield name, module
        for attribute, value in vars(module).items():
            defined_here = getattr(value, "__module__", None) == name
            if attribute.startswith("_") or not defined_here:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{name}.{attribute}", value
            if inspect.isclass(value):
                for method, function in vars(value).items():
                    if not method.startswith("_") and inspect.isfunction(function):
                        yield f"{name}.{attribute}.{method}", function


@pytest.mark.parametrize(("name", "value"), list(public_names()))
def test_every_public_name_is_documented(name, value):
    doc = inspect.getdoc(value)
    assert doc
    # NamedTuples and dataclasses are given one that only repeats their fields.
    assert not doc.startswith(f"{name.rsplit('.')[-1]}(")


def test_what_the_package_exports_is_what_design_promises():
    for name in (
        "score_cam",
        "score_masks",
        "from_linen",
        "from_nnx",
        "list_layers",
        "Explanation",
    ):
        assert hasattr(scorecam_jax, name)
