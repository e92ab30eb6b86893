"""Models of several layers: select one layer, and fuse the heatmaps of all."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.steps.fuse import Fusion, fuse_maps, geometric_mean


def layers_of(activations: Any) -> list[Any]:
    """The activations of each layer that a model returns, as a list."""
    return list(activations) if isinstance(activations, tuple | list) else [activations]


def one_layer(model: AnyModel, index: int, count: int) -> AnyModel:
    """A model with only one of a model's layers."""
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
    """Fuse the heatmaps of several layers in the image, and compute the peak.

    Args:
        fuse: the fusion.
        signed: whether negative values of heatmaps are evidence against the target.
        contexts: the `Context` of each layer, the finest first.
        found: the `Found` of each layer.

    Returns:
        The heatmap; and its maximum before scaling, times the geometric mean of the layers' peaks,
        so that it has the unit of one layer's sum.
    """
    maps = [context.into_image(each.heatmap) for context, each in zip(contexts, found, strict=True)]
    sums = [
        plain if each.sums is None else each.sums for plain, each in zip(maps, found, strict=True)
    ]
    heatmap, size = fuse_maps(fuse, maps, sums, signed)
    peaks = [jnp.ones_like(size) if each.peak is None else each.peak for each in found]
    return heatmap, size * geometric_mean(jnp.stack(jnp.broadcast_arrays(*peaks)))
