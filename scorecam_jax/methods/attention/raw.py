"""The attention of one block, unchanged."""

from typing import Any, Unpack

import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.attention.base import Seen, run_attention
from scorecam_jax.methods.base import Explanation


def raw_attention(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    block: int = -1,
    head: int | None = None,
    grid: tuple[int, ...] | None = None,
    **question: Unpack[Output],
) -> Explanation:
    """Show what a block attends to, whatever the class.

    The map is the row of the attention matrix that the outputs read, as in `attention_rollout`:
    the class token's, or the mean of all rows. Attention need not influence the outputs; see Jain
    and Wallace 2019 (arXiv 1902.10186).

    Args:
        model: as in `attention_rollout`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`; the map does not depend on them.
        block: the number of the block, from 0; -1 for the last.
        head: the number of one head; None for the mean over all.
        grid: as in `attention_rollout`.
        **question: see `Output`. The default score is the outputs themselves, the logits.

    Returns:
        As `attention_rollout`.

    Raises:
        ValueError: as `attention_rollout`; or there is no such block or head.
    """
    return run_attention(
        raw_attention, _raw, model, inputs, targets, question, grid=grid, block=block, head=head
    )


def _raw(seen: Seen, block: int, head: int | None) -> Float[Array, "batch 1 tokens"]:
    count = len(seen.matrices)
    if not -count <= block < count:
        raise ValueError(f"block={block}, wanted the number of a block, {-count} to {count - 1}")
    matrix = seen.matrices[block]
    heads = matrix.shape[1]
    if head is not None and not -heads <= head < heads:
        raise ValueError(f"head={head}, wanted None or the number of a head, 0 to {heads - 1}")
    shown = matrix.mean(1) if head is None else matrix[:, head]
    return jnp.einsum("q,bqk->bk", seen.read, shown)[:, None]
