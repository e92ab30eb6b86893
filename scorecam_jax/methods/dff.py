"""Deep feature factorization (Collins, Achanta and Süsstrunk 2018, arXiv 1806.10206)."""

import dataclasses
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.engine.options import Passes, Running
from scorecam_jax.engine.sharding import explicit_mesh, replicate
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.combine import into_range
from scorecam_jax.steps.factors import factorize
from scorecam_jax.steps.masks import resize
from scorecam_jax.steps.scores import logits


def dff(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    concepts: int = 5,
    steps: int = 100,
    **passes: Unpack[Passes],
) -> Explanation:
    """Show the concept in an input's layer that is the strongest evidence for the target.

    The layer's values at all places, a matrix (places, K), are factorised into nonnegative maps
    (places, concepts) and vectors (concepts, K). The minimum of each channel is subtracted first
    and added to the vectors afterwards. A concept's score for a class is that of the layer filled
    with the concept's vector. The heatmap is the map of the concept with the largest score for the
    target. `scores` are those of all concepts, (B, [T,] concepts); `weights` are None. Each input
    is factorised separately. `find_concepts` factorises a batch and returns all maps.

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        concepts: the number of concepts.
        steps: the number of updates of the factors; see `steps.factors.factorize`.
        **passes: see `Passes`. The default score is the outputs themselves, the logits.

    Raises:
        ValueError: `concepts` is not positive.

    Source: Collins, Achanta and Süsstrunk 2018 (arXiv 1806.10206). The minimum and the class scores
    are those of `DeepFeatureFactorization` in pytorch-grad-cam 1.5.7, where scikit-learn factorises
    from a random start. The map's derivatives treat the factors as constants.
    """
    _check(concepts)
    return run(
        dff, _dff, model, inputs, targets, passes, score=logits, edits=True,
        concepts=concepts, steps=steps,
    )  # fmt: skip


class Concepts(NamedTuple):
    """The concepts into which the layer of a batch of inputs is factorised.

    Attributes:
        heatmaps: (B, n, *spatial), where each concept is, in [0, 1], at the inputs' size. 1 is the
            concept's strongest place in the whole batch.
        vectors: (n, K), the layer's values where a concept is strongest.
        scores: (n, classes), the scores of the layer filled with each vector.
    """

    heatmaps: Float[Array, "batch concepts *spatial"]
    vectors: Float[Array, "concepts channels"]
    scores: Float[Array, "concepts classes"]


def find_concepts(
    model: AnyModel, inputs: Any, *, concepts: int = 5, steps: int = 100, **passes: Unpack[Running]
) -> Concepts:
    """Factorise the layer of a batch of inputs together, so that they share their concepts.

    Args:
        model: as in `dff`, with a single layer.
        inputs: as in `dff`.
        concepts: as in `dff`.
        steps: as in `dff`.
        **passes: see `Running`. The default score is the outputs themselves, the logits.

    Raises:
        ValueError: `concepts` is not positive, or the model has several layers.

    Source: as `dff`.
    """
    _check(concepts)
    # Stand-ins for targets, so that each input has as many maps as concepts.
    _, images = split_inputs(model, inputs)
    places = jnp.zeros((len(images), concepts), int)
    found = run(
        find_concepts, _find, model, inputs, places, passes,
        score=logits, edits=True, steps=steps,
    )  # fmt: skip
    if found.layers is not None:
        raise ValueError(
            f"find_concepts factorises one layer, and the model has {len(found.activations)}: name "
            "one of them"
        )
    vectors, scores = jnp.asarray(found.weights), jnp.asarray(found.scores)
    return Concepts(found.heatmap, vectors[0], scores.mean(0))


def _check(concepts: int) -> None:
    if concepts < 1:
        raise ValueError(f"concepts={concepts}, wanted at least 1: 5 is usual")


def _dff(context: Context, *, concepts: int, steps: int) -> Found:
    layers = replicate(context.activations, explicit_mesh(context.inputs))
    maps, vectors = jax.vmap(lambda layer: _factors(layer[None], concepts, steps))(layers)
    scores = context.score_edits(Partial(_fill, vectors), concepts)
    best = jnp.expand_dims(scores.argmax(2), range(2, maps.ndim - 1))
    return context.finish(jnp.take_along_axis(maps[:, 0], best, 1), scores)


def _find(context: Context, *, steps: int) -> Found:
    batch, concepts = context.targets.shape
    layers = replicate(context.activations, explicit_mesh(context.inputs))
    maps, vectors = _factors(layers, concepts, steps)
    classes = jnp.arange(context.confidence.shape[1])
    every = dataclasses.replace(context, targets=jnp.broadcast_to(classes, (batch, len(classes))))
    shared = jnp.broadcast_to(vectors, (batch, *vectors.shape))
    scores = every.score_edits(Partial(_fill, shared), concepts)
    heatmaps = resize(maps, context.shape).clip(0, 1)
    return Found(heatmaps, shared, jnp.swapaxes(scores, 1, 2))


def _factors(
    layer: Float[Array, "batch *grid channels"], concepts: int, steps: int
) -> tuple[Float[Array, "batch concepts *grid"], Float[Array, "concepts channels"]]:
    """A layer's concepts: their maps, and the layer's values where each is strongest."""
    matrix = layer.reshape(-1, layer.shape[-1])
    # The squares of very large or small values would be out of range.
    scaled, size = into_range(matrix, axes=[0, 1], limit=0)
    low = scaled.min(0, initial=0 if not len(matrix) else None)
    shares, vectors = factorize(scaled - low[None], concepts, steps)
    maps = jnp.moveaxis(shares.reshape(*layer.shape[:-1], concepts), -1, 1)
    return maps, (vectors + low[None]) * size


def _fill(
    vectors: Float[Array, "batch concepts channels"],
    maps: Float[Array, "batch *grid channels"],
    number: Array,
) -> Float[Array, "batch *grid channels"]:
    """The layer with a concept's vector at all places."""
    vector = jnp.expand_dims(vectors[:, number], range(1, maps.ndim - 1))
    return jnp.broadcast_to(vector, maps.shape)
