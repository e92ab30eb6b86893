"""A tiny convolutional network for inputs of any rank, with two constant channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.methods import METHODS

CHANNELS, CLASSES = 6, 3
DEAD, CONSTANT = 1, 4

ON_THE_SAME_PATHS = {
    "grad-cam-elementwise", "shapley-cam", "eigen-grad-cam", "seg-eigen-cam", "kpca-cam", "lafam",
    "fem", "gradient", "gradient-times-input", "smooth-grad", "finer-cam", "gscore-cam", "poly-cam",
    "smooth-grad-cam++", "full-grad", "dff",
}  # fmt: skip
"""Methods that differ from others only in their formula. General tests of these are marked slow."""

EVERY = [
    pytest.param(name, marks=pytest.mark.slow) if name in ON_THE_SAME_PATHS else name
    for name in METHODS.of_any_network()
]
"""The methods for any network, as arguments of `pytest.mark.parametrize`."""


def network(rank=2, channels_first=False):
    """A Model with signed activations of half the input's size, constant in channels 1 and 4."""
    random = np.random.default_rng(rank)
    kernel = random.normal(size=(*[3] * rank, 2, CHANNELS)).astype("float32")
    kernel[..., [DEAD, CONSTANT]] = 0
    bias = random.normal(size=CHANNELS).astype("float32")
    bias[DEAD], bias[CONSTANT] = 0, 0.7
    head = random.normal(size=(CHANNELS, CLASSES)).astype("float32") * 2
    forward = _channels_first if channels_first else _channels_last
    return jax.tree_util.Partial(forward, *map(jnp.asarray, (kernel, bias, head)))


def _channels_last(kernel, bias, head, x, edit=None):
    rank = kernel.ndim - 2
    letters = "DHW"[3 - rank :]
    x = jax.lax.conv_general_dilated(
        x, kernel.astype(x.dtype), [2] * rank, "SAME",
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )  # fmt: skip
    activations = x + jnp.expand_dims(bias, range(rank + 1)).astype(x.dtype)
    if edit is not None:
        activations = edit(activations)
    pooled = jax.nn.relu(activations).mean(tuple(range(1, rank + 1)))
    return pooled @ head.astype(x.dtype), activations


def _channels_first(kernel, bias, head, x, edit=None):
    assert edit is None
    logits, activations = _channels_last(kernel, bias, head, jnp.moveaxis(x, 1, -1))
    return logits, jnp.moveaxis(activations, -1, 1)


def images(rank=2, batch=2, seed=0):
    """Inputs (batch, *spatial, 2), whose sides all differ."""
    shape = {1: (13,), 2: (9, 14), 3: (5, 8, 6)}[rank]
    return np.random.default_rng(seed).normal(size=(batch, *shape, 2)).astype("float32")
