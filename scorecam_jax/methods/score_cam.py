"""Score-CAM (Wang et al., CVPR Workshops 2020, arXiv 1910.01279)."""

from collections.abc import Callable, Sequence
from typing import Any, Unpack

from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Masking
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.interpolated import interpolated_score_cam
from scorecam_jax.methods.variants import Variant, check_kind, default_of
from scorecam_jax.steps.channels import Channels, interpolation_of
from scorecam_jax.steps.combine import into_range, largest_of, resize_scale_signed
from scorecam_jax.steps.interpolation import Interpolated
from scorecam_jax.steps.masks import is_live, with_empty_mask


def score_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    variant: Variant | None = None,
    channels: int | Channels | Interpolated | None = None,
    **masking: Unpack[Masking],
) -> Explanation:
    """Explain which parts of `inputs` raise the scores of `targets`.

    Each of a layer's K activation maps becomes a mask. The target's score on the masked input
    becomes the map's weight. The heatmap is the rectified weighted sum (Eqs. 6 to 10).

    Args:
        model: a `Model` from an adapter, or any function `inputs -> (outputs, activations)` with
            activations (B, *grid, K). Each function object is compiled once: pass the same one
            again rather than a new lambda.
        inputs: (B, *spatial, C), floating point, preprocessed as the model expects; signals,
            images or volumes.
        targets: None (each input's best class), an int, (B,), or (B, T) for T classes of each
            input, scored in the same masked passes. Under `jit`, values are not checked, and those
            out of range are clipped.
        variant: the published formula; see `scorecam_jax.variants`. None: OFFICIAL if `score`
            returns probabilities, INCREASE if not; see `variants.default_for`.
        channels: the masks to score. None: all. n, which is `Interpolated(n)`: score n, interpolate
            the scores of the others, and sum all maps; the explanation then has a `deviation`.
            Several layers share the n. `Deviation(n)` or `Gradient(n)`: score and sum n channels of
            each layer alone.
        **masking: `score`, `baseline`, `batch_size`, `channel_axis`, `mesh`, `remat` and `fuse`;
            see `Masking`. The default score is the variant's own: `jax.nn.softmax` for OFFICIAL,
            INCREASE and SIGNED.

    Returns:
        An `Explanation`.

    Raises:
        TypeError: `inputs` are not floating point.
        ValueError: `inputs`, `targets`, `channels` or the model's activations do not fit together.

    >>> import jax, jax.numpy as jnp
    >>> kernel = jnp.array([[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]])
    >>> def model(x):  # a toy network on signals of two channels
    ...     activations = jax.nn.relu(x @ kernel)
    ...     return activations.mean(1), activations
    >>> explanation = score_cam(model, jnp.array([[[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]]]), 0)
    >>> explanation.heatmap.shape, explanation.weights.shape
    ((1, 3), (1, 3))
    """
    named = variant is not None
    variant = variant or default_of(model, inputs, masking.get("score"))
    interpolated, channels = interpolation_of(channels)
    explanation = run(
        score_cam, _score_cam, model, inputs, targets, masking,
        score=variant.score, channels=channels, variant=variant, interpolated=interpolated,
        together=_score_cam_of_layers if interpolated else None,
        signed=variant.finish is resize_scale_signed,
    )  # fmt: skip
    if not named:
        check_kind(variant, masking.get("score"), explanation.confidence)
    return explanation


def _score_cam(context: Context, *, variant: Variant, interpolated: Interpolated | None) -> Found:
    # Phase 1: the activation maps, which `run` has computed, become masks.
    masks = variant.prepare(context.activations)
    if interpolated:
        (found,), deviation = interpolated_score_cam([context], variant, interpolated, sum_maps)
        return found._replace(deviation=deviation)

    # Phase 2: the targets' scores under each mask, and under an empty one.
    scores = context.score_masks(with_empty_mask(masks), variant.render)
    scores, empty = scores[..., :-1], scores[..., -1:]

    return sum_maps(context, variant, masks, scores, empty)


def _score_cam_of_layers(
    contexts: Sequence[Context],
    fuse: Callable[..., Any],
    *,
    variant: Variant,
    interpolated: Interpolated,
) -> tuple[tuple[Found, ...], Float[Array, "batch targets *spatial"]]:
    # The layers' masks share the passes.
    return interpolated_score_cam(contexts, variant, interpolated, sum_maps, fuse)


def sum_maps(
    context: Context,
    variant: Variant,
    masks: Float[Array, "batch *grid channels"],
    scores: Float[Array, "batch targets channels"],
    empty: Float[Array, "batch targets 1"],
) -> Found:
    """Phase 3: weight the maps by their masks' scores, sum them, and finish the sum.

    Args:
        context: the formula's argument.
        variant: the variant whose steps are used.
        masks: the maps after `variant.prepare`.
        scores: the targets' scores under each mask.
        empty: the targets' scores under an empty mask.
    """
    shape = context.shape
    weights = variant.weigh(scores, is_live(masks)[:, None], empty)
    # For an unlikely class or faint maps, the products of weights and maps would underflow. A
    # common factor does not change the heatmap.
    maps = context.activations
    relative, factor = into_range(weights, axes=[2], factors=largest_of(maps)[:, None])
    sums = variant.combine(maps, masks, relative, variant.render, shape)
    peak = variant.peak(sums) * factor[..., 0]
    heatmap = variant.finish(sums, shape)
    return Found(heatmap, weights, scores, peak, empty[..., 0], sums=sums)
