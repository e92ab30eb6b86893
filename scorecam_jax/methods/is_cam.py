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
from scorecam_jax.methods.variants import TORCHCAM, Variant, default_of
from scorecam_jax.steps.channels import Channels
from scorecam_jax.steps.masks import Render, with_empty_mask


def is_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    steps: int = 10,
    form: str = "mean",
    channels: int | Channels | None = None,
    **masking: Unpack[Masking],
) -> Explanation:
    """Weight each map by its mean score as its mask fades in: w_k = mean_j f(X ∘ j/N H_k)_c.

    The maps are summed and finished as in OFFICIAL. If the score is not a probability, its increase
    over the baseline's score is the weight; see `variants.default_for`.

    `ISCAM` of torch-cam has another formula, `form="torchcam"`: the factors accumulate, 1/N, 3/N,
    6/N, ..., and exceed 1; the weights are the softmax of the mean logits over all maps; masks and
    map are those of `variants.TORCHCAM`.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        steps: N. Each step costs as much as Score-CAM.
        form: "mean" or "torchcam".
        channels: None: all; n or `Gradient(n)`: n of them alone. n means `Deviation(n)`.
        **masking: see `Masking`. The default score is `jax.nn.softmax`, or the logits for
            "torchcam".

    Raises:
        ValueError: no form has that name.

    Source: Naidu et al. 2020 (arXiv 2010.03023); torch-cam at f44afef.
    """
    if form not in ("mean", "torchcam"):
        raise ValueError(f"form is {form!r}, wanted 'mean' or 'torchcam'")
    accumulate = form == "torchcam"
    variant = TORCHCAM if accumulate else default_of(model, inputs, masking.get("score"))
    return run(
        is_cam, _is_cam, model, inputs, targets, masking,
        score=variant.score, channels=channels, variant=variant, steps=steps,
        accumulate=accumulate,
    )  # fmt: skip


def _is_cam(context: Context, *, variant: Variant, steps: int, accumulate: bool) -> Found:
    masks = variant.prepare(context.activations)
    shown = with_empty_mask(masks)

    def score(share: Array) -> Array:
        return context.score_masks(shown, Partial(_fade, share, variant.render))

    shares = jnp.arange(1.0, steps + 1) / steps
    scores = jax.lax.map(score, jnp.cumsum(shares) if accumulate else shares).mean(0)
    return sum_maps(context, variant, masks, scores[..., :-1], scores[..., -1:])


def _fade(
    share: Array, render: Render, maps: Float[Array, "n *grid"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    return share * render(maps, shape)
