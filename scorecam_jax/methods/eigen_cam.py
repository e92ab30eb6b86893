"""Eigen-CAM (Muhammad and Yeasin 2020, arXiv 2008.00299)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.combine import into_range
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.scores import logits


def eigen_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Project the maps onto their first principal direction, whatever the class.

    With A as a (places, K) matrix U Σ V', the map is A v_1, with the sign that makes its sum
    positive. As in the paper, the maps are not centred. The map is resized to the input's size,
    rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Muhammad and Yeasin 2020 (arXiv 2008.00299).
    """
    return run(eigen_cam, _eigen_cam, model, inputs, targets, question, score=logits)


def _eigen_cam(context: Context) -> Found:
    matrices = jax.lax.collapse(context.activations, 1, -1)
    matrices, _ = into_range(matrices, axes=[1, 2], limit=0)
    direction = jax.vmap(leading_direction)(matrices)[:, None]
    total = jnp.einsum("bpk,bok->bo", matrices, direction, precision="highest")
    weights = jnp.where(total < 0, -1, 1)[..., None] * direction
    return context.finish_weighted(weights)


@jax.custom_jvp
def leading_direction(matrix: Float[Array, "places channels"]) -> Float[Array, " channels"]:
    """The first right singular vector of a matrix; its sign is arbitrary."""
    return jnp.linalg.svd(matrix, full_matrices=False)[2][0]


@leading_direction.defjvp
@jax.default_matmul_precision("highest")
def _leading_direction_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    # The derivative of the whole decomposition is undefined where singular values coincide, such as
    # those of dead channels. The derivative of the first direction v needs only the gaps to the
    # first value: with M = A'A, dv = (λ I − M)⁺ dM v, where λ is the largest eigenvalue of M.
    ((matrix,), (change,)) = primals, tangents
    _, values, directions = jnp.linalg.svd(matrix, full_matrices=False)
    first, others = directions[0], directions[1:]
    moved = change.T @ (matrix @ first) + matrix.T @ (change @ first)
    shares = others @ moved
    gaps = (values[0] - values[1:]) * (values[0] + values[1:])
    # The part outside the span of all directions.
    outside = moved - directions.T @ (directions @ moved)
    slope = others.T @ divide(shares, gaps) + divide(outside, values[0] ** 2)
    return first, slope
