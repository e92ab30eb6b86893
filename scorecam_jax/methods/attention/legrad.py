"""LeGrad (Bousselham et al. 2024, arXiv 2404.03214)."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.attention.base import Seen, run_attention
from scorecam_jax.methods.attention.generic import last_blocks
from scorecam_jax.methods.base import Explanation


def legrad(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    blocks: int | None = 2,
    grid: tuple[int, ...] | None = None,
    **question: Unpack[Output],
) -> Explanation:
    """Sum the positive gradients of each block's own score with respect to its attention.

    A block's score s_l = head(mean Z_l) is the network's score if every token of the last block
    were the mean of the tokens that block l returns. The map at a token is Σ_l of the mean over
    heads and queries of ReLU(∂s_l/∂A_l) at the token's key.

    Args:
        model: a model from an adapter such as `from_linen`, with any layer.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        blocks: the number of last blocks to sum; None for all. The authors' package uses 2,
            torch-cam's example 4. torch-cam takes the mean over blocks, which is the same map after
            scaling.
        grid: as in `attention_rollout`.
        **question: see `Output`. The default score is the outputs themselves, the logits.

    Returns:
        As `attention_rollout`.

    Raises:
        TypeError: the model was not made by an adapter.
        ValueError: as `attention_rollout`; or there are not as many blocks, or a block's output is
            not found.

    Source: Bousselham et al. 2024 (arXiv 2404.03214), Section 3; the authors' package legrad-torch
    1.1.
    """
    return run_attention(
        legrad, _legrad, model, inputs, targets, question, grid=grid, streams=True, blocks=blocks
    )


def _legrad(seen: Seen, blocks: int | None) -> Float[Array, "batch targets tokens"]:
    follow = seen.streams
    assert follow is not None
    total: Any = 0.0
    for number in last_blocks(seen, blocks):

        def score(taps: Sequence[Any], number: int = number) -> Array:
            streams, head = follow(taps)
            mean = streams[number].mean(1, keepdims=True)
            return head(jnp.broadcast_to(mean, streams[-1].shape))

        (slopes,) = seen.slopes([number], score)
        total = total + jax.nn.relu(slopes).mean((2, 3))
    return total
