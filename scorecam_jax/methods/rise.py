"""RISE (Petsiuk, Das and Saenko 2018, arXiv 1806.07421)."""

import math
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Scoring
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.combine import peak_of, sum_masks
from scorecam_jax.steps.masks import normalize, resize


def rise(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    key: Array,
    count: int = 4000,
    cells: int = 7,
    probability: float = 0.5,
    **masking: Unpack[Scoring],
) -> Explanation:
    """Sum random masks, each weighted by its score: Σ_i f(X ∘ M_i)_c M_i.

    A mask is a grid with `cells` cells along each side, each 1 with `probability`, enlarged
    linearly and shifted at random. Masks are drawn from `key` when needed and never stored; all
    inputs share them. The division by E[M] is omitted, because the map is scaled to [0, 1].
    `scores` are (B, [T,] count); `weights` are None. The layer does not matter.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        key: the key of the masks.
        count: the number of masks.
        cells: the number of cells along each side of a mask's grid.
        probability: the probability that a cell is 1.
        **masking: see `Scoring`. The default score is `jax.nn.softmax`.

    Source: Petsiuk, Das and Saenko 2018 (arXiv 1806.07421), Eq. 6.
    """
    return run(
        rise, _rise, model, inputs, targets, masking,
        score=jax.nn.softmax, key=key, count=count, cells=cells, probability=probability,
        reads_layer=False,
    )  # fmt: skip


def _rise(context: Context, *, key: Array, count: int, cells: int, probability: Any) -> Found:
    # Until it is rendered, a mask is the number of its draw, counted from 1; 0 is an empty mask.
    numbers = jnp.arange(1.0, count + 1)
    masks = jnp.broadcast_to(numbers, (len(context.inputs), 1, count))
    render = Partial(_draw, key, probability, cells)
    scores = context.score_masks(masks, render)
    sums = sum_masks(masks, masks, scores, render, context.shape)
    return Found(normalize(sums, len(context.shape)), None, scores, peak_of(sums))


def _draw(
    key: Array, probability: Array, cells: int, numbers: Float[Array, "n 1"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    steps = [math.ceil(size / cells) for size in shape]

    def draw(number: Array) -> Array:
        grid_key, shift_key = jax.random.split(jax.random.fold_in(key, number))
        grid = jax.random.bernoulli(grid_key, probability, [cells] * len(shape))
        large = resize(grid.astype(float), [(cells + 1) * step for step in steps])
        shift = jax.random.randint(shift_key, [len(shape)], 0, jnp.array(steps))
        return jax.lax.dynamic_slice(large, list(shift), shape)

    return jax.vmap(draw)(numbers[:, 0].astype(int))
