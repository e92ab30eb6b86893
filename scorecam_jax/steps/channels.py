"""Choosing some of a layer's channels, when all are too many."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from scorecam_jax._internal.checks import check_edit
from scorecam_jax.steps.outputs import class_scores, select


@dataclasses.dataclass(frozen=True)
class Deviation:
    """The `count` channels whose activations deviate most over space.

    Source: Faster-Score-CAM (tabayashi0117/Score-CAM's `max_N`).
    """

    count: int

    def __call__(
        self,
        model: Callable[..., Any],
        inputs: Float[Array, "batch ..."],
        activations: Float[Array, "batch *grid channels"],
        targets: Int[Array, "batch targets"],
        score: Callable[..., Any],
        channel_axis: int,
    ) -> Float[Array, "batch channels"]:
        """Return each channel's standard deviation over space."""
        return activations.std(tuple(range(1, activations.ndim - 1)))


@dataclasses.dataclass(frozen=True)
class Gradient:
    """The `count` channels that raise the targets' scores most.

    A channel's importance is Σ gradient · activation over space, to first order what the score
    loses when the channel is removed; with several targets, of the one that loses most. It takes
    one backward pass for each target, and a model that takes `edit`.
    """

    count: int

    def __call__(
        self,
        model: Callable[..., Any],
        inputs: Float[Array, "batch ..."],
        activations: Float[Array, "batch *grid channels"],
        targets: Int[Array, "batch targets"],
        score: Callable[..., Any],
        channel_axis: int,
    ) -> Float[Array, "batch channels"]:
        """Return each channel's first-order effect on the targets' scores."""
        check_edit(model)
        tap = jnp.zeros_like(jnp.moveaxis(activations, -1, channel_axis))

        def target_scores(tap: Array) -> Array:
            outputs, _ = model(inputs, edit=lambda a: a + tap.astype(a.dtype))
            return select(class_scores(score, outputs, len(inputs)), targets).sum(0)

        _, pull = jax.vjp(target_scores, tap)
        (gradients,) = jax.vmap(pull)(jnp.eye(targets.shape[1], dtype=tap.dtype))
        gradients = jnp.moveaxis(gradients, channel_axis % tap.ndim + 1, -1)
        space = tuple(range(2, gradients.ndim - 1))
        return (gradients * activations[None]).sum(space).max(0)
