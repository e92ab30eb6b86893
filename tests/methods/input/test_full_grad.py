"""FullGrad against its formula, with each bias and gradient written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import from_nnx
from scorecam_jax.methods.input.full_grad import full_grad
from scorecam_jax.steps.masks import resize_aligned
from tests import reference

TARGETS, RNG = (2, 0), np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 8, 6, 3)).astype("float32")


class Network(nnx.Module):
    """A convolution with a bias, a batch norm, a strided convolution, and a head."""

    def __init__(self, rngs):
        self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.second = nnx.Conv(4, 5, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(5, 3, rngs=rngs)
        for values in (self.first.bias, self.norm.mean, self.norm.bias, self.second.bias,
                       self.norm.scale, self.head.bias):  # fmt: skip
            values[...] = jnp.asarray(RNG.normal(size=values.shape), jnp.float32)
        self.norm.var[...] = jnp.asarray(RNG.uniform(0.5, 2, size=4), jnp.float32)

    def __call__(self, x):
        return self.head(nnx.relu(self.second(nnx.relu(self.norm(self.first(x))))).mean((1, 2)))


@functools.cache
def network():
    return Network(nnx.Rngs(0))


def taken_apart(x, taps):
    """The network's logits with a tap added where each bias is."""
    net = network()
    x = net.norm(net.first(x) + taps[0]) + taps[1]
    x = nnx.relu(net.second(nnx.relu(x)) + taps[2])
    return net.head(x.mean((1, 2)))


def biases():
    net = network()
    norm = net.norm.bias - net.norm.scale * net.norm.mean / jnp.sqrt(net.norm.var + 1e-5)
    return [np.asarray(each[...], float) for each in (net.first.bias, norm, net.second.bias)]


def shares():
    """What the input, and what each bias ahead of the head, contributes; (2, *grid, K) each."""
    network()
    taps = [jnp.zeros((2, 8, 6, 4)), jnp.zeros((2, 8, 6, 4)), jnp.zeros((2, 4, 3, 5))]

    def score(x, taps):
        logits = taken_apart(x, taps)
        return sum(logits[row, target] for row, target in enumerate(TARGETS))

    by_input, by_tap = jax.jit(jax.grad(score, (0, 1)))(jnp.asarray(IMAGES), taps)
    pairs = zip((by_input, *by_tap), (IMAGES, *biases()), strict=True)
    return [np.asarray(slope, float) * value for slope, value in pairs]


def test_full_grad_adds_what_each_layer_contributes():
    found = full_grad(from_nnx(network()), IMAGES, TARGETS)
    for row in range(2):
        total = np.zeros((8, 6))
        for share in shares():
            # Over all channels of the layer together.
            layer = reference.scale(np.abs(share[row])).sum(-1)
            total += np.asarray(resize_aligned(jnp.asarray(layer), (8, 6)))
        np.testing.assert_allclose(found.heatmap[row], reference.scale(total), atol=1e-4)


def test_the_contributions_sum_to_the_score():
    found = full_grad(from_nnx(network()), IMAGES, TARGETS)
    np.testing.assert_allclose(found.shortfall, 0, atol=1e-4)
    without = sum(share.sum((1, 2, 3)) for share in shares())
    head = np.asarray(network().head.bias[...])[list(TARGETS)]
    np.testing.assert_allclose(found.confidence, without + head, atol=1e-4)


@pytest.mark.slow
def test_several_targets_and_jit():
    both = jax.jit(full_grad)(from_nnx(network()), jnp.asarray(IMAGES), np.array([[2, 1], [0, 1]]))
    alone = full_grad(from_nnx(network()), IMAGES, TARGETS)
    np.testing.assert_allclose(both.heatmap[:, 0], alone.heatmap, atol=1e-4)
    assert both.heatmap.shape == (2, 2, 8, 6)
