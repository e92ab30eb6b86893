"""Token activations (N, tokens, K) seen as a grid (N, *grid, K)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

Grid: TypeAlias = tuple[int, ...] | tuple[Callable[..., Any], Callable[..., Any]]


class TokenView(NamedTuple):
    """A layer's tokens as a grid, and back.

    With sizes, the last `prod(sizes)` tokens are the grid's cells in row-major order, and those
    before them (class token, registers) pass it by.

    Attributes:
        grid: the grid's sizes, or a pair of functions `(to_grid, from_grid)`.
        channel_axis: where the grid has its channels.
    """

    grid: tuple[Any, ...]
    channel_axis: int

    @property
    def cells(self) -> int | None:
        """How many tokens the grid holds, if sizes were given."""
        return None if callable(self.grid[0]) else math.prod(self.grid)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether activations of this shape hold such a grid."""
        return self.cells is not None and len(shape) == 3 and shape[1] >= self.cells

    def to_grid(self, tokens: jax.Array) -> jax.Array:
        """(N, tokens, K) -> (N, *grid, K), or with the channels at `channel_axis`.

        Raises:
            ValueError: there are fewer tokens than cells.
        """
        if self.cells is None:
            return self.grid[0](tokens)
        if not self.accepts(tokens.shape):
            raise ValueError(
                f"the layer's activations have shape {tokens.shape}, wanted (N, tokens, K) with at "
                f"least {self.cells} tokens for {self}; a grid is (height, width) in patches, "
                "image size / patch size"
            )
        first = tokens.shape[1] - self.cells
        grid = tokens[:, first:].reshape(tokens.shape[0], *self.grid, tokens.shape[-1])
        return jnp.moveaxis(grid, -1, self.channel_axis)

    def from_grid(self, grid: jax.Array, tokens: jax.Array) -> jax.Array:
        """The inverse, with the tokens before the grid's taken from `tokens`."""
        if self.cells is None:
            return self.grid[1](grid)
        first = tokens.shape[1] - self.cells
        cells = jnp.moveaxis(grid, self.channel_axis, -1).reshape(tokens[:, first:].shape)
        return jnp.concatenate([tokens[:, :first], cells], axis=1)

    def __str__(self) -> str:
        return f"grid={self.grid}"
