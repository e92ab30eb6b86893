"""Models whose classes are in a module, and a program that runs pickled ones from its input."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import pickle
import sys

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from scorecam_jax import per_input
from scorecam_jax.adapters import from_haiku, from_linen
from tests.adapters.networks import NETWORKS

IMAGES = np.random.default_rng(1).normal(size=(2, 6, 5, 3)).astype(np.float32)
META = np.ones((2, 4), np.float32)


class WithMeta(nn.Module):
    widths: list[int]

    @nn.compact
    def __call__(self, x, meta):
        for width in self.widths:
            x = nn.Conv(width, (3, 3))(x)
        return nn.Dense(3)(jnp.concatenate([x.mean((1, 2)), meta], -1))


def linen():
    module = WithMeta([4, 5])
    variables = jax.jit(module.init)(jax.random.key(0), IMAGES, META)
    return from_linen(module, variables, "Conv_1", per_input(META))


def adapt(name):
    network = NETWORKS[name]()
    return network.adapt(None), network.native(IMAGES)


def haiku_function(x):
    return hk.Conv2D(4, 3, name="conv")(x).mean((1, 2))


def haiku_of_a_function():
    transformed = hk.transform(haiku_function)
    params = transformed.init(jax.random.key(0), IMAGES)
    return from_haiku(transformed, params, "conv")


if __name__ == "__main__":
    cases = pickle.load(sys.stdin.buffer)
    results = [jax.tree.map(np.asarray, model(inputs)) for model, inputs in cases]
    pickle.dump(results, sys.stdout.buffer)
