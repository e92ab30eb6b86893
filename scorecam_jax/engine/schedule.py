"""The order in which pairs of an input and a mask are scored, and on which device."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Schedule(NamedTuple):
    """An order in which to score pairs, and the way back.

    Pair number b · K + k is input b under mask k.

    Attributes:
        pairs: (chunks, size, devices), the pairs of each chunk; devices score a chunk's columns.
            Where there are fewer pairs than places, the first pairs fill the rest.
        due: (chunks, 1), whether a chunk contains a pair that needs its own pass.
        source: (B, K), the position of each pair's score in the flattened results.
    """

    pairs: Int[Array, "chunks size devices"]
    due: Bool[Array, "chunks 1"]
    source: Int[Array, "batch masks"]

    def collect(
        self, scores: Float[Array, "places targets"]
    ) -> Float[Array, "batch masks targets"]:
        """Return scores to the order of the masks."""
        return scores[self.source]


def schedule(live: Bool[Array, "batch masks"], size: int, devices: int = 1) -> Schedule:
    """Order the pairs so that those that need a pass come first, spread over the devices.

    A live mask needs a pass. Of an input's empty masks, which all show the same, the first one
    does. Consecutive pairs go to consecutive devices, so that each device gets its share.

    Args:
        live: (B, K), which masks are not zero.
        size: pairs per chunk and device.
        devices: how many devices score a chunk together.

    >>> schedule(jnp.array([[True, False, True, False]]), size=2).source.tolist()
    [[0, 1, 2, 1]]
    """
    needed = live | (jnp.cumsum(~live, 1) == 1)
    order = jnp.argsort(~needed.reshape(-1), stable=True)
    chunks = -(-live.size // (size * devices))
    place = jnp.argsort(order).reshape(live.shape)
    first_empty = jnp.take_along_axis(place, jnp.argmin(live, 1)[:, None], 1)
    return Schedule(
        pairs=jnp.resize(order, (chunks, size, devices)),
        due=(jnp.arange(chunks) * size * devices < needed.sum())[:, None],
        source=jnp.where(live, place, first_empty),
    )
