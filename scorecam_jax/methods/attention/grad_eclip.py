"""Grad-ECLIP (Zhao et al. 2025, arXiv 2502.18816)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Output
from scorecam_jax.methods.attention.base import Seen, run_attention
from scorecam_jax.methods.base import Explanation
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.vectors import unit


def grad_eclip(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    *,
    grid: tuple[int, ...] | None = None,
    **question: Unpack[Output],
) -> Explanation:
    """Sum what the last block takes from each patch, by the gradient of the score: for CLIP.

    The map at patch i is ReLU(λ_i Σ_d g_d v_i,d). g is the gradient by what the last block's
    attention makes for the class token, ahead of the projection; v_i are the patch's values, and
    λ_i = cos(q, k_i) of the class token's query and the patch's key, all heads together, scaled to
    [0, 1] over the patches. As g · v_i is the gradient by the attention that the class token
    pays to the patch, summed over the heads, it is taken from there. Where the outputs read
    other tokens too, their maps are summed.

    Args:
        model: as in `attention_rollout`; its queries and keys are found in the network.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        grid: as in `attention_rollout`.
        **question: see `Output`. The default score is the outputs themselves, the logits. For
            CLIP, whose outputs are embeddings, pass `score=scores.similarity(texts)`.

    Returns:
        As `attention_rollout`.

    Raises:
        ValueError: as `attention_rollout`; or the queries and keys are not found.

    Source: Zhao, Wang, Zeng, Zhao and Chan (arXiv 2502.18816; ICML 2024), and the authors'
    notebook, github.com/Cyang-Zhao/Grad-Eclip at 5c1b5cc. The notebook computes the last attention
    anew with a single head, which is another network than CLIP; here the network is as it is.
    """
    return run_attention(grad_eclip, _grad_eclip, model, inputs, targets, question, grid=grid)


def _grad_eclip(seen: Seen) -> Float[Array, "batch targets tokens"]:
    compared = seen.compared()
    if compared is None:
        raise ValueError(
            "the queries and keys of the last attention are not found: the matrix has to be made "
            "of one product of both, for each head, outside of loops. generic_attention needs "
            "neither"
        )
    queries, keys = (_joined(each) for each in compared)
    alike = jnp.einsum("nqd,nkd->nqk", unit(queries), unit(keys), precision="highest")
    patches = jnp.broadcast_to(seen.is_patch, alike.shape)
    low = jnp.where(patches, alike, jnp.inf).min(2, keepdims=True)
    high = jnp.where(patches, alike, -jnp.inf).max(2, keepdims=True)
    shares = jnp.where(patches, divide(alike - low, high - low), 0)
    (slopes,) = seen.slopes([len(seen.matrices) - 1])
    return jax.nn.relu((slopes.sum(2) * shares[:, None]).sum(2))


def _joined(each: Float[Array, "n heads tokens d"]) -> Float[Array, "n tokens features"]:
    """All heads of a token together."""
    return jnp.moveaxis(each, 1, 2).reshape(len(each), each.shape[2], -1).astype(jnp.float32)
