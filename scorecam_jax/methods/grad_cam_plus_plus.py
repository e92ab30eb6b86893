"""Grad-CAM++ (Chattopadhyay et al. 2018, arXiv 1710.11063)."""

from typing import Any, Unpack

import jax.numpy as jnp

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.scores import logits


def grad_cam_plus_plus(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Weight each map by its positive gradients, normalised so that small objects count as much.

    w_k = Σ_ij α_ij ReLU(g_ij) with α = g² / (2 g² + Σ_ab A_ab g³), which is 1 / (2 + g Σ_ab A_ab).
    This closed form holds for a score exp(y) of a piecewise linear network, whose second and third
    derivatives are exp(y) g² and exp(y) g³. The factor exp(y), common to all weights, is left out,
    because the map is scaled to [0, 1] in the end. The sum is resized to the input's size,
    rectified, and scaled to [0, 1].

    The formula is made for nonnegative maps, such as those after a ReLU. For signed maps Σ A may be
    negative: α is then negative where g Σ A < −2, and unbounded near −2. Where g Σ A is exactly −2,
    the weight is 0 here; pytorch-grad-cam adds 1e-6 to the denominator, torch-cam 1e-8.

    Args:
        model: as in `score_cam`; it must take `edit`.
        inputs: as in `score_cam`.
        targets: as in `score_cam`. T targets take T backward passes after one forward pass.
        **question: see `Question`. The default score is the outputs themselves, the logits.

    Source: Chattopadhyay et al. 2018 (arXiv 1710.11063).
    """
    return run(
        grad_cam_plus_plus,
        _grad_cam_plus_plus,
        model,
        inputs,
        targets,
        question,
        score=logits,
        gradients=True,
    )


def _grad_cam_plus_plus(context: Context) -> Found:
    maps, gradients = context.activations[:, None], context.gradients
    alphas = divide(
        jnp.ones_like(gradients), 2 + gradients * maps.sum(context.space, keepdims=True)
    )
    # `where` rather than a product with 0, so that no derivative is infinity times 0.
    weights = jnp.where(gradients > 0, alphas * gradients, 0).sum(context.space)
    return context.finish_weighted(weights)
