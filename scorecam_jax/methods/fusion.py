"""One heatmap from several layers, by a separate function."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.several import shapes_of
from scorecam_jax.methods.base import Explanation
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.steps.fuse import Fusion


def fuse_layers(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    fuse: Fusion = jnp.mean,
    method: Callable[..., Explanation] = score_cam,
    **options: Any,
) -> Explanation:
    """Explain each of a model's layers, and fuse the heatmaps.

    `method(model, inputs, targets, fuse=fuse, **options)` does the same, but its default is the
    product. This function requires several layers, and its default is the mean.

    Args:
        model: a `Model` of several layers, from an adapter with `layer=[...]` or `layers=n`, or any
            function `inputs -> (outputs, (activations, ...))`.
        inputs: as in `method`.
        targets: as in `method`.
        fuse: the fusion; see `scorecam_jax.engine.options.Fusing`.
        method: the method.
        **options: passed to `method`.

    Returns:
        An `Explanation` with the fused heatmap; `layers` has each layer's own.

    Raises:
        TypeError: the model returns the activations of a single layer.
    """
    _, activations = shapes_of(model, inputs)
    if not isinstance(activations, tuple | list):
        raise TypeError(
            "fuse_layers takes a model of several layers, but this one returns a single array of "
            "activations; pass the adapter a list of paths, layer=['layer3', 'layer4'], or "
            "layers=2"
        )
    return method(model, inputs, targets, fuse=fuse, **options)
