"""What CONTRIBUTING says of adding a method and an adapter is true."""

import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import METHODS, list_layers, score_cam
from scorecam_jax.methods import Entry

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
METHOD, ADAPTER = re.findall(r"^```python\n(.*?)^```$", TEXT, re.S | re.M)
(NAME, HOME, COST) = re.search(r'`"(\S+)": Entry\("(\S+)", "(\S+)"\)`', TEXT).groups()


def module(name, text, monkeypatch):
    made = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(text, name, "exec"), vars(made))
    return made


@pytest.fixture
def method(monkeypatch):
    """The method, with its line."""
    module(f"scorecam_jax.methods.{HOME.partition(':')[0]}", METHOD, monkeypatch)
    monkeypatch.setitem(METHODS.entries, NAME, Entry(HOME, COST))
    return METHODS[NAME]


def test_the_method_is_its_formula(method):
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    found = method(lambda x: (x.mean((1, 2)), x), maps)
    shares = (maps > 0).mean((1, 2))
    np.testing.assert_allclose(found.weights, shares, rtol=1e-6)
    sums = np.maximum(np.einsum("bijk,bk->bij", maps, shares), 0)
    expected = (sums - sums.min((1, 2), keepdims=True)) / np.ptp(sums, (1, 2), keepdims=True)
    np.testing.assert_allclose(found.heatmap, expected, atol=1e-5)
    assert METHODS.cost(NAME) == COST


def test_the_adapter_shows_the_layer_that_is_named(monkeypatch):
    adapter = module("adapter", ADAPTER, monkeypatch)
    random = np.random.default_rng(0)
    weights = {"first": random.normal(size=(3, 4)), "last": random.normal(size=(4, 2))}

    def layer(weights, x):
        return jax.nn.relu(x @ weights)

    def head(weights, x):
        return x.mean((1, 2)) @ weights

    model = adapter.from_layers({"first": layer, "last": head}, weights)
    images = random.normal(size=(2, 6, 5, 3))
    assert [info.path for info in list_layers(model, images) if info.default] == ["first"]
    named = adapter.from_layers({"first": layer, "last": head}, weights, "first")
    outputs, activations = named(images)
    expected = np.maximum(images @ weights["first"], 0)
    np.testing.assert_allclose(activations, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        outputs, expected.mean((1, 2)) @ weights["last"], rtol=1e-4, atol=1e-4
    )
    moved, _ = named(images, edit=jnp.zeros_like)
    np.testing.assert_array_equal(moved, np.zeros((2, 2)))
    assert score_cam(model, images.astype("float32"), 0).heatmap.shape == (2, 6, 5)


@pytest.mark.slow
def test_a_method_added_as_it_says_leaves_the_suite_green(tmp_path):
    """In a copy: the tests that go through all methods, of this one."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "notebooks", "site")
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=ignored)
    package = copy / "scorecam_jax"
    home, function = HOME.split(":")
    (package / "methods" / f"{home}.py").write_text(METHOD)
    entry = f'        "{NAME}": Entry("{HOME}", "{COST}"),'
    imported = f"    from scorecam_jax.methods.{home} import {function} as {function}"
    for file, after, line in (
        ("methods/__init__.py", "METHODS = Methods(\n    {\n", entry),
        ("__init__.py", "if TYPE_CHECKING:\n", imported),
    ):
        text = (package / file).read_text("utf-8")
        assert after in text
        (package / file).write_text(text.replace(after, f"{after}{line}\n"))
    files = (
        "fuzz/test_methods.py", "methods/test_cost.py", "engine/test_options.py", "test_docs.py",
        "test_public.py", "test_precision.py", "cli/test_methods.py", "cli/test_names.py",
    )  # fmt: skip
    wanted = f"{NAME} or {function} or reference_shows or names_for_the_help or listed_with"
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", wanted, *(f"tests/{name}" for name in files)],
        cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-4000:]
