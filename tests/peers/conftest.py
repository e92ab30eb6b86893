"""Fixtures of all comparisons with PyTorch."""

import importlib

import pytest


@pytest.fixture(scope="session")
def torchvision():
    """Torchvision, even if its compiled operators, which no test needs, do not load."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    try:
        return pytest.importorskip("torchvision", reason="its ResNets are not installed")
    except RuntimeError:
        # It registers these names, and refuses to be imported where they have no schema.
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        module = importlib.import_module("torchvision")
        module.operators = operators  # the schemas vanish with it
        return module
