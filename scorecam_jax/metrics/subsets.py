"""Faithfulness by random subsets: whether a heatmap's sums over subsets agree with falls of score.

Random parts of the input are replaced by the baseline. A faithful map's sum over the removed part
varies with the fall of the score. Every metric is called like those of `faithfulness`.

All images share one draw, so methods and images are compared on the same subsets. Values depend on
the shape of the subsets, because networks hardly react to single pixels, which are like noise.
Compare only values of the same settings.
"""

import math
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Scoring
from scorecam_jax.metrics.masked import PerImage, fitting, masked_scores
from scorecam_jax.metrics.sanity import correlation
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.outputs import in_full_precision


def faithfulness_correlation(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    key: PRNGKeyArray,
    size: int | float = 0.2,
    subsets: int = 100,
    cells: int | None = None,
    **masking: Unpack[Scoring],
) -> PerImage:
    """Correlation of the heatmap's sums with falls of the score, in [−1, 1]; higher is better.

    Pearson's correlation, over random subsets S of a fixed size, of Σ_S heatmap and
    score(x) − score(x without S). 0 if one of them is constant, as for the map of ones.

    Sums over many pixels hardly differ between subsets, and the differences are noisy: with 100
    subsets, chance alone reaches ±0.2 on an image (95 %). Average over images.

    Args:
        model: see `faithfulness`.
        inputs: see `faithfulness`.
        heatmaps: see `faithfulness`.
        targets: see `faithfulness`.
        key: the key of the subsets.
        size: the number of pixels in a subset, as a share (a float below 1) or as a number (an int;
            224 in Quantus).
        subsets: the number of subsets.
        cells: divide each axis into this many cells (an axis with fewer pixels, into its pixels);
            subsets then consist of cells instead of pixels, and `size` counts cells. 9 in xplique's
            μ-fidelity, which uses the correlation of ranks.
        **masking: see `Scoring`.

    Source: Bhatt et al. 2020 (arXiv 2005.00631), definition 3. Quantus removes single values of a
    pixel's channels; this removes whole pixels.
    """
    model, inputs, heatmaps, _ = fitting(model, inputs, heatmaps, masking)
    removed = _random_cells(key, [size], subsets, cells, heatmaps.shape[1:])
    sums, falls = _sums_and_falls(model, inputs, heatmaps, targets, removed, masking)
    return jax.vmap(correlation)(sums, falls)


def sensitivity_n(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    key: PRNGKeyArray,
    sizes: Sequence[int | float] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8),
    subsets: int = 100,
    cells: int | None = None,
    **masking: Unpack[Scoring],
) -> tuple[Int[np.ndarray, " sizes"], Float[Array, "batch sizes"]]:
    """`faithfulness_correlation` at each of several sizes of the subsets: a curve.

    An attribution whose sum over any n pixels is the score's fall without them has 1 at n. For a
    linear score, gradient × input has 1 everywhere.

    Quantus's metric of this name differs. It removes pixels cumulatively, the most salient first,
    and correlates the sum of each step alone with the total fall, over images instead of subsets.

    Args:
        model: see `faithfulness`.
        inputs: see `faithfulness`.
        heatmaps: see `faithfulness`.
        targets: see `faithfulness`.
        key: the key of the subsets.
        sizes: the sizes of the subsets, each as in `faithfulness_correlation`.
        subsets: the number of subsets of each size.
        cells: as in `faithfulness_correlation`.
        **masking: see `Scoring`.

    Returns:
        The number n of pixels or cells removed, (S,), and the correlations, (B, S).

    Source: Ancona et al. 2018 (arXiv 1711.06104), section 4.
    """
    model, inputs, heatmaps, _ = fitting(model, inputs, heatmaps, masking)
    space = heatmaps.shape[1:]
    removed = _random_cells(key, sizes, subsets, cells, space)
    sums, falls = _sums_and_falls(model, inputs, heatmaps, targets, removed, masking)
    pairs = (values.reshape(len(values), len(sizes), subsets) for values in (sums, falls))
    elements = math.prod(_grid(cells, space))
    return (
        np.array([_count(size, elements) for size in sizes]),
        jax.vmap(jax.vmap(correlation))(*pairs),
    )


def infidelity(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    targets: Any = None,
    *,
    key: PRNGKeyArray,
    side: float = 0.25,
    squares: int = 100,
    scaled: bool = True,
    **masking: Unpack[Scoring],
) -> PerImage:
    """Squared error between the heatmap's sums and falls of the score; lower is better.

    The mean over random squares S of (β · Σ_S heatmap − (score(x) − score(x without S)))², with the
    β that minimises it. It is in squared units of the score, and at most the falls' mean square,
    the value of a map that explains nothing. A network that hardly reacts to squares therefore
    makes every map look good: compare with the uniform map's value.

    Args:
        model: see `faithfulness`.
        inputs: see `faithfulness`.
        heatmaps: see `faithfulness`.
        targets: see `faithfulness`.
        key: the key of the squares.
        side: the side of a square, as a share of the input's shortest side.
        squares: the number of squares.
        scaled: whether to use the best β instead of 1. With β = 1, the value for a heatmap that was
            scaled to [0, 1] is meaningless, because the heatmap is not in units of the score.
        **masking: see `Scoring`.

    Source: Yeh et al. 2019 (arXiv 1901.09392), definition 2.1 with square removal, for attributions
    that are shares of the score. This is captum's `infidelity` with `normalize=True`, with a
    perturbation of 1 within the square and 0 elsewhere. Quantus has no β, and treats heatmaps as
    gradients.
    """
    model, inputs, heatmaps, _ = fitting(model, inputs, heatmaps, masking)
    removed = _random_squares(key, side, squares, heatmaps.shape[1:])
    sums, falls = _sums_and_falls(model, inputs, heatmaps, targets, removed, masking)
    if scaled:
        # The result does not depend on the unit of the sums, and some units overflow.
        sums = divide(sums, jnp.abs(sums).max(1, keepdims=True))
        sums = divide((sums * falls).sum(1), (sums**2).sum(1))[:, None] * sums
    return ((sums - falls) ** 2).mean(1)


def _sums_and_falls(
    model: AnyModel,
    inputs: Float[Array, "batch ..."],
    heatmaps: Float[Array, "batch *spatial"],
    targets: Any,
    removed: Bool[Array, "subsets *grid"],
    masking: Scoring,
) -> tuple[Float[Array, "batch subsets"], Float[Array, "batch subsets"]]:
    """The heatmaps' sums over each subset, and the falls of the scores without it."""
    # The input itself is scored in the same pass. A subset's number stands for its mask, so that
    # only one chunk of masks exists at a time; an empty mask is 0, as the engine requires.
    nothing = jnp.zeros_like(removed[:1])
    subsets = jnp.concatenate([nothing, removed])
    numbers = jnp.broadcast_to(1.0 + jnp.arange(len(subsets)), (len(inputs), 1, len(subsets)))
    scores, _ = masked_scores(model, inputs, numbers, Partial(_without, subsets), targets, masking)

    values = in_full_precision(heatmaps)

    def total(subset: Bool[Array, "*grid"]) -> PerImage:
        inside = _enlarge(subset[None], heatmaps.shape[1:])
        return jnp.where(inside, values, 0).sum(tuple(range(1, values.ndim)))

    return jax.lax.map(total, removed).T, scores[:, :1] - scores[:, 1:]


def _without(
    subsets: Bool[Array, "subsets *grid"], numbers: Float[Array, "n one"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    number = numbers[:, 0].astype(int)
    removed = _enlarge(subsets[number - 1], shape)
    shown = ~removed & (number > 0).reshape(-1, *(1,) * len(shape))
    return shown.astype(numbers.dtype)


def _enlarge(subsets: Bool[Array, "n *grid"], shape: Sequence[int]) -> Bool[Array, "n *spatial"]:
    """Enlarge subsets of cells to pixels."""
    for axis, size in enumerate(shape, 1):
        cells = subsets.shape[axis]
        subsets = subsets.take(np.arange(size) * cells // size, axis)
    return subsets


def _random_cells(
    key: PRNGKeyArray,
    sizes: Sequence[int | float],
    subsets: int,
    cells: int | None,
    shape: Sequence[int],
) -> Bool[Array, "sizes_times_subsets *grid"]:
    """Draw `subsets` random subsets of cells or pixels of each size."""
    if subsets < 2:
        raise ValueError(f"subsets is {subsets}, wanted at least 2 to correlate over, such as 100")
    grid = _grid(cells, shape)
    elements = math.prod(grid)
    counts = np.repeat([_count(size, elements) for size in sizes], subsets)
    orders = jax.lax.map(
        lambda key: jax.random.permutation(key, elements), jax.random.split(key, len(counts))
    )
    return (orders < counts[:, None]).reshape(-1, *grid)


def _grid(cells: int | None, shape: Sequence[int]) -> tuple[int, ...]:
    if cells is None:
        return tuple(shape)
    if cells < 2:
        raise ValueError(f"cells is {cells}, wanted at least 2 along each axis, or None for pixels")
    return tuple(min(cells, size) for size in shape)


def _count(size: int | float, elements: int) -> int:
    """The number of elements of a subset."""
    number = isinstance(size, int | np.integer)
    if not (1 <= size < elements if number else 0 < size < 1):
        raise ValueError(
            f"the size of subsets is {size!r}, wanted a share (a float between 0 and 1) or a "
            f"number (an int from 1 to {elements - 1}) of the {elements} pixels or cells"
        )
    return int(size) if number else min(max(1, round(size * elements)), elements - 1)


def _random_squares(
    key: PRNGKeyArray, side: float, squares: int, shape: Sequence[int]
) -> Bool[Array, "squares *spatial"]:
    """Draw random squares, or cubes, that lie within the image."""
    if not 0 < side < 1 or squares < 1:
        raise ValueError(
            f"side is {side} and squares is {squares}, wanted a share of the input's side between "
            "0 and 1, such as 0.25, and at least one square"
        )
    width = max(1, round(side * min(shape)))
    inside = jnp.ones((squares, *(1,) * len(shape)), bool)
    for axis, (size, own) in enumerate(zip(shape, jax.random.split(key, len(shape)), strict=True)):
        first = jax.random.randint(own, (squares, 1), 0, size - width + 1)
        place = jnp.arange(size)[None]
        along = (first <= place) & (place < first + width)
        inside = inside & along.reshape(
            squares, *(1,) * axis, size, *(1,) * (len(shape) - axis - 1)
        )
    return inside
