import multiprocessing
import os
import time

import numpy as np
import pytest

from benchmarks.peers import CONTENDERS, race

INPUTS = np.zeros((1, 4, 4, 3), np.float32)


def at_once(name, weights, inputs):
    return lambda: time.sleep(0.05)


def late(name, weights, inputs):
    return lambda: time.sleep(0.2)


def large(name, weights, inputs):
    return lambda: np.ones(2 * 10**7).sum()


def absent(name, weights, inputs):
    raise ImportError("there is no such package")


def deadly(name, weights, inputs):
    return lambda: os._exit(9)


def asking(name, weights, inputs):
    assert (name, str(weights), inputs.shape) == ("resnet18", "mine.pth", (1, 4, 4, 3))
    return lambda: None


@pytest.mark.slow
def test_contenders_are_timed_apart_and_failures_told():
    contenders = {
        "at once": at_once, "absent": absent, "late": late, "deadly": deadly, "large": large,
        "asking": asking,
    }  # fmt: skip
    told = []
    rows = race(
        "resnet18",
        INPUTS,
        weights="mine.pth",
        contenders=contenders,
        repeats=3,
        progress=told.append,
    )
    assert list(rows) == list(contenders)
    assert rows["absent"] == {"error": "ImportError: there is no such package"}
    assert "terminated" in rows["deadly"]["error"]
    assert [len(rows[name]["all_seconds"]) for name in ("at once", "late", "asking")] == [3] * 3
    assert 0.2 <= rows["late"]["seconds"] == sorted(rows["late"]["all_seconds"])[1]
    assert rows["late"]["times"] == rows["late"]["seconds"] / rows["at once"]["seconds"]
    assert rows["at once"]["times"] == 1
    assert 1.2e8 < rows["large"]["bytes"] < 3e8
    assert rows["at once"]["bytes"] < 5e7
    assert told[-1] == "asking, run 3 of 3"
    assert not multiprocessing.active_children()


def test_without_the_first_there_is_nothing_to_compare_with():
    rows = race(
        "resnet18", INPUTS, weights="mine.pth", contenders={"absent": absent, "late": late},
        repeats=1,
    )  # fmt: skip
    assert "times" not in rows["late"]
    assert rows["late"]["seconds"] > 0


@pytest.mark.peers
@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_lite0",
        "resnet18",
        pytest.param("vit_tiny_patch16_224", marks=pytest.mark.slow),
    ],
)
def test_each_package_explains_the_bundled_networks(name):
    pytest.importorskip("torch", reason="times packages for PyTorch, which is not installed")
    side = 224 if "vit" in name else 64
    inputs = np.random.default_rng(0).uniform(-1, 1, (1, side, side, 3)).astype(np.float32)
    rows = race(name, inputs, repeats=1)
    assert list(rows) == list(CONTENDERS)
    assert [row.get("error") for row in rows.values()] == [None] * 3
