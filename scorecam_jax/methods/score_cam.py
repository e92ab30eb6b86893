"""Score-CAM (Wang et al., CVPR Workshops 2020, arXiv 1910.01279)."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

from scorecam_jax._internal import checks
from scorecam_jax._internal.trees import join_arrays
from scorecam_jax.engine.score_masks import score_masks
from scorecam_jax.engine.sharding import explicit_mesh, lay_out
from scorecam_jax.methods.base import Explanation, explain
from scorecam_jax.methods.variants import OFFICIAL, Variant
from scorecam_jax.steps.channels import Deviation, Gradient
from scorecam_jax.steps.masks import is_live, spatial_shape
from scorecam_jax.steps.outputs import class_scores, in_full_precision


def score_cam(
    model: Callable[..., Any],
    inputs: Any,
    targets: Any = None,
    *,
    variant: Variant = OFFICIAL,
    score: Callable[..., Any] | None = None,
    baseline: Any = 0.0,
    channels: int | Deviation | Gradient | None = None,
    batch_size: int | None = None,
    channel_axis: int = -1,
    mesh: Mesh | None = None,
    remat: bool = False,
) -> Explanation:
    """Explain which parts of `inputs` raise the scores of `targets`.

    Each of a layer's K activation maps becomes a mask; the target's score on the masked input
    becomes the map's weight; the heatmap is the rectified weighted sum (Eqs. 6 to 10).

    Args:
        model: a `Model` from an adapter, or any function `inputs -> (outputs, activations)` with
            activations (B, *grid, K). A function is compiled once for each identity: pass the same
            one again rather than a new lambda.
        inputs: (B, *spatial, C), floating point, preprocessed as the model expects; signals,
            images or volumes.
        targets: None (each input's best class), an int, (B,), or (B, T) for T classes of each
            input, scored in the same masked passes. Under `jit` values are not checked and those
            out of range are clipped.
        variant: which published formula; see `scorecam_jax.variants`.
        score: outputs -> (B, classes). None: the variant's own, `jax.nn.softmax` for OFFICIAL.
        baseline: what shows where a mask is 0; broadcasts against `inputs`.
        channels: None (all), n (the n channels of largest spatial deviation), or `Gradient(n)`.
        batch_size: masked inputs at a time; None chooses for the backend. Memory grows with it.
        channel_axis: of inputs and activations alike; 1 for channels-first models.
        mesh: split the masked inputs over all devices of this `jax.sharding.Mesh`. None takes the
            one over whose explicit axes `inputs` are sharded, if there is one.
        remat: recompute masked passes in the backward pass, to save memory.

    Returns:
        An `Explanation`.

    Raises:
        TypeError: `inputs` are not floating point.
        ValueError: `inputs`, `targets`, `channels` or the model's activations do not fit together.

    >>> kernel = jnp.array([[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]])
    >>> def model(x):  # a toy network on signals of two channels
    ...     activations = jax.nn.relu(x @ kernel)
    ...     return activations.mean(1), activations
    >>> explanation = score_cam(model, jnp.array([[[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]]]), 0)
    >>> explanation.heatmap.shape, explanation.weights.shape
    ((1, 3), (1, 3))
    """
    if isinstance(channels, int | np.integer):
        channels = Deviation(int(channels))
    return explain(
        _score_cam, (model, score or variant.score), inputs, targets, baseline,
        variant=variant, channels=channels, batch_size=batch_size, channel_axis=channel_axis,
        mesh=mesh, remat=remat,
    )  # fmt: skip


@functools.partial(
    jax.jit,
    static_argnames=(
        "static", "variant", "channels", "batch_size", "channel_axis", "mesh", "remat",
    ),
)  # fmt: skip
def _score_cam(  # type: ignore[no-untyped-def]
    arrays, inputs, targets, baseline, *,
    static, variant, channels, batch_size, channel_axis, mesh, remat,
):  # fmt: skip
    # With weights sharded over explicit axes, JAX would ask the model how to shard its results.
    if len(inputs):
        arrays = lay_out(arrays, mesh or explicit_mesh(inputs), PartitionSpec())
    model, score = join_arrays(arrays, static)
    shape = spatial_shape(inputs, channel_axis)

    # Phase 1: the activation maps, and the classes to explain.
    outputs, shown = checks.check_shown(model(inputs), inputs)
    activations = in_full_precision(jnp.moveaxis(shown, channel_axis, -1))
    confidence = class_scores(score, outputs, inputs.shape[0])
    if targets is None:
        targets = confidence.argmax(1)[:, None]
    chosen = _choose(channels, model, inputs, activations, targets, score, channel_axis)
    maps = _take(activations, chosen)

    # Phase 2: the targets' scores under each map as a mask, and under an empty one.
    masks = variant.prepare(maps)
    scores = score_masks(
        model, inputs, jnp.pad(masks, [(0, 0)] * (masks.ndim - 1) + [(0, 1)]), variant.render,
        score=score, targets=targets, baseline=baseline, batch_size=batch_size,
        channel_axis=channel_axis, mesh=mesh, remat=remat,
    )  # fmt: skip
    scores, empty = scores[..., :-1], scores[..., -1:]

    # Phase 3: the weighted sum of the maps.
    weights = variant.weigh(scores, is_live(masks)[:, None], empty)
    sums = variant.combine(maps, masks, weights, variant.render, shape)
    heatmap = variant.finish(sums, shape)

    weights, scores = (_put(values, chosen, activations.shape[-1]) for values in (weights, scores))
    return Explanation(heatmap, weights, scores, shown, outputs, targets), confidence


def _choose(channels, model, inputs, activations, targets, score, channel_axis):  # type: ignore[no-untyped-def]
    if channels is None:
        return None
    checks.check_channels(channels.count, activations.shape[-1])
    importance = channels(model, inputs, activations, targets, score, channel_axis)
    return jax.lax.top_k(importance, channels.count)[1]


def _take(activations: Array, chosen: Array | None) -> Array:
    if chosen is None:
        return activations
    index = chosen.reshape(len(chosen), *[1] * (activations.ndim - 2), -1)
    return jnp.take_along_axis(activations, index, -1)


def _put(values: Array, chosen: Array | None, count: int) -> Array:
    if chosen is None:
        return values
    index = jnp.broadcast_to(chosen[:, None], values.shape)
    zeros = jnp.zeros((*values.shape[:-1], count), values.dtype)
    return jnp.put_along_axis(zeros, index, values, -1, inplace=False)
