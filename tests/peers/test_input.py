"""Gradients by the input against captum's, through a network of the same weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import gradient, gradient_times_input, integrated_gradients
from tests import reference
from tests.agreement import note_method

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

pytestmark = pytest.mark.peers

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(2, 4, 5, 3)).astype("float32")
HIDDEN = RNG.normal(size=(60, 8)).astype("float32") / 4
HEAD = RNG.normal(size=(8, 3)).astype("float32")
TARGET = 1


def ours(x):
    return jnp.tanh(x.reshape(len(x), -1) @ HIDDEN) @ HEAD, x


def theirs(x):
    return torch.tanh(x.reshape(len(x), -1) @ torch.tensor(HIDDEN)) @ torch.tensor(HEAD)


def total(attributions):
    return attributions.sum(-1)


def largest(attributions):
    return attributions.max(-1)


@pytest.mark.parametrize(
    ("method", "kind", "options", "reduce"),
    [
        (gradient, "Saliency", {}, largest),
        (gradient_times_input, "InputXGradient", {}, total),
        (integrated_gradients, "IntegratedGradients", {"n_steps": 50}, total),
    ],
)
def test_equals_captum(method, kind, options, reduce, record_property):
    package = pytest.importorskip("captum.attr", reason="captum is not installed")
    inputs = torch.tensor(INPUTS, requires_grad=True)
    found = getattr(package, kind)(theirs).attribute(inputs, target=TARGET, **options)
    maps = reduce(found.detach().numpy().astype(float))
    expected = [reference.scale(np.maximum(one, 0)) for one in maps]
    difference = np.abs(method(ours, INPUTS, TARGET).heatmap - np.array(expected)).max()
    note_method(record_property, method, f"captum's {kind}", "two layers, random", difference)
    assert difference <= 2e-6


def test_what_integrated_gradients_miss_is_captums():
    package = pytest.importorskip("captum.attr", reason="captum is not installed")
    _, expected = package.IntegratedGradients(theirs).attribute(
        torch.tensor(INPUTS), target=TARGET, n_steps=3, return_convergence_delta=True
    )
    found = integrated_gradients(ours, INPUTS, TARGET, steps=3).shortfall
    np.testing.assert_allclose(found, expected, atol=2e-6)
