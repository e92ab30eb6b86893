"""From the heatmaps of several layers to one. Pure functions of arrays.

A fusion is one of the names in `FUSIONS`, or a function that takes the heatmaps, stacked along a
first axis, and `axis=0`, as `jnp.prod` does. Maps are nonnegative; the finest layer comes first.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.steps.masks import divide, normalize, resize, value_range

Fusion: TypeAlias = str | Callable[..., Any]


def geometric_mean(maps: Float[Array, "layers *shape"], axis: int = 0) -> Float[Array, "*shape"]:
    """The n-th root of the product of n maps; 0, with a derivative of 0, where one of them is 0.

    >>> geometric_mean(jnp.array([[0.0, 0.25], [1.0, 1.0]]))
    Array([0. , 0.5], dtype=float32)
    """
    positive = (maps > 0).all(axis, keepdims=True)
    logs = jnp.log(jnp.where(positive, maps, 1))
    return jnp.where(positive.squeeze(axis), jnp.exp(logs.mean(axis)), 0)


def poly_cam(
    sums: Sequence[Float[Array, "batch targets *_"]], shape: Sequence[int]
) -> Float[Array, "batch targets *spatial"]:
    """Refine a coarse map by finer ones, as Poly-CAM does.

    From the coarsest layer on, each sum S is divided by its own local mean, LNorm(S) = S / max(up(
    down(S)), 1e-12), where `down` resizes to the grid of the layer that follows and `up` back. The
    product with the map so far, P_l = LNorm(S_l) · up(P_(l+1)), is the next map.

    Args:
        sums: the rectified sums at the layers' resolutions, from the finest on.
        shape: the size of the result.

    Source: Englebert et al. 2022 (arXiv 2204.13359), as in the authors' code: `compute_cams` and
    `local_relevance_normalization` in polycam/core.py of andralex8/polycam at 8003dc6. Weights,
    masks and the last scaling are those of the method that made the sums.
    """
    finer, coarsest = list(sums[:-1]), sums[-1]
    found = coarsest
    for total in reversed(finer):
        grid = total.shape[2:]
        local = resize(resize(total, found.shape[2:]), grid)
        found = divide(total, jnp.maximum(local, 1e-12)) * resize(found, grid)
    return resize(found, shape)


FUSIONS: dict[str, Callable[..., Any]] = {
    "product": jnp.prod,
    "geometric": geometric_mean,
    "mean": jnp.mean,
    "maximum": jnp.max,
    "poly-cam": poly_cam,
}
"""Ways to fuse by name. All but "poly-cam" take maps of one size, place by place."""


def usual_fusion(grids: Sequence[tuple[int, ...]]) -> str:
    """Choose the fusion of layers by their grids: the default of `fuse`.

    The product sharpens a coarse map by a finer one. Layers of one grid, such as the blocks of a
    transformer, have nothing to sharpen, and the product of their maps shrinks to a few cells:
    their maps are averaged.

    >>> usual_fusion([(14, 14), (7, 7)]), usual_fusion([(16, 16), (16, 16)])
    ('product', 'mean')
    """
    return "mean" if len(set(grids)) == 1 else "product"


def check_fusion(fuse: Any) -> Fusion:
    """Return a fusion; ValueError if it is neither a name in `FUSIONS` nor a function."""
    if callable(fuse) or fuse in FUSIONS:
        return fuse
    raise ValueError(
        f"fuse is {fuse!r}, wanted one of {', '.join(map(repr, FUSIONS))}, or a function of the "
        "heatmaps that takes axis=0, such as jnp.prod"
    )


def fuse_maps(
    fuse: Fusion,
    maps: Sequence[Float[Array, "batch targets *spatial"]],
    sums: Sequence[Float[Array, "batch targets *_"]],
    signed: bool = False,
) -> tuple[Float[Array, "batch targets *spatial"], Float[Array, "batch targets"]]:
    """Fuse the heatmaps of layers, and scale the result to [0, 1], or signed ones to [-1, 1].

    Evidence for a target and evidence against it are fused separately.

    Args:
        fuse: how.
        maps: each layer's heatmap, of one size, from the finest layer on.
        sums: what each was scaled from, at the layer's resolution if it has one; for "poly-cam".
        signed: whether negative values are evidence against the target.

    Returns:
        The heatmap, and its largest absolute value before it was scaled.
    """
    shape = maps[0].shape[2:]

    def combine(sign: int) -> Array:
        if fuse == "poly-cam":
            return poly_cam([jax.nn.relu(sign * each) for each in sums], shape)
        function = FUSIONS[fuse] if isinstance(fuse, str) else fuse
        return function(jax.nn.relu(sign * jnp.stack(jnp.broadcast_arrays(*maps))), axis=0)

    if not signed:
        fused = combine(1)
        return normalize(fused, len(shape)), fused.max(tuple(range(2, fused.ndim)))
    fused = combine(1) - combine(-1)
    low, high = value_range(fused, len(shape))
    size = jnp.maximum(-low, high)
    return divide(fused, size), size.reshape(fused.shape[:2])
