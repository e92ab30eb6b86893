"""Poly-CAM (Englebert, Cornu and De Vleeschouwer 2022, arXiv 2204.13359)."""

import dataclasses
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax._internal.checks import check_baseline
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Masking
from scorecam_jax.engine.sharding import lay_out_like
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.variants import OFFICIAL, default_of
from scorecam_jax.steps.channels import Channels
from scorecam_jax.steps.masks import divide, resize, with_empty_mask
from scorecam_jax.steps.outputs import of_targets

FORMS = ("plus", "minus", "both")


def poly_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    form: str = "both",
    channels: int | Channels | None = None,
    **masking: Unpack[Masking],
) -> Explanation:
    """Weight maps by what their masks show and hide, and refine a coarse layer by finer ones.

    Each layer's map is ReLU(Σ_k w_k A_k). With the target's score f and a map's mask M, w is:

    - "plus", PCAM+: w = f(M ∘ X).
    - "minus", PCAM−: w = ReLU(f(X) − f((1 − M) ∘ X)).
    - "both", PCAM±: w = ReLU(f(M ∘ X) + f(X) − f((1 − M) ∘ X)).

    M is the map minus its .1 percentile, divided by its 99.9 percentile (not by the range), clipped
    to [0, 1] and resized. Starting from the last layer, each finer map is divided by its own local
    mean and multiplied by the map so far. This is `fuse="poly-cam"`, the default of this method;
    see `steps.fuse.poly_cam`. With a single layer, the result is that layer's map.

    Args:
        model: as in `score_cam`, best with several layers, such as an adapter's with `layers=n`.
            The authors use the last layer before each change of resolution.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        form: "plus", "minus" or "both".
        channels: None: all; n or `Gradient(n)`: n of each layer alone. n means `Deviation(n)`.
        **masking: see `Masking`. The default score is `jax.nn.softmax`. If the score is not a
            probability, the baseline's score is subtracted from f(M ∘ X); see
            `variants.default_for`.

    Raises:
        ValueError: no form has that name.

    Source: Englebert, Cornu and De Vleeschouwer 2022 (arXiv 2204.13359), and the authors' code,
    github.com/andralex8/polycam at 8003dc6.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}, wanted one of {', '.join(map(repr, FORMS))}")
    variant = default_of(model, inputs, masking.get("score"))
    return run(
        poly_cam, _poly_cam, model, inputs, targets, {"fuse": "poly-cam", **masking},
        score=variant.score, channels=channels, form=form, relative=variant is not OFFICIAL,
    )  # fmt: skip


def _poly_cam(context: Context, *, form: str, relative: bool) -> Found:
    masks = _between_percentiles(context.activations)
    whole = of_targets(context.confidence, context.targets)[..., None]
    weights: Any = 0.0
    if form != "minus":
        shown = context.score_masks(with_empty_mask(masks), resize)
        scores, empty = shown[..., :-1], shown[..., -1:]
        weights = scores - empty if relative else scores
    if form != "plus":
        # Input and baseline are swapped, so that the input shows where the mask is 0.
        blank = jnp.broadcast_to(
            check_baseline(context.baseline, context.inputs), context.inputs.shape
        ).astype(context.inputs.dtype)
        swapped = dataclasses.replace(
            context, inputs=lay_out_like(blank, context.inputs), baseline=context.inputs
        )
        hidden = swapped.score_masks(masks, resize)
        weights = jax.nn.relu(weights + whole - hidden)
    return context.finish_weighted(weights, hidden if form == "minus" else scores)


def _between_percentiles(
    maps: Float[Array, "batch *grid channels"],
) -> Float[Array, "batch *grid channels"]:
    places = jax.lax.collapse(maps, 1, -1)
    bounds = jnp.percentile(places, jnp.array([0.1, 99.9]), 1, keepdims=True)
    low, high = (jnp.expand_dims(bound, range(2, maps.ndim - 1)) for bound in bounds)
    high = jnp.maximum(high, 1e-12)
    # Clipped before the division, which would overflow for a large negative map.
    return divide((maps - low).clip(0, high), high)
