"""Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928)."""

from typing import Any, Unpack

import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.attention.base import Seen, run_attention
from scorecam_jax.methods.base import Explanation


def attention_rollout(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    grid: tuple[int, ...] | None = None,
    **question: Unpack[Output],
) -> Explanation:
    """Multiply the attention of all blocks, from the first to the last, whatever the class.

    R = Â_L ··· Â_1, where Â is the mean of a block's heads plus the identity, its rows divided by
    their sums. The map is the row of R that the outputs read: the class token's, or the mean of all
    rows if the network averages its tokens. Attention that pools the tokens by learned queries, as
    in SigLIP, is multiplied last, without the identity. The values at the patches are resized to
    the input's size and scaled to [0, 1].

    In many trained transformers the map collapses onto a few tokens of high norm, which hold no
    information about their place (arXiv 2309.16588); `diagnose` warns of this.

    Args:
        model: a model from an adapter such as `from_linen`, with any layer: the attention matrices
            are found in the network. Or a function `(inputs, edit=None) -> (outputs, (matrix,
            ...))` with the matrices (B, heads, tokens, tokens) of its blocks, the grid's tokens
            last.
        inputs: as in `score_cam`.
        targets: as in `score_cam`; the map does not depend on them.
        grid: the sizes of the tokens' grid; None infers them from the network, or from the image's
            proportions.
        **question: see `Output`. The default score is the outputs themselves, the logits.

    Returns:
        An `Explanation` whose `activations` are the matrices; `weights` and `scores` are None.

    Raises:
        ValueError: the network has no attention, or its blocks do not all have the same tokens.

    Source: Abnar and Zuidema 2020 (arXiv 2005.00928), Section 3. Its A = 0.5 (W + I) is the same,
    because the rows of W sum to 1.
    """
    return run_attention(attention_rollout, _rollout, model, inputs, targets, question, grid=grid)


def _rollout(seen: Seen) -> Float[Array, "batch 1 tokens"]:
    row = seen.read[None]
    for matrix in reversed(seen.matrices):
        mean = matrix.mean(1)
        if mean.shape[1] == mean.shape[2]:  # a pool's queries have no residual path
            mean = mean + jnp.eye(mean.shape[1])[None]
        mean = mean / mean.sum(-1, keepdims=True)
        row = jnp.einsum("bq,bqk->bk", jnp.broadcast_to(row, mean.shape[:2]), mean)
    return row[:, None]
