"""The part of the image that a layer sees, and placing the layer's maps in the image."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

Box = tuple[tuple[int, int], ...]


class Frame(NamedTuple):
    """Where a layer's cells lie in the image, in pixels.

    A network that crops its image sees a part of it. Maps and masks of the layer are made for the
    frame and then placed in the image. Outside the frame its edge is repeated.

    Attributes:
        box: the first and last pixel edge of the cells along each axis; also beyond the image.
        seen: the first and last pixel edge that the network reads.
    """

    box: Box
    seen: Box

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the frame."""
        return tuple(high - low for low, high in self.box)

    def into_image(
        self, maps: Float[Array, "*batch_and_frame"], shape: Sequence[int]
    ) -> Float[Array, "*batch_and_spatial"]:
        """Place maps of the frame in images of these sizes."""
        ahead = maps.ndim - len(shape)
        sides = list(zip(self.box, shape, strict=True))
        kept = [slice(max(-low, 0), min(high, size) - low) for (low, high), size in sides]
        beside = [(max(low, 0), max(size - high, 0)) for (low, high), size in sides]
        inside = maps[(..., *kept)]
        return jnp.pad(inside, [(0, 0)] * ahead + beside, mode="edge")

    def is_seen(self, shape: Sequence[int]) -> Bool[np.ndarray, "*spatial"]:
        """Which pixels of an image of these sizes the network reads."""
        seen = np.zeros(tuple(shape), bool)
        seen[tuple(slice(max(low, 0), max(high, 0)) for low, high in self.seen)] = True
        return seen


def frame_of(
    box: Sequence[tuple[float, float]],
    seen: Sequence[tuple[float, float]] | None,
    shape: Sequence[int],
) -> Frame | None:
    """The frame of a box, in whole pixels; None if it is the image, all of which is seen.

    Args:
        box: from which pixel to which a layer's cells lie, along each axis.
        seen: from which to which the network reads the image, if that is known.
        shape: the sizes of the image.
    """
    whole = tuple((0, size) for size in shape)
    rounded = tuple((round(low), max(round(high), round(low) + 1)) for low, high in box)
    read = whole if seen is None else tuple((round(low), round(high)) for low, high in seen)
    return None if rounded == read == whole else Frame(rounded, read)
