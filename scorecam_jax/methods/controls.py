"""Maps that look at nothing: the baselines that any method must beat."""

from typing import Any, Unpack

import jax.numpy as jnp

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.masks import normalize
from scorecam_jax.steps.scores import logits


def uniform(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Output],
) -> Explanation:
    """Point everywhere equally: a heatmap of ones.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        **question: see `Output`. The score only determines the best class.
    """
    return run(uniform, _uniform, model, inputs, targets, question, score=logits, reads_layer=False)


def _uniform(context: Context) -> Found:
    maps = context.activations
    return Found(jnp.ones((len(maps), 1, *context.shape), maps.dtype))


def center(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Output],
) -> Explanation:
    """Point at the centre: a Gaussian of standard deviation half a side, scaled to [0, 1].

    Photographers put objects in the centre, so localization should be compared with this map too.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        **question: see `Output`. The score only determines the best class.

    Source: the centre-Gaussian baseline of Choe et al. 2020 (arXiv 2001.07437).
    """
    return run(center, _center, model, inputs, targets, question, score=logits, reads_layer=False)


def _center(context: Context) -> Found:
    maps, shape = context.activations, context.shape
    axes = [(2 * jnp.arange(size, dtype=maps.dtype) + 1) / size - 1 for size in shape]
    squares = [axis**2 for axis in jnp.meshgrid(*axes, indexing="ij")]
    heatmap = normalize(jnp.exp(-sum(squares) / 2), len(shape))
    return Found(jnp.broadcast_to(heatmap, (len(maps), 1, *shape)))
