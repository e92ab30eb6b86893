"""Score-CAM's relatives: other masks, or other things masked, by the same engine.

Every function is called as `score_cam` is and returns an `Explanation`; `model`, `inputs`,
`targets`, `score`, `baseline`, `batch_size` and `channel_axis` mean what they mean there. Maps that
stop at the layer's size in the papers are resized linearly to the input's.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from scorecam_jax._internal import checks
from scorecam_jax._internal.per_input import take_rows
from scorecam_jax._internal.trees import join_arrays
from scorecam_jax.engine.score_masks import score_masks
from scorecam_jax.engine.tuning import default_batch_size
from scorecam_jax.methods.base import Explanation, explain
from scorecam_jax.methods.gradient import logits
from scorecam_jax.methods.variants import OFFICIAL
from scorecam_jax.steps import masks as _masks
from scorecam_jax.steps.combine import resize_rectify_normalize, sum_activations, sum_masks
from scorecam_jax.steps.masks import spatial_shape
from scorecam_jax.steps.outputs import class_scores, in_full_precision, select


def rise(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    key: Array,
    count: int = 4000,
    cells: int = 7,
    probability: float = 0.5,
    score: Callable[..., Any] = jax.nn.softmax,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    channel_axis: int = -1,
) -> Explanation:
    """Sum random masks by the scores they leave: Σ_i f(X ∘ M_i)_c M_i.

    A mask is a grid of `cells` to a side, each 1 with `probability`, enlarged linearly and shifted
    at random. Masks are drawn from `key` as they are needed and never stored; all inputs share
    them. The division by E[M] drops out, as the map is scaled to [0, 1]. `scores` are
    (B, [T,] count); `weights` are None. No layer is looked at.

    Source: RISE, Petsiuk, Das and Saenko 2018 (arXiv 1806.07421), Eq. 6.
    """
    settings = (("count", count), ("cells", cells), ("batch_size", batch_size))
    return _explain(
        _rise, model, score, inputs, targets, key, probability, baseline,
        channel_axis=channel_axis, settings=settings,
    )  # fmt: skip


def is_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    steps: int = 10,
    score: Callable[..., Any] = jax.nn.softmax,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    channel_axis: int = -1,
) -> Explanation:
    """Weight each map by its mean score as its mask fades in: w_k = mean_j f(X ∘ j/N H_k)_c.

    N is `steps`, each of which costs what Score-CAM does. Summed and finished as OFFICIAL.

    Source: IS-CAM, Naidu et al. 2020 (arXiv 2010.03023).
    """
    settings = (("steps", steps), ("batch_size", batch_size))
    return _explain(
        _is_cam, model, score, inputs, targets, baseline,
        channel_axis=channel_axis, settings=settings,
    )  # fmt: skip


def ss_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    key: Array,
    samples: int = 35,
    deviation: float = 2.0,
    score: Callable[..., Any] = jax.nn.softmax,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    channel_axis: int = -1,
) -> Explanation:
    """Weight each map by its mean score under noise: w_k = mean_n f(X ∘ s(Up(A_k + ε_n)))_c.

    ε is Gaussian of the given standard deviation, added to the activation maps; constant maps stay
    out, as in OFFICIAL. Each sample costs what Score-CAM does. Summed and finished as OFFICIAL.

    Source: SS-CAM, Wang et al. 2020 (arXiv 2006.14255), the form that smooths the maps.
    """
    settings = (("samples", samples), ("batch_size", batch_size))
    return _explain(
        _ss_cam, model, score, inputs, targets, key, deviation, baseline,
        channel_axis=channel_axis, settings=settings,
    )  # fmt: skip


def opti_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    steps: int = 100,
    learning_rate: float = 0.1,
    score: Callable[..., Any] = logits,
    baseline: Any = 0.0,
    channel_axis: int = -1,
) -> Explanation:
    """Find the mixture of maps that, as one mask, scores best.

    max_u f(X ∘ s(Up(Σ_k softmax(u)_k A_k)))_c by Adam from u = 0. The heatmap is that mask, and
    `weights` are softmax(u); `scores` are None. All inputs and targets are optimised together, in
    `steps` forward and backward passes of B·T masked inputs.

    Source: Opti-CAM, Zhang et al. 2023 (arXiv 2301.07002).
    """
    return _explain(
        _opti_cam, model, score, inputs, targets, learning_rate, baseline,
        channel_axis=channel_axis, settings=(("steps", steps),),
    )  # fmt: skip


def ablation_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = logits,
    batch_size: int | None = None,
    channel_axis: int = -1,
) -> Explanation:
    """Weight each map by what is lost without it: w_k = (y − y_k) / y; 0 where y is 0.

    y_k is the score with channel k set to 0, by default a logit. Only the network after the layer
    runs again; `model` must take `edit`. `scores` are the y_k.

    Source: Ablation-CAM, Desai and Ramaswamy 2020 (WACV).
    """
    checks.check_edit(model)
    return _explain(
        _ablation_cam, model, score, inputs, targets,
        channel_axis=channel_axis, settings=(("batch_size", batch_size),),
    )  # fmt: skip


def recipro_cam(
    model: Callable[..., Any],
    inputs: ArrayLike,
    targets: Any = None,
    *,
    score: Callable[..., Any] = jax.nn.softmax,
    batch_size: int | None = None,
    channel_axis: int = -1,
) -> Explanation:
    """Score each place of the layer alone: the map at (i, j) is f with all other places set to 0.

    Only the network after the layer runs again; `model` must take `edit`. `scores` are
    (B, [T,] places), in row-major order; `weights` are None. This is the form without a Gaussian
    neighbourhood.

    Source: Recipro-CAM, Byun and Lee 2022 (arXiv 2209.14074), Section 3.
    """
    checks.check_edit(model)
    return _explain(
        _recipro_cam, model, score, inputs, targets,
        channel_axis=channel_axis, settings=(("batch_size", batch_size),),
    )  # fmt: skip


class _Case(NamedTuple):
    model: Callable[..., Any]
    score: Callable[..., Any]
    inputs: Float[Array, "batch ..."]
    confidence: Float[Array, "batch classes"]
    activations: Float[Array, "batch *grid channels"]
    targets: Int[Array, "batch targets"]
    channel_axis: int
    shape: tuple[int, ...]


# Weights, scores and the heatmap, each with the targets' axis.
_Found = tuple[Array | None, Array | None, Array]


def _rise(  # type: ignore[no-untyped-def]
    case: _Case, key, probability, baseline, *, count: int, cells: int, batch_size: int | None
) -> _Found:
    # A mask is the number of its draw until it is rendered, counted from 1: 0 is an empty mask.
    numbers = jnp.arange(1.0, count + 1)
    masks = jnp.broadcast_to(numbers, (len(case.inputs), 1, count))
    render = Partial(_draw, key, probability, cells)
    scores = _score(case, masks, render, baseline, batch_size)
    total = sum_masks(masks, masks, scores, render, case.shape)
    return None, scores, _masks.normalize(total, len(case.shape))


def _draw(
    key: Array, probability: Array, cells: int, numbers: Float[Array, "n 1"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    steps = [math.ceil(size / cells) for size in shape]

    def draw(number: Array) -> Array:
        grid_key, shift_key = jax.random.split(jax.random.fold_in(key, number))
        grid = jax.random.bernoulli(grid_key, probability, [cells] * len(shape))
        large = _masks.resize(grid.astype(float), [(cells + 1) * step for step in steps])
        shift = jax.random.randint(shift_key, [len(shape)], 0, jnp.array(steps))
        return jax.lax.dynamic_slice(large, list(shift), shape)

    return jax.vmap(draw)(numbers[:, 0].astype(int))


def _is_cam(case: _Case, baseline, *, steps: int, batch_size: int | None) -> _Found:  # type: ignore[no-untyped-def]
    masks = OFFICIAL.prepare(case.activations)

    def faded(share: Array) -> Array:
        return _score(case, masks, Partial(_fade, share), baseline, batch_size)

    return _weigh(case, masks, jax.lax.map(faded, jnp.arange(1.0, steps + 1) / steps).mean(0))


def _fade(
    share: Array, maps: Float[Array, "n *grid"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    return share * OFFICIAL.render(maps, shape)


def _ss_cam(  # type: ignore[no-untyped-def]
    case: _Case, key, deviation, baseline, *, samples: int, batch_size: int | None
) -> _Found:
    masks = OFFICIAL.prepare(case.activations)
    live = jnp.expand_dims(_masks.is_live(masks), range(1, masks.ndim - 1))

    def noisy(key: Array) -> Array:
        noise = deviation * jax.random.normal(key, masks.shape, masks.dtype)
        return _score(
            case, jnp.where(live, masks + noise, 0), OFFICIAL.render, baseline, batch_size
        )

    return _weigh(case, masks, jax.lax.map(noisy, jax.random.split(key, samples)).mean(0))


def _opti_cam(case: _Case, learning_rate, baseline, *, steps: int) -> _Found:  # type: ignore[no-untyped-def]
    batch, wanted, rank = *case.targets.shape, len(case.shape)
    activations, inputs = case.activations, jnp.repeat(case.inputs, wanted, 0)
    baseline = checks.check_baseline(baseline, case.inputs)
    baseline = jnp.repeat(jnp.broadcast_to(baseline, case.inputs.shape), wanted, 0)
    model = take_rows(case.model, jnp.repeat(jnp.arange(batch), wanted))
    optimizer = optax.adam(learning_rate)

    def mask(mixture: Array) -> Array:
        sums = sum_activations(
            activations, activations, jax.nn.softmax(mixture), OFFICIAL.render, case.shape
        )
        return _masks.normalize(_masks.resize(sums, case.shape), rank)

    def loss(mixture: Array) -> Array:
        masks = mask(mixture).reshape(batch * wanted, *case.shape)
        outputs, _ = model(_masks.apply_masks(inputs, masks, baseline, case.channel_axis))
        scores = class_scores(case.score, outputs, batch * wanted)
        return -select(scores, case.targets.reshape(batch * wanted, 1)).sum()

    def step(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], None]:
        mixture, state = carry
        change, state = optimizer.update(jax.grad(loss)(mixture), state)
        return (mixture + change, state), None

    start = jnp.zeros((batch, wanted, activations.shape[-1]), activations.dtype)
    (mixture, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, length=steps)
    return jax.nn.softmax(mixture), None, mask(mixture)


def _ablation_cam(case: _Case, *, batch_size: int | None) -> _Found:
    def without(channel: Array) -> Array:
        return case.activations.at[..., channel].set(0)

    lost = _score_edits(case, without, case.activations.shape[-1], batch_size)
    whole = select(case.confidence, case.targets)[..., None]
    weights = _masks.divide(whole - lost, whole)
    sums = sum_activations(case.activations, case.activations, weights, OFFICIAL.render, case.shape)
    return weights, lost, resize_rectify_normalize(sums, case.shape)


def _recipro_cam(case: _Case, *, batch_size: int | None) -> _Found:
    grid = case.activations.shape[1:-1]
    places = math.prod(grid)

    def only(place: Array) -> Array:
        return case.activations * jax.nn.one_hot(place, places).reshape(1, *grid, 1)

    scores = _score_edits(case, only, places, batch_size)
    maps = _masks.resize(scores.reshape(*case.targets.shape, *grid), case.shape)
    return None, scores, _masks.normalize(maps, len(grid))


def _score(  # type: ignore[no-untyped-def]
    case: _Case, masks: Array, render: Any, baseline, batch_size: int | None
) -> Float[Array, "batch targets masks"]:
    return score_masks(
        case.model, case.inputs, masks, render, score=case.score, targets=case.targets,
        baseline=baseline, batch_size=batch_size, channel_axis=case.channel_axis,
    )  # fmt: skip


def _score_edits(
    case: _Case, edited: Callable[[Array], Array], count: int, batch_size: int | None
) -> Float[Array, "batch targets edits"]:
    """Score all inputs with the activations `edited(0)` ... `edited(count - 1)`, in chunks."""
    checks.check_batch_size(batch_size)

    def score(index: Array) -> Array:
        replacement = jnp.moveaxis(edited(index), -1, case.channel_axis)
        outputs, _ = case.model(case.inputs, edit=lambda a: replacement.astype(a.dtype))
        return select(class_scores(case.score, outputs, len(case.inputs)), case.targets)

    size = max(
        1, (batch_size or default_batch_size(case.model, case.inputs)) // max(1, len(case.inputs))
    )
    chunks = -(-count // size)
    indices = (jnp.arange(chunks * size) % count).reshape(chunks, size)
    scores = jax.lax.collapse(jax.lax.map(jax.vmap(score), indices), 0, 2)
    return jnp.moveaxis(scores[:count], 0, -1)


def _weigh(case: _Case, masks: Array, scores: Array) -> _Found:
    weights = OFFICIAL.weigh(scores, _masks.is_live(masks)[:, None], scores[..., :1])
    sums = OFFICIAL.combine(case.activations, masks, weights, OFFICIAL.render, case.shape)
    return weights, scores, OFFICIAL.finish(sums, case.shape)


def _explain(
    formula: Callable[..., _Found],
    model: Callable[..., Any],
    score: Callable[..., Any],
    *arguments: Any,
    channel_axis: int,
    settings: tuple[tuple[str, Any], ...],
) -> Explanation:
    return explain(
        _compiled, (model, score), *arguments,
        formula=formula, channel_axis=channel_axis, settings=settings,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("static", "formula", "channel_axis", "settings"))
def _compiled(arrays, inputs, targets, *operands, static, formula, channel_axis, settings):  # type: ignore[no-untyped-def]
    model, score = join_arrays(arrays, static)
    outputs, shown = checks.check_shown(model(inputs), inputs)
    confidence = class_scores(score, outputs, len(inputs))
    if targets is None:
        targets = confidence.argmax(1)[:, None]
    activations = jnp.moveaxis(in_full_precision(shown), channel_axis, -1)
    shape = spatial_shape(inputs, channel_axis)
    case = _Case(model, score, inputs, confidence, activations, targets, channel_axis, shape)
    weights, scores, heatmap = formula(case, *operands, **dict(settings))
    return Explanation(heatmap, weights, scores, shown, outputs, targets), confidence
