"""Cases for fuzzing: values of every kind, and a network that never overflows."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from hypothesis import strategies as st

BATCH, GRID, CHANNELS, CLASSES = 2, (3, 4), 5, 3
SHAPE = tuple(2 * side for side in GRID)
DTYPES = ("float32", "float16", "bfloat16")


class Parameters(NamedTuple):
    """The network's parameters. `rate` scales the layer's activations to the range of tanh."""

    layer: jax.Array
    rate: jax.Array
    head: jax.Array
    offset: jax.Array


def network(parameters, inputs, edit=None):
    """Return logits and activations, which are means over 2 x 2 pixels, channel by channel."""
    rows, columns = GRID
    cells = inputs.reshape(len(inputs), rows, 2, columns, 2, CHANNELS)
    layer = jnp.expand_dims(parameters.layer, (0, 1, 2))
    activations = (cells / 4).sum((2, 4)) * layer
    if edit is not None:
        activations = edit(activations)
    seen = jnp.tanh(activations * jax.lax.stop_gradient(parameters.rate))
    return seen.mean((1, 2)) @ parameters.head + parameters.offset[None], activations


class Case(NamedTuple):
    """The arguments of a program. All are arrays, so that no value causes a recompilation.

    A heatmap's sum is multiplied by `unit` before it is differentiated.
    """

    parameters: Parameters
    inputs: np.ndarray
    targets: np.ndarray
    unit: np.ndarray


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The parameters of a case, for Hypothesis to print and to shrink."""

    kinds: tuple[tuple[str, ...], ...]
    size: float
    shares: tuple[float, ...]
    gap: float
    gain: float
    seed: int

    def make(self, dtype):
        """Make the case in a dtype."""
        random = np.random.default_rng(self.seed)
        limits = ml_dtypes.finfo(dtype)
        sizes = [_held(self.size * share, limits) for share in self.shares]
        maps = np.empty((BATCH, *GRID, CHANNELS), dtype)
        for image, kinds in enumerate(self.kinds):
            for channel, kind in enumerate(kinds):
                size = 1 if kind == "denormal" else sizes[channel]
                values = KINDS[kind](random, limits) * size
                maps[image, ..., channel] = values.astype(dtype)
        largest = np.abs(maps.astype(float)).max()
        rate = 1 / np.clip(largest, _held(1e-30, limits), _held(1e30, limits))
        head = random.normal(size=(CHANNELS, CLASSES))
        head *= self.gain / np.abs(head).sum(0)  # so that no logit exceeds the gain
        offset = np.zeros(CLASSES)
        offset[random.integers(CLASSES)] = self.gap
        values = (np.ones(CHANNELS), _power_of_two(rate), head, offset)
        return Case(
            Parameters(*(np.asarray(value, dtype) for value in values)),
            maps.repeat(2, 1).repeat(2, 2),
            random.integers(CLASSES, size=BATCH),
            # Half precision needs scaled losses, because slopes above 65504 overflow. A range may
            # be as small as the smallest number times a weight, and a map as large as 65504.
            np.float32(2.0**-50 if dtype == "float16" else 1),
        )


def _held(size, limits):
    """Clip a size so that it stays away from the ends of a type's range."""
    return float(np.clip(size, float(limits.tiny) * 16, float(limits.max) / 16))


def _power_of_two(value):
    return 2.0 ** np.floor(np.log2(value))


def _ulps(random, limits):
    return 1 + random.integers(0, 2, GRID) * float(limits.eps)


def _one_hot(random, limits):
    return (np.arange(12) == random.integers(12)).reshape(GRID) * 1.0


KINDS = {
    "dead": lambda random, limits: np.zeros(GRID),
    "minus zero": lambda random, limits: np.full(GRID, -0.0),
    "constant": lambda random, limits: np.full(GRID, 1.37),
    "one ulp apart": _ulps,
    "one-hot": _one_hot,
    "ties": lambda random, limits: random.integers(0, 3, GRID) / 2,
    "denormal": lambda random, limits: (
        random.integers(0, 9, GRID) * float(limits.smallest_subnormal)
    ),
    "negative": lambda random, limits: -random.uniform(0.1, 1, GRID),
    "rectified": lambda random, limits: np.maximum(random.normal(size=GRID), 0),
    "random": lambda random, limits: random.normal(size=GRID),
}
"""Channels by the kind of their values: (random, finfo) -> (*GRID)."""

_kinds = st.tuples(*[st.sampled_from(list(KINDS))] * CHANNELS)
_share = st.sampled_from([1.0, 1e-3, 1e3])

recipes = st.builds(
    Recipe,
    kinds=st.tuples(*[_kinds] * BATCH),
    size=st.sampled_from([1.0, 1e-27, 1e27]),
    # From 1e-30 to 1e30. Channels of 1 and 1e30 have derivatives of 1e60, which no type holds.
    shares=st.one_of(st.just((1.0,) * CHANNELS), st.tuples(*[_share] * CHANNELS)),
    gap=st.sampled_from([0.0, 2.0, 20.0, 38.0]),
    gain=st.sampled_from([1.0, 4.0, 0.0, 16.0]),
    seed=st.integers(0, 2**16),
)
