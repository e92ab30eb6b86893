"""KPCA-CAM (Karmani et al. 2024, arXiv 2410.00267)."""

from typing import Any, Unpack

import jax.numpy as jnp

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.options import Question
from scorecam_jax.methods.base import Context, Explanation, Found, run
from scorecam_jax.steps.scores import logits


def kpca_cam(
    model: AnyModel,
    inputs: Any,
    targets: Any = None,
    **question: Unpack[Question],
) -> Explanation:
    """Project the places of the layer onto their first kernel principal component.

    The maps are centred over the places. The kernel of two places is tanh(x · y / K + 1) and is
    centred as well; the map is √λ_1 u_1, of its largest eigenvalue. The decomposition leaves the
    sign open: here the map correlates positively with the plain sum of the maps. It is resized to
    the input's size, rectified, and scaled to [0, 1]. The class has no part in it. With P places
    the kernel is a matrix (P, P): take a layer of a few thousand at most.

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
    places = maps.reshape(len(maps), -1, channels)
    places = places - places.mean(1, keepdims=True)
    products = jnp.einsum("bpk,bqk->bpq", places, places, precision="highest")
    kernel = jnp.tanh(products / channels + 1)
    kernel = kernel - kernel.mean(1, keepdims=True) - kernel.mean(2, keepdims=True)
    kernel = kernel + jnp.tanh(products / channels + 1).mean((1, 2), keepdims=True)
    values, vectors = jnp.linalg.eigh(kernel)
    component = vectors[..., -1] * jnp.sqrt(jnp.maximum(values[:, -1:], 0))
    agrees = (component * places.sum(-1)).sum(1, keepdims=True) >= 0
    component = jnp.where(agrees, component, -component)
    return context.finish(component.reshape(len(maps), 1, *grid))
