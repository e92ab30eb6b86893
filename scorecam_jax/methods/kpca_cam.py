"""KPCA-CAM (Karmani et al. 2024, arXiv 2410.00267)."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.combine import into_range
from scorecam_jax.steps.masks import ROUNDING, divide
from scorecam_jax.steps.scores import logits


def kpca_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Project the places of the layer onto their first kernel principal component.

    The maps are centred over the places. The kernel of two places is tanh(x · y / K + 1), centred
    as well. The map is √λ_1 u_1, from its largest eigenvalue and eigenvector, with the sign of a
    positive correlation with the plain sum of the maps. It is resized to the input's size,
    rectified, and scaled to [0, 1]. It does not depend on the class. With P places the kernel is a
    matrix (P, P): choose a layer with a few thousand places at most.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`; the map does not depend on them.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Karmani et al. 2024 (arXiv 2410.00267), with the kernel and its constants as in
    pytorch-grad-cam, which are scikit-learn's.
    """
    return run(kpca_cam, _kpca_cam, model, inputs, targets, question, score=logits)


def _kpca_cam(context: Context) -> Found:
    maps = context.activations
    grid, channels = maps.shape[1:-1], maps.shape[-1]
    # Products of huge values would be out of range. The tanh of an infinite product is 1.
    places, size = into_range(maps.reshape(len(maps), -1, channels), [1, 2], limit=0)
    places = places - places.mean(1, keepdims=True)
    products = jnp.einsum("bpk,bqk->bpq", places, places, precision="highest") / channels
    kernel = jnp.tanh(products * size * size + 1)
    means = kernel.mean(1, keepdims=True)
    kernel = kernel - means - means.mT + means.mean(2, keepdims=True)
    values, vectors = jax.vmap(leading_eigenpair)(kernel)
    # A kernel that varies only by rounding has no component.
    found = values > ROUNDING * jnp.finfo(kernel.dtype).eps * kernel.shape[1]
    component = vectors * jnp.sqrt(jnp.where(found, values, 0))[:, None]
    agrees = (component * places.sum(-1)).sum(1, keepdims=True) >= 0
    component = jnp.where(agrees, component, -component)
    return context.finish(component.reshape(len(maps), 1, *grid))


@jax.custom_jvp
def leading_eigenpair(
    matrix: Float[Array, "n n"],
) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """The largest eigenvalue of a symmetric matrix, and its eigenvector of arbitrary sign."""
    values, vectors = jnp.linalg.eigh(matrix)
    return values[-1], vectors[:, -1]


@leading_eigenpair.defjvp
@jax.default_matmul_precision("highest")
def _leading_eigenpair_jvp(primals: Any, tangents: Any) -> Any:
    # As for `eigen_cam.leading_direction`, only the gaps to the first eigenvalue are needed; other
    # eigenvalues may coincide.
    ((matrix,), (change,)) = primals, tangents
    values, vectors = jnp.linalg.eigh(matrix)
    first = vectors[:, -1]
    shares = vectors[:, :-1].T @ (change @ first)
    slope = vectors[:, :-1] @ divide(shares, values[-1] - values[:-1])
    return (values[-1], first), (first @ change @ first, slope)
