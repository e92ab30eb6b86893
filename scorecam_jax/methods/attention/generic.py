"""Generic attention explainability (Chefer et al. 2021, arXiv 2103.15679)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.attention.base import Seen, run_attention
from scorecam_jax.methods.base import Explanation


def generic_attention(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    blocks: int | None = None,
    grid: tuple[int, ...] | None = None,
    **question: Unpack[Output],
) -> Explanation:
    """Accumulate the evidence for the target through the attention of the blocks.

    R starts as the identity. Each block in turn replaces it by R + Ā R, where Ā is the mean over
    the heads of ReLU(∇A ∘ A), and ∇A is the gradient of the target's score. The map is the row of R
    that the outputs read, as in `attention_rollout`.

    Args:
        model: as in `attention_rollout`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        blocks: the number of last blocks to multiply. None: all, as for image classifiers. 1: the
            last alone, as the authors do for CLIP.
        grid: as in `attention_rollout`.
        **question: see `Output`. The default score is the outputs themselves, the logits.

    Returns:
        As `attention_rollout`.

    Raises:
        ValueError: as `attention_rollout`; or there are not as many blocks.

    Source: Chefer, Gur and Wolf 2021 (arXiv 2103.15679), Eqs. 5 and 6.
    """
    return run_attention(
        generic_attention, _generic, model, inputs, targets, question, grid=grid, blocks=blocks
    )


def last_blocks(seen: Seen, blocks: int | None) -> range:
    """The numbers of the last `blocks` blocks; ValueError if there are not as many."""
    count = len(seen.matrices)
    if blocks is not None and not 1 <= blocks <= count:
        raise ValueError(
            f"blocks={blocks}, wanted the number of last blocks to use, 1 to {count}, or None"
        )
    return range(0 if blocks is None else count - blocks, count)


def _generic(seen: Seen, blocks: int | None) -> Float[Array, "batch targets tokens"]:
    which = last_blocks(seen, blocks)
    row = jnp.broadcast_to(seen.read[None, None], (*seen.targets.shape, len(seen.read)))
    for number, slopes in reversed(list(zip(which, seen.slopes(which), strict=True))):
        shares = jax.nn.relu(slopes * seen.matrices[number][:, None]).mean(2)
        told = jnp.einsum("btq,btqk->btk", row, shares)
        # Learned queries that pool the tokens have no residual path from the tokens.
        row = row + told if row.shape[-1] == told.shape[-1] else told
    return row
