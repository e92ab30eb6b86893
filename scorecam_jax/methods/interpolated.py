"""Score-CAM's scores from some of its passes, and the deviation that this leaves."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from scorecam_jax.engine.sharding import explicit_mesh, replicate
from scorecam_jax.methods.base import Context, Found
from scorecam_jax.methods.variants import Variant
from scorecam_jax.steps.channels import take
from scorecam_jax.steps.interpolation import Interpolated, choose, interpolate
from scorecam_jax.steps.masks import is_live, with_empty_mask
from scorecam_jax.steps.outputs import of_targets

_DRAWS = 32
_ROUND = 31  # and an empty mask: 32 passes
_AT_MOST = 512  # scores that are interpolated from

Finish = Callable[[Float[Array, "b t k"], Float[Array, "b t 1"]], Found]


def interpolated_score_cam(
    context: Context, variant: Variant, interpolated: Interpolated, sum_maps: Callable[..., Found]
) -> Found:
    """Score some masks, interpolate the scores of the others, and sum all maps.

    Args:
        context: what the formula was given.
        variant: whose masks and sum they are.
        interpolated: how many masks to score.
        sum_maps: (context, variant, masks, scores, empty) -> Found, from the scores of all masks
            and of an empty one.
    """
    mesh = context.passes["mesh"] or explicit_mesh(context.inputs)
    context = dataclasses.replace(context, activations=replicate(context.activations, mesh))
    layer = _Layer.of(context, variant)
    finish = functools.partial(sum_maps, context, variant, layer.masks)
    put = functools.partial(_score_picks, context, variant, layer)
    channels = layer.live.shape[1]
    if interpolated.count is not None:
        count = min(interpolated.count, channels)
        picks = _each(
            lambda looks, shares, live: choose(looks, shares, live, count),
            layer.looks, layer.shares, layer.live,
        )  # fmt: skip
        known, fresh = put(_Known.nothing(context, layer), picks, layer.live)
        return _estimate(layer, known, picks, fresh, finish)[0]

    size = min(_ROUND, channels)
    length = -(-channels // size) * size
    kept = min(length, max(_AT_MOST // size, 1) * size)

    def go_on(state: _State) -> _State:
        wanted = layer.live & ~state.known.scored
        # What a heatmap owes to each score, for each target, on the scale of its own maximum.
        owed = state.slopes / _positive(jnp.asarray(state.found.peak))[..., None]
        shares = jnp.moveaxis(owed, 1, 2)[..., None] * layer.shares[:, :, None]
        shares = jnp.where(wanted[..., None], shares.reshape(*wanted.shape, -1), 0)
        more = _each(
            lambda looks, shares, free, *given: choose(looks, shares, free, size, *given),
            layer.looks, shares, wanted, state.picks[:, :kept], state.fresh[:, :kept],
        )  # fmt: skip
        known, new = put(state.known, more, wanted & state.active[:, None])
        here = state.rounds * size
        picks = jax.lax.dynamic_update_slice_in_dim(state.picks, more, here, 1)
        fresh = jax.lax.dynamic_update_slice_in_dim(state.fresh, new, here, 1)
        found, slopes = _estimate(layer, known, picks[:, :kept], fresh[:, :kept], finish)
        deviation = jnp.asarray(found.deviation)
        active = deviation.max(tuple(range(1, deviation.ndim))) > jnp.asarray(
            interpolated.tolerance
        )
        active &= (layer.live & ~known.scored).any(1)
        return _State(state.rounds + 1, picks, fresh, known, found, slopes, active)

    start = replicate(_State.start(context, layer, length, kept, finish), mesh)
    return _without_reverse_mode(jax.lax.while_loop(lambda s: s.active.any(), go_on, start).found)


class _Layer(NamedTuple):
    """The masks of a layer.

    Attributes:
        masks: what `variant.prepare` made of the maps.
        live: which of them show anything.
        looks: the masks as they are at the layer's resolution.
        shares: what each channel adds to the sum for a weight of 1.
    """

    masks: Float[Array, "batch *grid channels"]
    live: Bool[Array, "batch channels"]
    looks: Float[Array, "batch channels cells"]
    shares: Float[Array, "batch channels cells"]

    @classmethod
    def of(cls, context: Context, variant: Variant) -> "_Layer":
        maps = context.activations
        masks = variant.prepare(maps)
        live = is_live(masks)
        batch, *grid, channels = masks.shape
        first = jnp.moveaxis(masks, -1, 1).reshape(batch * channels, *grid)
        looks = variant.render(first, grid).reshape(batch, channels, -1)
        alone = jnp.eye(channels, dtype=masks.dtype)[None]

        def share(maps: Array, masks: Array) -> Array:
            sums = variant.combine(maps[None], masks[None], alone, variant.render, grid)
            return sums.reshape(channels, -1)

        shares = jax.lax.stop_gradient(_each(share, maps, masks)) * live[..., None]
        return cls(masks, live, looks, shares)


class _Known(NamedTuple):
    """What masked passes have told.

    Attributes:
        scores: those of the scored channels, at their places among all.
        scored: which these are.
        empty: the score of an empty mask.
        whole: the score of the whole input.
    """

    scores: Float[Array, "batch targets channels"]
    scored: Bool[Array, "batch channels"]
    empty: Float[Array, "batch targets 1"]
    whole: Float[Array, "batch targets 1"]

    @classmethod
    def nothing(cls, context: Context, layer: _Layer) -> "_Known":
        zeros = jnp.zeros((*context.targets.shape, layer.live.shape[1]), context.confidence.dtype)
        whole = of_targets(context.confidence, context.targets)[..., None]
        return cls(zeros, jnp.zeros_like(layer.live), zeros[..., :1], whole)


class _State(NamedTuple):
    """Where the rounds are.

    Attributes:
        rounds: how many there were.
        picks: the channels picked, round after round.
        fresh: which of them were scored by that.
        known: what they told.
        found: the heatmaps by what is known.
        slopes: as in `Interpolation`.
        active: which inputs' heatmaps are not sure enough.
    """

    rounds: Int[Array, ""]
    picks: Int[Array, "batch picks"]
    fresh: Bool[Array, "batch picks"]
    known: _Known
    found: Found
    slopes: Float[Array, "batch targets channels"]
    active: Bool[Array, " batch"]

    @classmethod
    def start(
        cls, context: Context, layer: _Layer, length: int, kept: int, finish: Finish
    ) -> "_State":
        known = _Known.nothing(context, layer)
        picks = jnp.zeros((len(layer.live), length), int)
        fresh = jnp.zeros_like(picks, bool)
        shapes = jax.eval_shape(
            lambda: _estimate(layer, known, picks[:, :kept], fresh[:, :kept], finish)
        )
        found, slopes = jax.tree.map(lambda like: jnp.ones(like.shape, like.dtype), shapes)
        return cls(
            jnp.zeros((), int), picks, fresh, known, found, slopes, jnp.ones(len(picks), bool)
        )


def _score_picks(
    context: Context,
    variant: Variant,
    layer: _Layer,
    known: _Known,
    picks: Int[Array, "batch n"],
    wanted: Bool[Array, "batch channels"],
) -> tuple[_Known, Bool[Array, "batch n"]]:
    """Score those of the picked masks that are wanted, and tell which these are."""
    rows = jnp.arange(len(picks))[:, None]
    due = wanted[rows, picks]
    shape = (len(due), *[1] * (layer.masks.ndim - 2), -1)
    masks = jnp.where(due.reshape(shape), take(layer.masks, picks), 0)
    found = context.score_masks(with_empty_mask(masks), variant.render)
    place = jnp.where(due, picks, wanted.shape[1])
    scores = jnp.moveaxis(known.scores, 1, 2)
    scores = scores.at[rows, place].set(jnp.moveaxis(found[..., :-1], 1, 2), mode="drop")
    scored = known.scored.at[rows, place].set(True, mode="drop")
    return _Known(jnp.moveaxis(scores, 2, 1), scored, found[..., -1:], known.whole), due


def _estimate(
    layer: _Layer,
    known: _Known,
    picks: Int[Array, "batch n"],
    fresh: Bool[Array, "batch n"],
    finish: Finish,
) -> tuple[Found, Float[Array, "batch targets channels"]]:
    """The heatmap by what is known and how far off it may be; and the scores' slopes."""

    def complete(scores: Array) -> Array:
        # A dead channel has the score of an empty mask, as in the exact map.
        scores = jnp.where(layer.live[:, None], scores, known.empty)
        return jnp.where(known.scored[:, None], known.scores, scores)

    given = jnp.take_along_axis(known.scores, picks[:, None], 2)
    guess = _each(
        lambda looks, picks, given, fresh, bounds: interpolate(
            looks, picks, given, fresh, _DRAWS, bounds
        ),
        layer.looks, picks, given, fresh, jnp.concatenate([known.empty, known.whole], 2),
    )  # fmt: skip
    found = finish(complete(guess.scores), known.empty)

    def add(total: Array, drawn: Array) -> tuple[Array, None]:
        drawn, empty = jax.lax.stop_gradient((complete(drawn), known.empty))
        return total + (finish(drawn, empty).heatmap - heatmap) ** 2, None

    heatmap = jax.lax.stop_gradient(found.heatmap)
    squares, _ = jax.lax.scan(add, jnp.zeros_like(heatmap), jnp.moveaxis(guess.draws, 1, 0))
    deviation = jnp.sqrt(jax.lax.stop_gradient(squares) / _DRAWS)
    deviation = jnp.where(jnp.isfinite(deviation), deviation, 1)  # no heatmap deviates by more
    missing = (layer.live & ~known.scored).any(1).reshape(-1, *[1] * (heatmap.ndim - 1))
    deviation = jnp.where(missing, deviation, 0)  # without rounding errors
    return found._replace(deviation=deviation, scored=known.scored), guess.slopes


@jax.custom_vjp
def _without_reverse_mode(values: Any) -> Any:
    return values


def _refuse(residual: None, cotangents: Any) -> Any:
    raise ValueError(
        "Interpolated(tolerance=...) takes as many rounds as the heatmap needs, and such a loop "
        "has no reverse-mode derivative: pass a number of channels, Interpolated(64)"
    )


_without_reverse_mode.defvjp(lambda values: (values, None), _refuse)


def _positive(values: Array) -> Array:
    return jnp.where(values > 0, values, 1)


def _each(function: Callable[..., Any], *arrays: Any) -> Any:
    """Apply to one input after the other, so that the memory is that of one."""
    if len(arrays[0]) == 1:
        alone = function(*jax.tree.map(lambda array: array[0], arrays))
        return jax.tree.map(lambda value: value[None], alone)
    return jax.lax.map(lambda each: function(*each), arrays)
