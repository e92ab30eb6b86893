"""A model of several layers: each of its layers alone, and the heatmaps of all fused."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.steps.fuse import Fusion, fuse_maps, geometric_mean


def layers_of(activations: Any) -> list[Any]:
    """The activations of each layer that a model shows."""
    return list(activations) if isinstance(activations, tuple | list) else [activations]


def one_layer(model: AnyModel, index: int, count: int) -> AnyModel:
    """A model that shows one of a model's layers."""
    return jax.tree_util.Partial(_OneLayer(index, count), model) if count > 1 else model


@dataclasses.dataclass(frozen=True)
class _OneLayer:
    index: int
    count: int

    def __call__(self, model: Any, inputs: Any, edit: Any = None) -> tuple[Any, Any]:
        if edit is None:
            outputs, layers = model(inputs)
        else:
            edits = tuple(edit if i == self.index else None for i in range(self.count))
            outputs, layers = model(inputs, edit=edits)
        return outputs, layers[self.index]


def fuse_found(
    fuse: Fusion, signed: bool, contexts: Sequence[Any], found: Sequence[Any]
) -> tuple[Float[Array, "batch targets *spatial"], Float[Array, "batch targets"]]:
    """The heatmap of several layers, in the image, and its peak.

    Args:
        fuse: how.
        signed: whether negative values of heatmaps are evidence against the target.
        contexts: the `Context` of each layer, from the finest on.
        found: what a formula found in each, a `Found`.

    Returns:
        The heatmap; and its maximum before it was scaled, times the geometric mean of the layers'
        peaks, so that it is in the unit of one layer's sum.
    """
    maps = [context.into_image(each.heatmap) for context, each in zip(contexts, found, strict=True)]
    sums = [
        plain if each.sums is None else each.sums for plain, each in zip(maps, found, strict=True)
    ]
    heatmap, size = fuse_maps(fuse, maps, sums, signed)
    peaks = [jnp.ones_like(size) if each.peak is None else each.peak for each in found]
    return heatmap, size * geometric_mean(jnp.stack(jnp.broadcast_arrays(*peaks)))
