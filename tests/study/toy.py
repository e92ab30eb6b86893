"""A small network with boxes and labels to evaluate on."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scorecam_jax.study import Batch
from scorecam_jax.models import Preprocess

SIZE = (16, 20)
LABELS = ("tench, Tinca tinca", "dog", "ox", "crane", "crane, machine")


@functools.cache
def model():
    mix = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)), jnp.float32)
    head = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5)), jnp.float32)

    def run(mix, head, x, edit=None):
        activations = jax.nn.relu(x[:, ::2, ::2] @ mix)
        if edit:
            activations = edit(activations)
        return activations.mean((1, 2)) @ head, activations

    return jax.tree_util.Partial(lambda weights, x, edit=None: run(*weights, x, edit), (mix, head))


class Toy(NamedTuple):
    model: Any
    preprocess: Any
    labels: tuple[str, ...] = LABELS


def toy(**options):
    return Toy(model(), Preprocess(SIZE, (127.0,) * 3, (64.0,) * 3, **options))


def batch(count, seed=0):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(count, *SIZE, 3)).astype(np.float32)
    boxes = np.zeros((count, 2, 4), np.float32)
    boxes[:, 0] = [2, 3, 10, 9]
    return Batch(inputs, generator.integers(0, 5, count), boxes)


CHEAP = ["average-drop", "energy", "box-acc"]
