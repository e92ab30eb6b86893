"""Selection of a layer's channels, for layers with too many to score them all."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scorecam_jax._internal.checks import check_edit
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.steps.interpolation import Interpolated
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.outputs import class_scores, of_targets
from scorecam_jax.steps.scores import logits


@runtime_checkable
class Channels(Protocol):
    """A choice of `count` channels: those of greatest importance to each input.

    Hashable, so that `jit` can key on it.
    """

    @property
    def count(self) -> int:
        """The number of channels that are chosen."""

    def __call__(
        self,
        model: AnyModel,
        inputs: Float[Array, "batch ..."],
        activations: Float[Array, "batch *grid channels"],
        targets: Int[Array, "batch targets"],
        score: Callable[..., Any],
        channel_axis: int,
    ) -> Float[Array, "batch channels"]:
        """Return each channel's importance; `activations` have the channels last."""


@dataclasses.dataclass(frozen=True)
class Deviation:
    """Select the `count` channels whose activations have the largest deviation over space.

    Source: Faster-Score-CAM (tabayashi0117/Score-CAM's `max_N`).
    """

    count: int

    def __call__(
        self,
        model: AnyModel,
        inputs: Float[Array, "batch ..."],
        activations: Float[Array, "batch *grid channels"],
        targets: Int[Array, "batch targets"],
        score: Callable[..., Any],
        channel_axis: int,
    ) -> Float[Array, "batch channels"]:
        """Return each channel's standard deviation over space, as a share of the largest value."""
        largest = jnp.abs(activations).max(tuple(range(1, activations.ndim)), keepdims=True)
        return divide(activations, largest).std(tuple(range(1, activations.ndim - 1)))


@dataclasses.dataclass(frozen=True)
class Gradient:
    """Select the `count` channels that raise the targets' scores most.

    A channel's importance is Σ gradient · activation over space: to first order, the loss of score
    when the channel is removed. With several targets, the largest of these losses counts. This
    needs one backward pass per target and a model that accepts `edit`.
    """

    count: int

    def __call__(
        self,
        model: AnyModel,
        inputs: Float[Array, "batch ..."],
        activations: Float[Array, "batch *grid channels"],
        targets: Int[Array, "batch targets"],
        score: Callable[..., Any],
        channel_axis: int,
    ) -> Float[Array, "batch channels"]:
        """Return each channel's first-order effect on the targets' scores."""
        check_edit(model)
        tap = jnp.zeros_like(jnp.moveaxis(activations, -1, channel_axis))

        def target_scores(tap: Array) -> tuple[Array, Array]:
            outputs, _ = model(inputs, edit=lambda a: a + tap.astype(a.dtype))
            if score is jax.nn.softmax:
                scores, slopes = _log_odds(class_scores(logits, outputs, len(inputs)), targets)
            else:
                scores = of_targets(class_scores(score, outputs, len(inputs)), targets)
                slopes = jnp.ones_like(scores)
            return scores.sum(0), slopes

        _, pull, slopes = jax.vjp(target_scores, tap, has_aux=True)
        (gradients,) = jax.vmap(pull)(jnp.eye(targets.shape[1], dtype=tap.dtype))
        gradients = jnp.moveaxis(gradients, channel_axis % tap.ndim + 1, -1)
        space = tuple(range(2, gradients.ndim - 1))
        losses = (gradients * activations[None]).sum(space)
        return (losses * slopes.T[..., None]).max(0)


def _log_odds(
    logits: Float[Array, "batch classes"], targets: Int[Array, "batch targets"]
) -> tuple[Float[Array, "batch targets"], Float[Array, "batch targets"]]:
    """The log-odds of the targets, and the probability's slope along them.

    A confident network's probability hardly changes, but its log-odds do:
    p' = p (1 − p) (log-odds)'. The slopes are relative to the largest of each input.
    """
    is_target = jax.nn.one_hot(targets, logits.shape[1], dtype=bool)
    others = jnp.where(is_target, -jnp.inf, logits[:, None])
    rest = jax.nn.logsumexp(others, axis=-1)
    chosen = of_targets(logits, targets)
    logarithms = chosen + rest - 2 * jnp.logaddexp(chosen, rest)  # log p + log(1 − p)
    slopes = jnp.exp(logarithms - logarithms.max(1, keepdims=True))
    return chosen - rest, jax.lax.stop_gradient(slopes)


def choice_of(channels: int | Channels | Interpolated | None) -> Channels | None:
    """The choice for a method that does not interpolate: a number n is `Deviation(n)`."""
    if isinstance(channels, Interpolated):
        raise TypeError(
            f"channels={channels}, but only score_cam interpolates: pass a number of channels, or "
            "a choice such as Gradient(32)"
        )
    return Deviation(int(channels)) if isinstance(channels, int | np.integer) else channels


def interpolation_of(
    channels: int | Channels | Interpolated | None,
) -> tuple[Interpolated | None, Channels | None]:
    """The choice for a method that interpolates: a number n is `Interpolated(n)`."""
    if isinstance(channels, int | np.integer):
        channels = Interpolated(int(channels))
    return (channels, None) if isinstance(channels, Interpolated) else (None, channels)


def take(
    activations: Float[Array, "batch *grid channels"], chosen: Int[Array, "batch n"] | None
) -> Float[Array, "batch *grid n"]:
    """Take each input's chosen channels, or all of them."""
    if chosen is None:
        return activations
    index = jnp.expand_dims(chosen, range(1, activations.ndim - 1))
    return jnp.take_along_axis(activations, index, -1)


def put(
    values: Float[Array, "batch targets n"], chosen: Int[Array, "batch n"] | None, count: int
) -> Float[Array, "batch targets channels"]:
    """Put the chosen channels' values back among all channels; the others get 0."""
    if chosen is None:
        return values
    index = jnp.broadcast_to(chosen[:, None], values.shape)
    zeros = jnp.zeros((*values.shape[:-1], count), values.dtype)
    return jnp.put_along_axis(zeros, index, values, -1, inplace=False)
