"""Interpolate Score-CAM's scores from some of its passes, and estimate the heatmap's deviation."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from scorecam_jax.engine.sharding import explicit_mesh, replicate
from scorecam_jax.methods.base import Context, Found, render_in
from scorecam_jax.methods.variants import Variant
from scorecam_jax.steps.channels import take
from scorecam_jax.steps.frames import Frame
from scorecam_jax.steps.interpolation import Interpolated, choose, interpolate
from scorecam_jax.steps.masks import Render, is_live, with_empty_mask
from scorecam_jax.steps.outputs import of_targets

_DRAWS = 32
_ROUND = 31  # and an empty mask: 32 passes
_AT_MOST = 512  # the most scores to interpolate from

Finish = Callable[[Float[Array, "b t k"], Float[Array, "b t 1"]], "_Maps"]


class _Maps(NamedTuple):
    """The results of all masks' scores.

    Attributes:
        found: one per layer.
        heatmaps: one per layer; for several layers, the fused one comes last.
    """

    found: tuple[Found, ...]
    heatmaps: tuple[Float[Array, "batch targets *spatial"], ...]


class _Estimate(NamedTuple):
    """Maps and their uncertainty.

    Attributes:
        found: as in `_Maps`, with deviations.
        deviation: the deviation of the last heatmap.
        slopes: as in `Interpolation`.
    """

    found: tuple[Found, ...]
    deviation: Float[Array, "batch targets *spatial"]
    slopes: Float[Array, "batch targets channels"]


def interpolated_score_cam(
    contexts: Sequence[Context],
    variant: Variant,
    interpolated: Interpolated,
    sum_maps: Callable[..., Found],
    fuse: Callable[..., Any] | None = None,
) -> tuple[tuple[Found, ...], Float[Array, "batch targets *spatial"]]:
    """Score some masks, interpolate the scores of the others, and sum all maps.

    The masks of several layers are all masks of the input, so one process interpolates all their
    scores. The masks to score are those most informative about the layers' sums, each relative to
    its largest value. In this choice, a layer's masks count as uninformative about another layer's
    sum. Otherwise masks would be preferred that show the level common to all scores rather than
    the differences within a layer.

    Args:
        contexts: the formula's argument for each layer.
        variant: the variant that makes the masks and sums.
        interpolated: the number of masks to score, of all layers together, or the tolerance.
        sum_maps: (context, variant, masks, scores, empty) -> Found, from the scores of all masks
            and of an empty one.
        fuse: the `Found` of several layers -> (the fused heatmap, its peak).

    Returns:
        The `Found` of each layer; and the deviation of the heatmap, which for several layers is the
        fused one.
    """
    mesh = contexts[0].passes["mesh"] or explicit_mesh(contexts[0].inputs)
    contexts = [
        dataclasses.replace(
            context,
            activations=replicate(context.activations, mesh),
            confidence=replicate(context.confidence, mesh),
        )
        for context in contexts
    ]
    layer = _Layer.of(contexts, variant)
    finish = functools.partial(_finish, contexts, variant, layer, sum_maps, fuse)
    put = functools.partial(_score_picks, contexts, variant, layer)
    channels = layer.live.shape[1]
    if interpolated.count is not None:
        count = min(interpolated.count, channels)
        picks = _each(
            lambda looks, shares, live: choose(looks, shares, live, count, kinds=layer.kinds),
            layer.looks, layer.shares / layer.sizes[..., None], layer.live,
        )  # fmt: skip
        known, fresh = put(_Known.nothing(contexts[0], layer), picks, layer.live)
        made = _estimate(layer, known, picks, fresh, finish)
        return made.found, made.deviation

    size = min(_ROUND, channels)
    length = -(-channels // size) * size
    kept = min(length, max(_AT_MOST // size, 1) * size)

    def go_on(state: _State) -> _State:
        wanted = layer.live & ~state.known.scored
        # Each heatmap's derivative by each score, for each target, relative to its maximum.
        owed = state.made.slopes / _positive(_peaks(state.made.found, layer))
        shares = jnp.moveaxis(owed, 1, 2)[..., None] * layer.shares[:, :, None]
        shares = jnp.where(wanted[..., None], shares.reshape(*wanted.shape, -1), 0)
        more = _each(
            lambda looks, shares, free, chosen, scored: choose(
                looks, shares, free, size, chosen, scored, kinds=layer.kinds
            ),
            layer.looks, shares, wanted, state.picks[:, :kept], state.fresh[:, :kept],
        )  # fmt: skip
        known, new = put(state.known, more, wanted & state.active[:, None])
        here = state.rounds * size
        picks = jax.lax.dynamic_update_slice_in_dim(state.picks, more, here, 1)
        fresh = jax.lax.dynamic_update_slice_in_dim(state.fresh, new, here, 1)
        made = _estimate(layer, known, picks[:, :kept], fresh[:, :kept], finish)
        active = made.deviation.max(tuple(range(1, made.deviation.ndim))) > jnp.asarray(
            interpolated.tolerance
        )
        active &= (layer.live & ~known.scored).any(1)
        return _State(state.rounds + 1, picks, fresh, known, made, active)

    start = replicate(_State.start(contexts[0], layer, length, kept, finish), mesh)
    made = jax.lax.while_loop(lambda s: s.active.any(), go_on, start).made
    return _without_reverse_mode((made.found, made.deviation))


def next_round(
    contexts: Sequence[Context],
    fuse: Callable[..., Any] | None = None,
    *,
    variant: Variant,
    sum_maps: Callable[..., Found],
    scores: Float[Array, "batch targets channels"],
    scored: Bool[Array, "batch channels"],
    count: int,
    most: int | None,
) -> tuple[tuple[Found, ...], Float[Array, "batch targets *spatial"] | None]:
    """Score further masks, and sum all maps with the scores known so far.

    Args:
        contexts: as in `interpolated_score_cam`.
        fuse: as in `interpolated_score_cam`.
        variant: as in `interpolated_score_cam`.
        sum_maps: as in `interpolated_score_cam`.
        scores: the scores of earlier rounds, at their places among the channels of all layers.
        scored: which masks earlier rounds scored.
        count: the number of further masks to score, of all layers together.
        most: the largest number of scores from which masks are chosen and the other scores
            interpolated. None: score the next masks in order and interpolate nothing, which is
            fast; the sum is then over the scored maps alone.

    Returns:
        As `interpolated_score_cam`; the deviation is None if nothing is interpolated.
    """
    layer = _Layer.of(contexts, variant)
    finish = functools.partial(_finish, contexts, variant, layer, sum_maps, fuse)
    known = _Known.nothing(contexts[0], layer)
    known = known._replace(scores=scores.astype(known.scores.dtype), scored=scored)
    wanted = layer.live & ~scored
    count = min(count, layer.live.shape[1])
    if most is None:
        picks = jnp.argsort(~wanted, 1, stable=True)[:, :count]
        known, _ = _score_picks(contexts, variant, layer, known, picks, wanted)
        made = finish(jnp.where(layer.live[:, None], known.scores, known.empty), known.empty)
        each = zip(made.found, layer.split(known.scored), strict=True)
        return tuple(found._replace(scored=own) for found, own in each), None
    most = min(most, layer.live.shape[1])
    earlier = _indices(scored, most)
    picks = _each(
        lambda looks, shares, free, chosen, scored: choose(
            looks, shares, free, count, chosen, scored, kinds=layer.kinds
        ),
        layer.looks, layer.shares / layer.sizes[..., None], wanted, *earlier,
    )  # fmt: skip
    known, _ = _score_picks(contexts, variant, layer, known, picks, wanted)
    estimate = _estimate(layer, known, *_indices(known.scored, most), finish)
    return estimate.found, estimate.deviation


def _indices(
    which: Bool[Array, "batch channels"], count: int
) -> tuple[Int[Array, "batch count"], Bool[Array, "batch count"]]:
    """The places of up to `count` true values, filled up with others; and which are true."""
    places = jnp.argsort(~which, 1, stable=True)[:, :count]
    return places, jnp.take_along_axis(which, places, 1)


class _Layer(NamedTuple):
    """The masks of one or several layers, one layer after another.

    Attributes:
        masks: each layer's maps after `variant.prepare`.
        live: which masks are not empty.
        looks: the masks, rendered at the finest layer's resolution.
        shares: each channel's part of the sums for a weight of 1. Each layer has its own cells; if
            there are several layers, a share is divided by the root of the number of cells.
        sizes: the largest value of the mask's layer's sum if all weights were 1; 1 for a single
            layer.
    """

    masks: tuple[Float[Array, "batch *grid channels"], ...]
    live: Bool[Array, "batch channels"]
    looks: Float[Array, "batch channels cells"]
    shares: Float[Array, "batch channels all_cells"]
    sizes: Float[Array, "batch channels"]

    @classmethod
    def of(cls, contexts: Sequence[Context], variant: Variant) -> "_Layer":
        masks = tuple(variant.prepare(context.activations) for context in contexts)
        live = [is_live(each) for each in masks]
        grid = max((each.shape[1:-1] for each in masks), key=math.prod)
        looks = [_rendered(variant, each, grid) for each in masks]
        shares = [
            _shares(variant, context.activations, *pair)
            for context, *pair in zip(contexts, masks, live, strict=True)
        ]
        sizes = [jnp.ones(each.shape, shares[0].dtype) for each in live]
        if len(contexts) > 1:
            sizes = [
                _positive(jnp.abs(each.sum(1)).max(1, keepdims=True) * size)
                for each, size in zip(shares, sizes, strict=True)
            ]
        return cls(
            masks, jnp.concatenate(live, 1), jnp.concatenate(looks, 1), _side_by_side(shares),
            jnp.concatenate(sizes, 1),
        )  # fmt: skip

    def split(self, values: Array) -> list[Any]:
        """Split values of all masks by layer."""
        return jnp.split(values, self.ends[:-1], -1)

    @property
    def kinds(self) -> Int[Array, " channels"] | None:
        """The number of each mask's layer; None for a single layer."""
        if len(self.masks) == 1:
            return None
        counts = [each.shape[-1] for each in self.masks]
        return jnp.asarray(np.repeat(np.arange(len(counts)), counts))

    @property
    def ends(self) -> list[int]:
        """The number of masks up to the end of each layer."""
        return list(itertools.accumulate(each.shape[-1] for each in self.masks))


def _rendered(variant: Variant, masks: Array, grid: Sequence[int]) -> Array:
    batch, *own, channels = masks.shape
    first = jnp.moveaxis(masks, -1, 1).reshape(batch * channels, *own)
    return variant.render(first, grid).reshape(batch, channels, -1)


def _shares(variant: Variant, maps: Array, masks: Array, live: Array) -> Array:
    grid, channels = masks.shape[1:-1], masks.shape[-1]
    alone = jnp.eye(channels, dtype=masks.dtype)[None]

    def share(maps: Array, masks: Array) -> Array:
        sums = variant.combine(maps[None], masks[None], alone, variant.render, grid)
        return sums.reshape(channels, -1)

    return jax.lax.stop_gradient(_each(share, maps, masks)) * live[..., None]


def _side_by_side(shares: Sequence[Array]) -> Array:
    """Join the shares of several layers, each in its own cells."""
    if len(shares) == 1:
        return shares[0]
    cells = [each.shape[-1] for each in shares]
    before = [sum(cells[:place]) for place in range(len(cells))]
    return jnp.concatenate(
        [
            jnp.pad(each / math.sqrt(count), [(0, 0), (0, 0), (first, sum(cells) - first - count)])
            for each, count, first in zip(shares, cells, before, strict=True)
        ],
        1,
    )


def _finish(
    contexts: Sequence[Context],
    variant: Variant,
    layer: _Layer,
    sum_maps: Callable[..., Found],
    fuse: Callable[..., Any] | None,
    scores: Float[Array, "batch targets channels"],
    empty: Float[Array, "batch targets 1"],
) -> _Maps:
    """Sum the maps of each layer by the scores of its masks, and fuse the sums."""
    found = tuple(
        sum_maps(context, variant, masks, own, empty)
        for context, masks, own in zip(contexts, layer.masks, layer.split(scores), strict=True)
    )
    fused = () if fuse is None else (fuse(found)[0],)
    return _Maps(found, (*(each.heatmap for each in found), *fused))


def _peaks(found: Sequence[Found], layer: _Layer) -> Float[Array, "batch targets channels"]:
    """The peak of each mask's layer."""
    peaks = [
        jnp.repeat(jnp.asarray(each.peak)[..., None], masks.shape[-1], -1)
        for each, masks in zip(found, layer.masks, strict=True)
    ]
    return jnp.concatenate(peaks, -1)


class _Known(NamedTuple):
    """The results of masked passes.

    Attributes:
        scores: the scores of the scored channels, at their places among all.
        scored: which channels are scored.
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
    """The state of the loop over rounds.

    Attributes:
        rounds: the number of rounds so far.
        picks: the channels picked, round after round.
        fresh: which of the picks were scored.
        known: the scores so far.
        made: the maps with these scores.
        active: which inputs' heatmaps are not accurate enough yet.
    """

    rounds: Int[Array, ""]
    picks: Int[Array, "batch picks"]
    fresh: Bool[Array, "batch picks"]
    known: _Known
    made: _Estimate
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
        made = jax.tree.map(lambda like: jnp.ones(like.shape, like.dtype), shapes)
        return cls(jnp.zeros((), int), picks, fresh, known, made, jnp.ones(len(picks), bool))


def _score_picks(
    contexts: Sequence[Context],
    variant: Variant,
    layer: _Layer,
    known: _Known,
    picks: Int[Array, "batch n"],
    wanted: Bool[Array, "batch channels"],
) -> tuple[_Known, Bool[Array, "batch n"]]:
    """Score the picked masks that are wanted, and return which these are."""
    rows = jnp.arange(len(picks))[:, None]
    due = wanted[rows, picks]
    masks, render, context = _masks_of(contexts, variant, layer, picks, due)
    found = context.score_masks(with_empty_mask(masks), render)
    place = jnp.where(due, picks, wanted.shape[1])
    scores = jnp.moveaxis(known.scores, 1, 2)
    scores = scores.at[rows, place].set(jnp.moveaxis(found[..., :-1], 1, 2), mode="drop")
    scored = known.scored.at[rows, place].set(True, mode="drop")
    return _Known(jnp.moveaxis(scores, 2, 1), scored, found[..., -1:], known.whole), due


def _masks_of(
    contexts: Sequence[Context],
    variant: Variant,
    layer: _Layer,
    picks: Int[Array, "batch n"],
    due: Bool[Array, "batch n"],
) -> tuple[Float[Array, "batch *grid n"], Render, Context]:
    """The picked masks that are due, the function that renders them, and the context to score them.

    A mask of several layers has the cells of all layers, and zeros in those of the other layers, so
    that one loop of passes scores all masks.
    """
    parts = []
    for masks, end in zip(layer.masks, layer.ends, strict=True):
        start = end - masks.shape[-1]
        here = due & (picks >= start) & (picks < end)
        shape = (len(here), *[1] * (masks.ndim - 2), -1)
        own = take(masks, jnp.clip(picks - start, 0, masks.shape[-1] - 1))
        parts.append(jnp.where(here.reshape(shape), own, 0))
    if len(parts) == 1:
        return parts[0], variant.render, contexts[0]
    cells = [jax.lax.collapse(part, 1, part.ndim - 1) for part in parts]
    frames = tuple(context.frame for context in contexts)
    grids = tuple(part.shape[1:-1] for part in parts)
    render = Partial(_RenderEach(grids, frames), variant.render)
    return jnp.concatenate(cells, 1), render, dataclasses.replace(contexts[0], frame=None)


@dataclasses.dataclass(frozen=True)
class _RenderEach:
    """Renders masks that have the cells of several layers."""

    grids: tuple[tuple[int, ...], ...]
    frames: tuple[Frame | None, ...]

    def __call__(
        self, render: Render, cells: Float[Array, "n cells"], shape: Sequence[int]
    ) -> Float[Array, "n *spatial"]:
        total = jnp.zeros((len(cells), *shape), cells.dtype)
        first = 0
        for grid, frame in zip(self.grids, self.frames, strict=True):
            maps = cells[:, first : first + math.prod(grid)].reshape(-1, *grid)
            first += math.prod(grid)
            total += render_in(frame, render, maps, shape)
        return total


def _estimate(
    layer: _Layer,
    known: _Known,
    picks: Int[Array, "batch n"],
    fresh: Bool[Array, "batch n"],
    finish: Finish,
) -> _Estimate:
    """The maps with the scores known so far, their deviations, and the scores' slopes."""

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
    made = finish(complete(guess.scores), known.empty)
    heatmaps = jax.lax.stop_gradient(made.heatmaps)

    def add(totals: Any, drawn: Array) -> tuple[Any, None]:
        drawn, empty = jax.lax.stop_gradient((complete(drawn), known.empty))
        others = finish(drawn, empty).heatmaps
        return jax.tree.map(lambda t, a, b: t + (a - b) ** 2, totals, others, heatmaps), None

    nothing = jax.tree.map(jnp.zeros_like, heatmaps)
    squares, _ = jax.lax.scan(add, nothing, jnp.moveaxis(guess.draws, 1, 0))
    missing = layer.live & ~known.scored
    lacking = [each.any(1) for each in layer.split(missing)]
    lacking += [missing.any(1)] * (len(heatmaps) - len(lacking))
    deviations = list(map(_deviation, squares, lacking))
    found = tuple(
        each._replace(deviation=deviation, scored=scored)
        for each, deviation, scored in zip(
            made.found, deviations[: len(made.found)], layer.split(known.scored), strict=True
        )
    )
    return _Estimate(found, deviations[-1], guess.slopes)


def _deviation(squares: Array, missing: Bool[Array, " batch"]) -> Array:
    deviation = jnp.sqrt(jax.lax.stop_gradient(squares) / _DRAWS)
    deviation = jnp.where(jnp.isfinite(deviation), deviation, 1)  # no heatmap deviates by more
    # No rounding errors where nothing is interpolated.
    return jnp.where(missing.reshape(-1, *[1] * (deviation.ndim - 1)), deviation, 0)


@jax.custom_vjp
def _without_reverse_mode(values: Any) -> Any:
    return values


def _refuse(residual: None, cotangents: Any) -> Any:
    raise ValueError(
        "Interpolated(tolerance=...) runs as many rounds as the heatmap needs, and such a loop "
        "has no reverse-mode derivative: pass a number of channels, Interpolated(64)"
    )


_without_reverse_mode.defvjp(lambda values: (values, None), _refuse)


def _positive(values: Array) -> Array:
    return jnp.where(values > 0, values, 1)


def _each(function: Callable[..., Any], *arrays: Any) -> Any:
    """Apply a function to one input after another, so that the memory is that of one."""
    if len(arrays[0]) == 1:
        alone = function(*jax.tree.map(lambda array: array[0], arrays))
        return jax.tree.map(lambda value: value[None], alone)
    return jax.lax.map(lambda each: function(*each), arrays)
