"""Activations of a layer seen as a grid (N, *grid, K) that lies as the image does."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax

from scorecam_jax.program.positions import Arrangement, arrange_as
from scorecam_jax.steps.frames import Frame

Grid: TypeAlias = tuple[int, ...] | tuple[Callable[..., Any], Callable[..., Any]]


class ArrangedView(NamedTuple):
    """A view of activations whose places are known.

    Attributes:
        arrangement: how they lie over the image.
        channel_axis: where the grid has its channels.
    """

    arrangement: Arrangement
    channel_axis: int

    def to_grid(self, activations: jax.Array) -> jax.Array:
        """The grid."""
        return self.arrangement.to_grid(activations, self.channel_axis)

    def from_grid(self, grid: jax.Array, activations: jax.Array) -> jax.Array:
        """The inverse, with what is not of the grid taken from the activations."""
        return self.arrangement.from_grid(grid, activations, self.channel_axis)


class FunctionsView(NamedTuple):
    """A view by the caller's pair of functions."""

    there: Callable[..., Any]
    back: Callable[..., Any]

    def to_grid(self, activations: jax.Array) -> jax.Array:
        """The grid."""
        return self.there(activations)

    def from_grid(self, grid: jax.Array, activations: jax.Array) -> jax.Array:
        """The inverse."""
        return self.back(grid)


class Attended(NamedTuple):
    """What is known of an attention matrix (N, heads, queries, keys).

    Attributes:
        name: the matrix's, as `list_layers` tells it.
        keys: what makes a grid of what is told of the keys, (N, keys, K); None if none is known.
        frame: the part of the image that the grid lies over; None for all of it.
        reads_all: whether the outputs depend on all queries, and not on a class token's alone.
    """

    name: str
    keys: "View | None"
    frame: Frame | None
    reads_all: bool


View: TypeAlias = ArrangedView | FunctionsView


class Asked(NamedTuple):
    """The grid that a caller asks for: its sizes, or a pair of functions."""

    grid: tuple[Any, ...]

    @property
    def cells(self) -> int | None:
        """How many tokens the grid holds, if sizes were given."""
        return None if callable(self.grid[0]) else math.prod(self.grid)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether activations of this shape hold such a grid."""
        return self.cells is not None and len(shape) == 3 and shape[1] >= self.cells

    def arrange(self, shape: tuple[int, ...], image: Sequence[int]) -> Arrangement:
        """The last tokens as the grid, row by row.

        Raises:
            ValueError: there are fewer tokens than cells, or the grid has other axes.
        """
        if not self.accepts(shape):
            raise ValueError(
                f"the layer's activations have shape {shape}, wanted (N, tokens, K) with at "
                f"least {self.cells} tokens for {self}; a grid is (height, width) in patches, "
                "image size / patch size"
            )
        if len(self.grid) != len(image):
            raise ValueError(
                f"{self} has {len(self.grid)} sizes, and the image {len(image)} spatial axes: "
                "wanted one size for each"
            )
        assert self.cells is not None
        return arrange_as(image, self.grid, [range(len(image))], 2, shape[1] - self.cells)

    def __str__(self) -> str:
        return f"grid={self.grid}"
