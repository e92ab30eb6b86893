"""IS-CAM (Naidu et al. 2020, arXiv 2010.03023)."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Masking
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.score_cam import sum_maps
from scorecam_jax.methods.variants import OFFICIAL, Variant, default_for
from scorecam_jax.steps.channels import Channels
from scorecam_jax.steps.masks import with_empty_mask


def is_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    steps: int = 10,
    channels: int | Channels | None = None,
    **masking: Unpack[Masking],
) -> Explanation:
    """Weight each map by its mean score as its mask fades in: w_k = mean_j f(X ∘ j/N H_k)_c.

    Summed and finished as OFFICIAL. A score that is no probability weighs by its increase over the
    baseline's; see `variants.default_for`.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        steps: N. Each step costs as much as Score-CAM.
        channels: as in `score_cam`.
        **masking: see `Masking`. The default score is `jax.nn.softmax`.

    Source: Naidu et al. 2020 (arXiv 2010.03023).
    """
    variant = default_for(masking.get("score"))
    return run(
        is_cam, _is_cam, model, inputs, targets, masking,
        score=variant.score, channels=channels, variant=variant, steps=steps,
    )  # fmt: skip


def _is_cam(context: Context, *, variant: Variant, steps: int) -> Found:
    masks = variant.prepare(context.activations)
    shown = with_empty_mask(masks)

    def score(share: Array) -> Array:
        return context.score_masks(shown, Partial(_fade, share))

    scores = jax.lax.map(score, jnp.arange(1.0, steps + 1) / steps).mean(0)
    return sum_maps(context, variant, masks, scores[..., :-1], scores[..., -1:])


def _fade(
    share: Array, maps: Float[Array, "n *grid"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    return share * OFFICIAL.render(maps, shape)
