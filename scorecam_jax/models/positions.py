"""Learned tables of positions, and their resizing to the grid of an input."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.layers import Tensors

Resizing = Literal["antialiased", "centres", "offset", "corners"]


class PositionTable(nnx.Module):
    """What is added to the patch at each place, resized where the grid is another.

    Publishers resize their tables differently, always by cubic interpolation:

    - `"antialiased"`: the filter widens as the table shrinks. timm; DINOv2 with registers.
    - `"centres"`: PyTorch's bicubic interpolation, which only looks at four neighbours.
      transformers.
    - `"offset"`: the same, with the sizes taken as larger by 0.1. The original DINOv2.
    - `"corners"`: the same, with the first and last places held fixed. torchvision.
    """

    def __init__(self, cells: tuple[int, int], width: int, resizing: Resizing, *, rngs: nnx.Rngs):
        values = jax.random.normal(rngs.params(), (*cells, width))
        self.table = nnx.Param(0.02 * values)
        self.resizing = resizing

    def __call__(self, rows: int, columns: int) -> Float[Array, "rows columns width"]:
        """The table for a grid of this size."""
        return resize(self.table[...], (rows, columns), self.resizing)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The table."""
        return {"table": self.table.shape}

    def fill(self, tensors: Tensors) -> None:
        """Take the table."""
        self.table = nnx.Param(jnp.asarray(tensors["table"]))


def resize(
    table: Float[Array, "rows columns width"], cells: tuple[int, int], resizing: Resizing
) -> Float[Array, "newrows newcolumns width"]:
    """A table at another size, in float32 at least, as `PositionTable` describes."""
    old = table.shape[:2]
    if old == cells:
        return table
    table = table.astype(jnp.promote_types(table.dtype, jnp.float32))
    if resizing == "antialiased":
        shape = (*cells, table.shape[-1])
        return jax.image.resize(table, shape, "cubic", antialias=True, precision="highest")
    rows, columns = (
        jnp.asarray(_bicubic(before, after, resizing), table.dtype)
        for before, after in zip(old, cells, strict=True)
    )
    return jnp.einsum("ir,jc,rcw->ijw", rows, columns, table, precision="highest")


def square(places: int, extra: int) -> tuple[int, int]:
    """How many tokens beside a square grid a table has places for, and the side of the grid.

    Args:
        places: in the table.
        extra: the most tokens beside the grid.

    Raises:
        ValueError: whatever is taken off, no square remains.
    """
    for beside in range(min(extra, places - 1) + 1):
        side = math.isqrt(places - beside)
        if side**2 == places - beside:
            return beside, side
    raise ValueError(
        f"a table of {places} positions is that of no square grid, with up to {extra} more for "
        "class and register tokens: checkpoints of other grids are not read"
    )


def _bicubic(old: int, new: int, resizing: Resizing) -> Float[np.ndarray, "new old"]:
    """The share of each old place in each new one; beyond the edge the edge is repeated."""
    places: Float[np.ndarray, " new"]
    if resizing == "corners":
        places = np.linspace(0, old - 1, new)
    else:
        larger = 0.1 if resizing == "offset" else 0.0
        places = (np.arange(new) + 0.5) * (old / (new + larger)) - 0.5
    shares = np.zeros((new, old))
    for shift in (-1, 0, 1, 2):
        neighbours = np.floor(places) + shift
        inside = np.clip(neighbours, 0, old - 1).astype(int)
        shares[np.arange(new), inside] += _cubic(np.abs(places - neighbours))
    return shares


def _cubic(distance: Float[np.ndarray, " places"]) -> Float[np.ndarray, " places"]:
    """Keys's kernel with a = -0.75, as PyTorch has it (IEEE TASSP 29, 1981, equation 15)."""
    a = -0.75
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, far)
