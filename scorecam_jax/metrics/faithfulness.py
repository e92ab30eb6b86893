"""Faithfulness: whether masking parts of the input changes the score as the heatmap predicts.

Every metric is called as `metric(model, inputs, heatmaps, targets, ...)` and returns one value per
input, (B,), to average and bootstrap over your images. Every metric works under `jit`.

- `model`: inputs -> (outputs, activations), as in `score_cam`.
- `inputs`: (B, *spatial, C), preprocessed. `heatmaps`: (B, *spatial), in [0, 1].
- `targets`: None (each input's best class), an int, or (B,).
- further keywords: `Scoring`; the default score is `jax.nn.softmax`.

A metric raises ValueError if the heatmaps or targets do not fit the inputs.

Masked inputs are out of distribution, so every metric partly measures the model's reaction to
masking. Compare methods on the same model and images, and include the uniform map.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Scoring
from scorecam_jax.metrics.imputation import impute
from scorecam_jax.metrics.masked import PerImage, classes_of, fitting, masked_scores
from scorecam_jax.metrics.sanity import correlation
from scorecam_jax.steps import masks
from scorecam_jax.steps.filters import blur


def average_drop(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    mute: float = 0.0,
    **masking: Unpack[Scoring],
) -> PerImage:
    """Loss of score on the input masked by its heatmap, in percent; lower is better.

    100 · max(0, p − o) / p, where p is the score of the input and o that of input ∘ heatmap.

    A map of ones loses nothing, and a map that hides a single pixel loses almost nothing. Read it
    together with `average_gain`, `deletion` and the uniform map's value.

    Args:
        model: see `faithfulness`.
        inputs: see `faithfulness`.
        heatmaps: see `faithfulness`.
        targets: see `faithfulness`.
        mute: pixels below this quantile of their heatmap are set to 0 first; a map of ones stays
            unchanged. Score-CAM's paper mutes the lower half (0.5); most other work mutes nothing.
        **masking: see `Scoring`.

    Source: Grad-CAM++ (arXiv 1710.11063), section 4.1; Score-CAM (arXiv 1910.01279), section 4.2.

    >>> model = lambda x: (x.mean(1), x)
    >>> signal = jnp.array([[[0.5], [0.5]]])
    >>> average_drop(model, signal, jnp.array([[1.0, 0.5]]), 0, score=lambda outputs: outputs)
    Array([25.], dtype=float32)
    """
    (before, after), _ = _before_and_after(model, inputs, heatmaps, targets, mute, masking)
    return 100 * masks.divide(jax.nn.relu(before - after), before)


def average_increase(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    mute: float = 0.0,
    **masking: Unpack[Scoring],
) -> PerImage:
    """Whether the score rises on the input masked by its heatmap, 0 or 100; higher is better.

    100 · [p < o], with the symbols of `average_drop`. The mean over images is the percentage of
    images whose score rises. A rise by 1e-6 counts fully, and hardly any map raises a score that is
    already 0.999.

    Source: Grad-CAM++ (arXiv 1710.11063), section 4.1.
    """
    (before, after), (left, still_left) = _before_and_after(
        model, inputs, heatmaps, targets, mute, masking
    )
    # Near 1 the distance to 1 is the finer scale.
    rises = jnp.where(before < 0.5, before < after, left > still_left)
    return 100 * rises.astype(before.dtype)


def average_gain(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    mute: float = 0.0,
    **masking: Unpack[Scoring],
) -> PerImage:
    """Gain of score on the input masked by its heatmap, in percent; higher is better.

    100 · max(0, o − p) / (1 − p), with the symbols of `average_drop`: the share of the score's
    distance to 1 that the mask closes. A map of ones gets 0. Scores have to be in [0, 1].

    Source: Opti-CAM, Zhang et al. 2023 (arXiv 2301.07002), section 4.1.
    """
    _, (left, still_left) = _before_and_after(model, inputs, heatmaps, targets, mute, masking)
    return 100 * masks.divide(jax.nn.relu(left - still_left), left)


def adcc(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    explain: Callable[[Array, Array], Array],
    **masking: Unpack[Scoring],
) -> PerImage:
    """The harmonic mean of coherency, simplicity and kept score, in [0, 1]; higher is better.

    3 / (1/coherency + 1/(1 − complexity) + 1/(1 − drop)); 0 if one of the parts is 0.
    coherency = (1 + Pearson(map(x), map(x ∘ map))) / 2, complexity = mean |map|,
    drop = max(0, p − o) / p.

    A constant map correlates with nothing, so its coherency is defined as 1/2. The map of ones has
    no simplicity and gets 0. A tiny map has almost full simplicity, whatever it shows.

    Args:
        model: see `faithfulness`.
        inputs: see `faithfulness`.
        heatmaps: see `faithfulness`.
        targets: see `faithfulness`.
        explain: (inputs, targets (B,)) -> heatmaps, the method that made the heatmaps. It is
            applied to the masked inputs. Example: `lambda x, t: score_cam(model, x, t).heatmap`.
        **masking: see `Scoring`.

    Source: Poppi et al. 2021 (arXiv 2104.10252).
    """
    model, inputs, heatmaps, axis = fitting(model, inputs, heatmaps, masking)
    targets = classes_of(model, inputs, targets, masking)
    drop = average_drop(model, inputs, heatmaps, targets, **masking) / 100
    coherency = _coherency(inputs, heatmaps, targets, explain, axis, masking)
    return _harmonic(coherency, _simplicity(heatmaps), 1 - drop)


def arcc(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    explain: Callable[[Array, Array], Array],
    key: PRNGKeyArray,
    fractions: Sequence[float] = (0.2, 0.4, 0.6, 0.8),
    noise: ArrayLike = 0.01,
    **masking: Unpack[Scoring],
) -> PerImage:
    """`adcc` with `road` instead of the kept score, in [0, 1]; higher is better.

    3 / (1/coherency + 1/(1 − complexity) + 1/clip(2 · road, 0, 1)); 0 if one of the parts is 0.
    Unlike the kept score, `road` fills removed pixels in, so that the image is closer to the
    model's distribution. A map that is no better than chance by `road` gets 0, so on few images
    zeros dominate the mean.

    Args:
        model: see `faithfulness`.
        inputs: see `faithfulness`.
        heatmaps: see `faithfulness`.
        targets: see `faithfulness`.
        explain: as in `adcc`.
        key: as in `road`.
        fractions: as in `road`.
        noise: as in `road`.
        **masking: see `Scoring`.

    Source: arXiv 2605.14641, as coded in pytorch-grad-cam's `ARCC`. Its description says geometric
    mean; its code computes the harmonic mean, and adds 1e-8 to each part.
    """
    model, inputs, heatmaps, axis = fitting(model, inputs, heatmaps, masking)
    targets = classes_of(model, inputs, targets, masking)
    removal = road(
        model, inputs, heatmaps, targets, key=key, fractions=fractions, noise=noise, **masking
    )
    coherency = _coherency(inputs, heatmaps, targets, explain, axis, masking)
    return _harmonic(coherency, _simplicity(heatmaps), jnp.clip(2 * removal, 0, 1))


def deletion(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    step: int | float = 0.01,
    key: PRNGKeyArray | None = None,
    **masking: Unpack[Scoring],
) -> PerImage:
    """The area under `deletion_curve`, in [0, 1] if the score is; lower is better."""
    fractions, scores = deletion_curve(
        model, inputs, heatmaps, targets, step=step, key=key, **masking
    )
    return _area(fractions, scores)


def insertion(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    step: int | float = 0.01,
    key: PRNGKeyArray | None = None,
    **masking: Unpack[Scoring],
) -> PerImage:
    """The area under `insertion_curve`, in [0, 1] if the score is; higher is better."""
    fractions, scores = insertion_curve(
        model, inputs, heatmaps, targets, step=step, key=key, **masking
    )
    return _area(fractions, scores)


def deletion_curve(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    step: int | float = 0.01,
    key: PRNGKeyArray | None = None,
    **masking: Unpack[Scoring],
) -> tuple[Float[np.ndarray, " steps"], Float[Array, "batch steps"]]:
    """The score while pixels are replaced by the baseline, the most salient first.

    Only the order of the pixels counts. The model also sees the edges of the deleted region: a low
    area may show that the model is confused, not that its evidence is gone (see `road`).

    Args:
        model: see `faithfulness`.
        inputs: see `faithfulness`.
        heatmaps: see `faithfulness`.
        targets: see `faithfulness`.
        step: the number of pixels that change between scores, as a share (a float below 1; 0.01 in
            Score-CAM's paper) or as a number (an int; 224 in RISE).
        key: the key of a random order for pixels of equal value. None keeps their reading order, so
            that flat parts of a heatmap are deleted from the top left.
        **masking: see `Scoring`.

    Returns:
        The share of pixels deleted, (S,), from 0 to 1, and the scores, (B, S).

    Source: RISE, Petsiuk et al. 2018 (arXiv 1806.07421), section 4.2.
    """
    model, inputs, heatmaps, _ = fitting(model, inputs, heatmaps, masking)
    last = math.prod(heatmaps.shape[1:]) - 1
    deleted, counts = _progress(step, last + 1)
    ranks = last - _ranks(heatmaps, key)
    return deleted, _score_revealed(model, inputs, ranks, last + 1 - counts, targets, masking)


def insertion_curve(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    step: int | float = 0.01,
    key: PRNGKeyArray | None = None,
    **masking: Unpack[Scoring],
) -> tuple[Float[np.ndarray, " steps"], Float[Array, "batch steps"]]:
    """The score while pixels are inserted into the baseline, the most salient first.

    Arguments, result and source are those of `deletion_curve`, but the default baseline is the
    input blurred by a Gaussian of σ = 5 over 11 pixels, as in RISE.
    """
    model, inputs, heatmaps, axis = fitting(model, inputs, heatmaps, masking)
    if "baseline" not in masking:
        masking["baseline"] = blur(inputs, channel_axis=axis)
    inserted, counts = _progress(step, math.prod(heatmaps.shape[1:]))
    ranks = _ranks(heatmaps, key)
    return inserted, _score_revealed(model, inputs, ranks, counts, targets, masking)


def road(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    key: PRNGKeyArray,
    fractions: Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    noise: ArrayLike = 0.01,
    **masking: Unpack[Scoring],
) -> PerImage:
    """ROAD, remove and debias: whether removing salient pixels costs more; higher is better.

    Half the difference between the score without the least salient pixels and the score without the
    most salient pixels, averaged over `fractions`, the shares of pixels removed. For scores in
    [0, 1] it is in [−1/2, 1/2]. `impute` fills in the removed pixels, so that the shape of the hole
    gives no information to the model. `key` orders ties at random, so the uniform map gets 0 up to
    chance. Under `jit`, each fraction adds two passes of the model to the program to compile.

    Source: Rong et al. 2022 (arXiv 2202.00449), section 4; halved and combined as
    pytorch-grad-cam's `ROADCombined`.
    """
    model, inputs, heatmaps, axis = fitting(model, inputs, heatmaps, masking)
    targets = classes_of(model, inputs, targets, masking)
    removed = np.rint(np.asarray(fractions) * math.prod(heatmaps.shape[1:])).astype(int)
    if not (removed.size and removed.min() > 0 and removed.max() < math.prod(heatmaps.shape[1:])):
        raise ValueError(
            f"fractions are {tuple(fractions)}, wanted shares of the pixels between 0 and 1, such "
            "as (0.1, 0.5, 0.9), that neither keep nor remove all pixels"
        )
    tie_key, noise_key = jax.random.split(key)
    ranks = _ranks(heatmaps, tie_key)
    difference = jnp.zeros(len(inputs))
    for sign, ordered in ((-1, ranks), (1, math.prod(heatmaps.shape[1:]) - 1 - ranks)):
        for count, key in zip(removed, jax.random.split(noise_key, len(removed)), strict=True):
            filled = impute(inputs, ordered >= count, key=key, noise=noise, channel_axis=axis)
            whole = jnp.ones((len(filled), *(1,) * (heatmaps.ndim - 1), 1), filled.dtype)
            scores, _ = masked_scores(model, filled, whole, _show_all, targets, masking)
            difference = difference + sign * scores[:, 0]
    return difference / (2 * len(removed))


def _coherency(
    inputs: Float[Array, "batch ..."],
    heatmaps: Float[Array, "batch *spatial"],
    targets: Int[Array, " batch"],
    explain: Callable[[Array, Array], Array],
    channel_axis: int,
    masking: Scoring,
) -> PerImage:
    """The correlation of each map with that of the input masked by it, scaled to [0, 1]."""
    baseline = jnp.asarray(masking.get("baseline", 0.0), inputs.dtype)
    baseline = baseline.reshape((1,) * (inputs.ndim - baseline.ndim) + baseline.shape)
    masked = masks.apply_masks(inputs, heatmaps, baseline, channel_axis)
    return (1 + jax.vmap(correlation)(heatmaps, explain(masked, targets))) / 2


def _simplicity(heatmaps: Float[Array, "batch *spatial"]) -> PerImage:
    return 1 - jnp.abs(heatmaps).mean(tuple(range(1, heatmaps.ndim)))


def _harmonic(a: PerImage, b: PerImage, c: PerImage) -> PerImage:
    """The harmonic mean of three nonnegative values; 0 if one of them is 0."""
    return masks.divide(3 * a * b * c, a * b + a * c + b * c)


def _before_and_after(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any,
    mute: float,
    masking: Scoring,
) -> tuple[tuple[PerImage, PerImage], tuple[PerImage, PerImage]]:
    """The scores of the inputs and of the masked inputs, and one minus each of them."""
    model, inputs, heatmaps, _ = fitting(model, inputs, heatmaps, masking)
    if mute:
        space = tuple(range(1, heatmaps.ndim))
        heatmaps = jnp.where(
            heatmaps >= jnp.quantile(heatmaps, mute, space, keepdims=True), heatmaps, 0
        )
    # The input itself is scored in the same pass as the masked inputs, so that a mask of ones
    # changes nothing, not even by rounding.
    shown = jnp.stack([jnp.ones_like(heatmaps), heatmaps], -1)
    scores, complements = masked_scores(model, inputs, shown, _as_they_are, targets, masking)
    return (scores[:, 0], scores[:, 1]), (complements[:, 0], complements[:, 1])


def _score_revealed(
    model: AnyModel,
    inputs: Float[Array, "batch ..."],
    ranks: Int[Array, "batch *spatial"],
    counts: Int[np.ndarray, " steps"],
    targets: Any,
    masking: Scoring,
) -> Float[Array, "batch steps"]:
    """Score each input with its first `counts` pixels shown, in the order of `ranks`."""
    # A pair (1 + the input's index, the number of pixels) stands for a mask, so that only one chunk
    # of full-size masks exists at a time. An empty mask is (0, 0), as the engine requires.
    index, count = jnp.meshgrid(1 + jnp.arange(len(inputs)), jnp.asarray(counts), indexing="ij")
    shown = jnp.stack([index * (count > 0), count], 1).astype(jnp.float32)
    scores, _ = masked_scores(model, inputs, shown, Partial(_reveal, ranks), targets, masking)
    return scores


def _area(fractions: Float[np.ndarray, " steps"], scores: Float[Array, "batch steps"]) -> PerImage:
    """The area under a curve, by the trapezoidal rule."""
    widths = jnp.asarray(np.diff(fractions), scores.dtype)[None]
    area = (widths * (scores[:, 1:] + scores[:, :-1])).sum(1) / 2
    return jnp.clip(area, scores.min(1), scores.max(1))  # a mean, up to rounding


def _reveal(
    ranks: Int[Array, "batch *spatial"], shown: Float[Array, "n 2"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    count = shown[:, 1].reshape(-1, *(1,) * len(shape))
    return (ranks[shown[:, 0].astype(int) - 1] < count).astype(shown.dtype)


def _as_they_are(shown: Float[Array, "n *spatial"], shape: Sequence[int]) -> Array:
    return shown


def _show_all(shown: Float[Array, "n *grid"], shape: Sequence[int]) -> Float[Array, "n *spatial"]:
    return jnp.ones((len(shown), *shape), shown.dtype)


def _progress(
    step: int | float, pixels: int
) -> tuple[Float[np.ndarray, " steps"], Int[np.ndarray, " steps"]]:
    """The number of pixels changed at each step, as shares and as counts, from none to all."""
    if isinstance(step, int | np.integer):
        valid = 1 <= step <= pixels
        counts = np.append(np.arange(0, pixels, step) if valid else [], pixels).astype(int)
    else:
        valid = 0 < step < 1
        shares = np.append(np.arange(0, 1 - 1e-9, step) if valid else [], 1.0)
        counts = np.unique(np.rint(shares * pixels).astype(int))
    if not valid:
        raise ValueError(
            f"step is {step!r}, wanted a share of the pixels (a float between 0 and 1) or a "
            f"number of pixels (an int from 1 to {pixels})"
        )
    return counts / pixels, counts


@jax.jit
def _ranks(
    heatmaps: Float[Array, "batch *spatial"], key: PRNGKeyArray | None = None
) -> Int[Array, "batch *spatial"]:
    """Each pixel's rank, from 0 for the most salient."""
    flat = jax.lax.collapse(heatmaps, 1)
    places = jnp.arange(flat.shape[1])
    tied = places if key is None else jax.random.permutation(key, places)
    order = jnp.lexsort((jnp.broadcast_to(tied, flat.shape), -flat), axis=1)
    return jnp.argsort(order, axis=1).reshape(heatmaps.shape)
