"""EigenGrad-CAM, of the package pytorch-grad-cam."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.methods.eigen_cam import leading_direction
from scorecam_jax.steps.combine import into_range
from scorecam_jax.steps.masks import is_constant
from scorecam_jax.steps.scores import logits


def eigen_grad_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Project the products of maps and gradients onto their first principal component.

    The products g ∘ A, centred over the places, are a (places, K) matrix X; the map is X v_1. The
    decomposition leaves the sign open. The package keeps an arbitrary sign, which may hide the
    object. Here the map correlates positively with the plain sum of the products, which is the sum
    of `hires_cam`. It is resized to the input's size, rectified, and scaled to [0, 1].

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: `EigenGradCAM` of pytorch-grad-cam (github.com/jacobgil/pytorch-grad-cam); there is no
    paper.
    """
    return run(
        eigen_grad_cam, _eigen_grad_cam, model, inputs, targets, question,
        score=logits, gradients=True,
    )  # fmt: skip


def _eigen_grad_cam(context: Context) -> Found:
    return context.finish(component_like_the_sum(context.gradients * context.activations[:, None]))


def component_like_the_sum(
    products: Float[Array, "batch targets *grid channels"],
) -> Float[Array, "batch targets *grid"]:
    """The first principal component, with the sign that correlates positively with the sum."""
    component = first_component(products)
    space = tuple(range(2, component.ndim))
    sums = products.sum(-1)
    centred = sums - sums.mean(space, keepdims=True)
    agrees = (component * centred).sum(space, keepdims=True) >= 0
    return jnp.where(agrees, component, -component)


def first_component(
    maps: Float[Array, "batch targets *grid channels"],
) -> Float[Array, "batch targets *grid"]:
    """The first principal component of maps centred over the places; its sign is arbitrary."""
    ahead, grid = maps.shape[:2], maps.shape[2:-1]
    matrices = maps.reshape(*ahead, -1, maps.shape[-1])
    matrices, _ = into_range(matrices, axes=[2, 3], limit=0)
    # A channel that varies only by rounding has no component.
    constant = is_constant(matrices, (2,))
    matrices = jnp.where(constant, 0, matrices - matrices.mean(2, keepdims=True))
    directions = jax.vmap(jax.vmap(leading_direction))(matrices)
    found = jnp.einsum("btpk,btk->btp", matrices, directions, precision="highest")
    return found.reshape(*ahead, *grid)
