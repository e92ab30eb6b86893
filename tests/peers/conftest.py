"""What every comparison with PyTorch needs."""

import importlib

import pytest


@pytest.fixture(scope="session")
def torchvision():
    """Torchvision, also where its compiled operators do not load; what is tested uses none."""
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
