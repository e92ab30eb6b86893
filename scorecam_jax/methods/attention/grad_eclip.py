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
    """Weight each patch's values in the last attention by the gradient of the score, for CLIP.

    The map at patch i is ReLU(λ_i Σ_d g_d v_i,d). g is the gradient with respect to the last
    attention's output for the class token, before the projection. v_i are the patch's values.
    λ_i = cos(q, k_i), of the class token's query and the patch's key with all heads joined, scaled
    to [0, 1] over the patches. g · v_i is computed as the gradient with respect to the class
    token's attention to the patch, summed over the heads. If the outputs read other tokens too, the
    maps of all tokens are summed.

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
    notebook, github.com/Cyang-Zhao/Grad-Eclip at 5c1b5cc. The notebook recomputes the last
    attention with a single head, which changes CLIP; here the network is unchanged.
    """
    return run_attention(grad_eclip, _grad_eclip, model, inputs, targets, question, grid=grid)


def _grad_eclip(seen: Seen) -> Float[Array, "batch targets tokens"]:
    compared = seen.compared()
    if compared is None:
        raise ValueError(
            "the queries and keys of the last attention are not found: wanted a matrix computed "
            "from one product of queries and keys, for each head, outside of loops. Use "
            "generic_attention, which needs neither"
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
    """Join the heads of each token."""
    return jnp.moveaxis(each, 1, 2).reshape(len(each), each.shape[2], -1).astype(jnp.float32)
