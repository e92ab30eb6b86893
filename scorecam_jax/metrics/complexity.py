"""Complexity: how few pixels hold the heatmap's mass, whatever they show.

No value is good by itself: a map of a single wrong pixel is as simple as a map can be.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.steps.masks import divide
from scorecam_jax.steps.outputs import in_full_precision

Heatmaps = Float[Array, "batch *spatial"]


@jax.jit
def gini(heatmaps: Heatmaps) -> Float[Array, " batch"]:
    """The Gini coefficient of the absolute values, in [0, 1]: sparseness; 1 − 1/n for one pixel.

    Σ_i (2i − n − 1) a_i / (n Σ a), with the n absolute values a in rising order, i from 1. 0 if all
    are equal, and for a map of zeros.

    A threshold makes any map sparse. Enlarging a map hardly changes the value.

    Source: Chalasani et al. 2020 (arXiv 1810.06583); Quantus's `Sparseness`, which adds
    1e-7 to each value.

    >>> gini(jnp.array([[0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]]))
    Array([0.75, 0.  ], dtype=float32)
    """
    rising = jnp.sort(_shares(heatmaps), 1)
    count = rising.shape[1]
    place = (2 * jnp.arange(1, count + 1) - count - 1) / count
    return jnp.clip((place[None] * rising).sum(1), 0, 1)


@jax.jit
def entropy(heatmaps: Heatmaps) -> Float[Array, " batch"]:
    """The entropy of the absolute values' shares, in nats: 0 for one pixel, ln n for n equal ones.

    −Σ p ln p with p = |a| / Σ |a|; 0 for a map of zeros. Its exponential is an effective number of
    pixels. It grows with the size of the maps, and small values all over the image contribute much.

    Source: Bhatt et al. 2020 (arXiv 2005.00631), definition 4; Quantus's `Complexity`.

    >>> entropy(jnp.array([[0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]]))
    Array([0.       , 1.3862944], dtype=float32)
    """
    return jnp.maximum(jax.scipy.special.entr(_shares(heatmaps)).sum(1), 0)


@functools.partial(jax.jit, static_argnames=("bins",))
def histogram_entropy(heatmaps: Heatmaps, bins: int = 100) -> Float[Array, " batch"]:
    """The entropy of the values' histogram over the map's range, in nats, from 0 to ln(bins).

    This measures how varied the values are, wherever they lie: high for noise, 0 for a flat map.

    Source: Hedström et al. 2024 (arXiv 2401.06465); Quantus's `discrete_entropy`.

    >>> histogram_entropy(jnp.array([[0.0, 1.0, 0.0, 1.0]]), bins=2)
    Array([0.6931472], dtype=float32)
    """
    flat = in_full_precision(jax.lax.collapse(heatmaps, 1))
    counts = jax.vmap(lambda values: jnp.histogram(values, bins)[0])(flat)
    return jnp.maximum(jax.scipy.special.entr(counts / flat.shape[1]).sum(1), 0)


def _shares(heatmaps: Heatmaps) -> Float[Array, "batch pixels"]:
    """The absolute values, each as a share of their sum; 0 in a map of zeros."""
    flat = jnp.abs(in_full_precision(jax.lax.collapse(heatmaps, 1)))
    flat = divide(flat, flat.max(1, keepdims=True))
    return divide(flat, flat.sum(1, keepdims=True))
