"""Imputation of removed pixels, so that the shape of the hole gives no information to a model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from scorecam_jax.steps.filters import smooth
from scorecam_jax.steps.outputs import in_full_precision


@functools.partial(jax.jit, static_argnames=("channel_axis",))
def impute(
    inputs: Float[Array, "batch ..."],
    shown: Bool[Array, "batch *spatial"],
    *,
    key: PRNGKeyArray,
    noise: ArrayLike = 0.01,
    channel_axis: int = -1,
) -> Float[Array, "batch ..."]:
    """Fill in the pixels not shown with the weighted mean of their neighbours, plus noise.

    Each unknown pixel is the mean of the 3^n − 1 pixels around it, known or not, with binomial
    weights: in two dimensions 1/6 for a shared edge and 1/12 for a shared corner. At the border,
    only the neighbours that exist count. Conjugate gradients solve this linear system to 1e-5 of
    its right-hand side.

    Args:
        inputs: (B, *spatial, C).
        shown: (B, *spatial), True for the known pixels.
        key: the key of the noise.
        noise: the noise's standard deviation, in the inputs' units.
        channel_axis: the channel axis of the inputs.

    Source: ROAD's noisy linear imputation, Rong et al. 2022 (arXiv 2202.00449), section 4.2.
    """
    rank = shown.ndim - 1
    axes = tuple(range(1, rank + 1))
    values = in_full_precision(jnp.moveaxis(inputs, channel_axis, -1))
    known = jnp.broadcast_to(shown[..., None], values.shape)

    def around(values: Array) -> Array:
        pads = [(1, 1) if axis in axes else (0, 0) for axis in range(values.ndim)]
        window = np.array([1.0, 2.0, 1.0])
        total = smooth(jnp.pad(values, pads), window, axes)
        return (total - 2.0**rank * values) / (4.0**rank - 2.0**rank)

    neighbours = around(jnp.ones((1, *values.shape[1:-1], 1), values.dtype))

    def system(unknown: Array) -> Array:
        return jnp.where(
            known, unknown, neighbours * unknown - around(jnp.where(known, 0, unknown))
        )

    right = jnp.where(known, 0, around(jnp.where(known, values, 0)))
    solution, _ = jax.scipy.sparse.linalg.cg(system, right, tol=1e-5, maxiter=2000)
    solution = solution + noise * jax.random.normal(key, values.shape, values.dtype)
    filled = jnp.where(known, values, solution).astype(inputs.dtype)
    return jnp.moveaxis(filled, -1, channel_axis)
