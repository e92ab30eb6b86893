"""Occlusion sensitivity (Zeiler and Fergus 2014, arXiv 1311.2901)."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Scoring
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.outputs import of_targets


def occlusion(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    steps: int = 14,
    size: float = 0.2,
    **masking: Unpack[Scoring],
) -> Explanation:
    """Slide a square of the baseline over the input, and map the loss of score.

    The map at a place is f(X)_c − f(X with the square centred there)_c on a grid of `steps` places
    along each axis, resized linearly, rectified, and scaled to [0, 1]. `scores` are
    (B, [T,] steps^rank), in row-major order; `weights` are None. The layer does not matter.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        steps: the number of places along each axis, spread evenly.
        size: the square's side, as a share of the input's side along each axis.
        **masking: see `Scoring`. The default score is `jax.nn.softmax`. The square shows the
            baseline; the paper's is grey.

    Source: Zeiler and Fergus 2014 (arXiv 1311.2901), section 4.2.
    """
    return run(
        occlusion, _occlusion, model, inputs, targets, masking,
        score=jax.nn.softmax, reads_layer=False, steps=steps, size=size,
    )  # fmt: skip


def _occlusion(context: Context, *, steps: int, size: Any) -> Found:
    # Until it is rendered, a mask is the number of its place, counted from 1; 0 is an empty mask.
    shape = context.shape
    numbers = jnp.arange(1.0, steps ** len(shape) + 1)
    masks = jnp.broadcast_to(numbers, (len(context.inputs), 1, len(numbers)))
    scores = context.score_masks(masks, Partial(_cover, size, steps))
    whole = of_targets(context.confidence, context.targets)[..., None]
    maps = (whole - scores).reshape(*scores.shape[:2], *[steps] * len(shape))
    return context.finish(maps, scores)


def _cover(
    size: Array, steps: int, numbers: Float[Array, "n 1"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    """Show everything but a square centred at each place of a grid."""
    rest = numbers[:, 0].astype(int) - 1
    covered = jnp.ones((len(numbers), *[1] * len(shape)), bool)
    for axis in reversed(range(len(shape))):
        rest, place = jnp.divmod(rest, steps)
        centre = (place + 0.5)[:, None] / steps
        pixels = (jnp.arange(shape[axis]) + 0.5)[None] / shape[axis]
        inside = jnp.abs(pixels - centre) <= size / 2
        sides = [1] * len(shape)
        sides[axis] = shape[axis]
        covered = covered & inside.reshape(len(numbers), *sides)
    return 1 - covered.astype(numbers.dtype)
