"""The positions of patches: learned tables, resized to an input's grid, and rotations."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.layers import Tensors

Turns = tuple[Float[np.ndarray, "tokens features"], Float[np.ndarray, "tokens features"]]
Resizing = Literal["antialiased", "centres", "offset", "corners"]


class PositionTable(nnx.Module):
    """A learned position embedding for each patch, resized if the input's grid is different.

    Publishers resize their tables differently, always by cubic interpolation:

    - `"antialiased"`: the filter widens as the table shrinks. timm; DINOv2 with registers.
    - `"centres"`: PyTorch's bicubic interpolation, which reads only four neighbours per axis.
      transformers.
    - `"offset"`: the same, with the scale factor (new size + 0.1) / old size. The original DINOv2.
    - `"corners"`: the same, with the first and last positions aligned. torchvision.
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
    """Resize a table in float32 or wider, as `PositionTable` describes."""
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


def rotations(rows: int, columns: int, *, prefix: int, features: int, base: float) -> Turns:
    """The cosines and sines by which DINOv3 rotates queries and keys, one row per token.

    The angles grow from the image's centre along both axes, at `features / 4` frequencies from
    1 down to nearly 1 / base. The tokens before the patches are not rotated.

    Args:
        rows: the grid's rows.
        columns: the grid's columns.
        prefix: the number of tokens before the patches.
        features: the number of features of a head; a multiple of 4.
        base: the base of the frequencies.

    Source: Siméoni et al., DINOv3, 2025 (arXiv 2508.10104), after Su et al., RoFormer, 2021
    (arXiv 2104.09864).
    """
    places = [(np.arange(side) + 0.5) / side * 2 - 1 for side in (rows, columns)]
    centres = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, 2, 1)
    speeds = base ** -np.arange(0, 1, 4 / features)
    angles = np.tile((2 * np.pi * centres * speeds).reshape(rows * columns, -1), 2)
    angles = np.concatenate([np.zeros((prefix, features)), angles])
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def turned(
    x: Float[Array, "batch heads tokens features"], turns: Turns
) -> Float[Array, "batch heads tokens features"]:
    """Rotate queries or keys: feature i is paired with feature i + features / 2."""
    cosines, sines = (jnp.asarray(each, x.dtype)[None, None] for each in turns)
    first, second = jnp.split(x, 2, axis=-1)
    return x * cosines + jnp.concatenate([-second, first], axis=-1) * sines


def square(places: int, extra: int) -> tuple[int, int]:
    """Split a position table: how many entries precede its square grid, and the grid's side.

    Args:
        places: the number of entries in the table.
        extra: the most entries that may precede the grid.

    Raises:
        ValueError: no square grid remains.
    """
    for beside in range(min(extra, places - 1) + 1):
        side = math.isqrt(places - beside)
        if side**2 == places - beside:
            return beside, side
    raise ValueError(
        f"a table of {places} positions fits no square grid with up to {extra} class and register "
        "tokens: checkpoints with other grids are not supported"
    )


def _bicubic(old: int, new: int, resizing: Resizing) -> Float[np.ndarray, "new old"]:
    """The weight of each old position in each new one; the edge is repeated beyond the edge."""
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
    """Keys's kernel with PyTorch's a = -0.75 (IEEE TASSP 29, 1981, equation 15)."""
    a = -0.75
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, far)
