"""Score-CAM in rounds: a map after the first few masks, refined until it is exact."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np

from scorecam_jax.contract.model import AnyModel, channel_axis_of
from scorecam_jax.contract.several import shapes_of
from scorecam_jax.engine.options import Masking
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.interpolated import next_round
from scorecam_jax.methods.score_cam import score_cam, sum_maps
from scorecam_jax.methods.several import layers_of
from scorecam_jax.methods.variants import Variant, default_of
from scorecam_jax.steps.combine import resize_scale_signed


def score_cam_round(
    model: AnyModel,
    inputs: Any,
    targets: Any,
    earlier: Explanation | None = None,
    *,
    count: int = 16,
    most: int | None = None,
    variant: Variant | None = None,
    **masking: Unpack[Masking],
) -> Explanation:
    """Score `count` more masks than the earlier round, none of them twice.

    The explanation's `scored` marks the masks scored so far. Once all live masks are scored, the
    heatmap is that of `score_cam`.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`, the same in each round.
        earlier: the explanation of the previous round, with the same arguments; None for the first
            round.
        count: the number of masks to score, of all layers together.
        most: choose masks and interpolate the scores of the others as `Interpolated` does, from at
            most this many known scores. None interpolates nothing and is faster: use it for rounds
            whose map is not shown, and for the last one. Until all masks are scored, its map is the
            sum over the scored ones.
        variant: as in `score_cam`.
        **masking: as in `score_cam`.

    Raises:
        TypeError, ValueError: as `score_cam`.
    """
    variant = variant or default_of(model, inputs, masking.get("score"))
    scores, scored = _nothing(model, inputs, targets, masking) if earlier is None else _of(earlier)
    return run(
        score_cam, _round, model, inputs, targets, masking,
        score=variant.score, together=_round_of_layers,
        signed=variant.finish is resize_scale_signed,
        variant=variant, scores=scores, scored=scored, count=count, most=most,
    )  # fmt: skip


def _round(context: Context, **options: Any) -> Found:
    (found,), deviation = next_round([context], sum_maps=sum_maps, **options)
    return found._replace(deviation=deviation)


def _round_of_layers(contexts: Sequence[Context], fuse: Callable[..., Any], **options: Any) -> Any:
    return next_round(contexts, fuse, sum_maps=sum_maps, **options)


def _nothing(model: Any, inputs: Any, targets: Any, masking: Any) -> tuple[Any, Any]:
    """The state before the first round: zero scores, and no mask scored."""
    layers = layers_of(shapes_of(model, inputs)[1])
    axis = channel_axis_of(model, masking.get("channel_axis"))
    channels = sum(layer.shape[axis] for layer in layers)
    batch = len(layers[0])
    each = math.prod(np.shape(targets)[1:])
    return np.zeros((batch, each, channels), np.float32), np.zeros((batch, channels), bool)


def _of(earlier: Explanation) -> tuple[Any, Any]:
    """The scores of all layers' masks, and which of them are scored."""
    if earlier.scores is None or earlier.scored is None:
        raise ValueError("the earlier explanation has no scores: pass one of score_cam_round")
    several = isinstance(earlier.scores, tuple)
    scores = earlier.scores if several else (earlier.scores,)
    scored = earlier.scored if several else (earlier.scored,)
    batch = len(scored[0])
    flat = [np.asarray(each).reshape(batch, -1, each.shape[-1]) for each in scores]
    return np.concatenate(flat, 2), np.concatenate([np.asarray(each) for each in scored], 1)
