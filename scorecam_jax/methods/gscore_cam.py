"""gScoreCAM (Chen et al., ACCV 2022)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Masking
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.variants import TF_KERAS_VIS
from scorecam_jax.steps.scores import logits
from scorecam_jax.steps.weights import softmax_of_chosen


def gscore_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    count: int = 300,
    among: str = "all",
    **masking: Unpack[Masking],
) -> Explanation:
    """Weight the maps with the largest mean gradients by the softmax of their scores.

    The `count` maps with the largest mean gradient become masks, as in Score-CAM. The weights are
    the softmax of their scores: over "all" maps, with score 0 for those not chosen, as in the
    authors' code; or over the "chosen" alone, so that the others have weight 0. For CLIP's scores,
    cosines times 100, the two hardly differ. For probabilities, the softmax over all is nearly
    uniform: the map is then close to the plain sum of the maps.

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. Each target has its own masks, so T targets take T times as many
            passes.
        count: the number of maps that become masks; all maps, if there are fewer.
        among: the maps of the softmax, "all" or "chosen".
        **masking: see `Masking`. The default score is the outputs themselves, the logits.

    Raises:
        ValueError: `count` is not positive, or `among` is neither of the two.

    Source: Chen, Li, Biaz, Bui and Nguyen 2022 (ACCV); the authors' code,
    github.com/anguyen8/gScoreCAM at 87c35a1. As there, masks are resized with aligned corners. For
    a batch, the authors' code uses the maps chosen for the first image; here each image has its
    own.
    """
    if count < 1:
        raise ValueError(f"count={count}, wanted at least 1: the authors take 300")
    if among not in ("all", "chosen"):
        raise ValueError(f"among is {among!r}, wanted 'all' or 'chosen'")
    return run(
        gscore_cam, _gscore_cam, model, inputs, targets, masking,
        score=logits, gradients=True, count=count, of_all=among == "all",
    )  # fmt: skip


def _gscore_cam(context: Context, *, count: int, of_all: bool) -> Found:
    masks = TF_KERAS_VIS.prepare(context.activations)
    importance = context.gradients.mean(context.space)
    chosen = jax.lax.top_k(importance, min(count, importance.shape[-1]))[1]
    index = jnp.expand_dims(chosen, range(1, masks.ndim - 1))
    own = jnp.take_along_axis(masks[..., None, :], index, -1)
    found, _ = context.score_own_masks(own, TF_KERAS_VIS.render)

    places = jax.nn.one_hot(chosen, importance.shape[-1])
    scores = (places * found[..., None]).sum(2)
    weights = softmax_of_chosen(scores, (places.sum(2) > 0) | of_all)
    return context.finish_weighted(weights, scores)
