"""One heatmap from several layers, by a call of its own."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.several import split_inputs
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
    """Explain through each of a model's layers, and fuse the heatmaps.

    `method(model, inputs, targets, fuse=fuse, **options)` does the same, with another default: the
    product. This function insists on several layers, and its default is the mean.

    Args:
        model: a `Model` of several layers, from an adapter with `layer=[...]` or `layers=n`, or any
            function `inputs -> (outputs, (activations, ...))`.
        inputs: as `method` takes them.
        targets: as `method` takes them.
        fuse: how; see `scorecam_jax.engine.options.Fusing`.
        method: what explains one layer.
        **options: passed to `method`.

    Returns:
        An `Explanation` whose heatmap is the fused one; `layers` has that of each layer.

    Raises:
        TypeError: the model gives a single layer's activations.
    """
    alone, image = split_inputs(model, inputs)
    _, activations = jax.eval_shape(alone, image)
    if not isinstance(activations, tuple | list):
        raise TypeError(
            "fuse_layers takes a model of several layers, but this one gives a single array of "
            "activations; pass the adapter a list of paths, layer=['layer3', 'layer4'], or "
            "layers=2"
        )
    return method(model, inputs, targets, fuse=fuse, **options)
