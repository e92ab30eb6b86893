"""The choice of a convolution algorithm for each platform, from one table based on measurements.

The platform is known when the program is compiled, not when it is traced, so the choice follows
the device of the arrays. Platforms without an entry use XLA's own convolution.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from scorecam_jax.models.convolutions import blocks, direct, windows, winograd
from scorecam_jax.models.convolutions.direct import Geometry, Pads, geometry_of

_NO_PADS = ((0, 0), (0, 0))


class _Way(NamedTuple):
    """An algorithm for some convolutions.

    Attributes:
        suits: whether the algorithm can compute a layer, and is fast for it.
        convolve: (input, prepared kernel, geometry) -> output.
        prepare: (kernel, geometry) -> prepared kernel. This runs outside the choice of a platform,
            so that a loop around the network need not repeat it.
    """

    suits: Callable[[jax.Array, jax.Array, Geometry], bool]
    convolve: Callable[[jax.Array, jax.Array, Geometry], jax.Array]
    prepare: Callable[[jax.Array, Geometry], jax.Array] = lambda kernel, geometry: kernel


def _is_depthwise(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    return kernel.shape[2] == 1 and 1 < geometry.groups == kernel.shape[3]


def _is_pointwise(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    return geometry.size == (1, 1) and geometry.pads == _NO_PADS and geometry.groups == 1


def _has_few_terms(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    return kernel[..., 0].size <= 27 and geometry.groups == 1


def _is_stem(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    strided = 1 < geometry.stride <= min(geometry.size)
    return kernel.shape[2] <= 4 and strided and geometry.groups == 1


def _suits_winograd(tile: int, x: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
    same = geometry == Geometry((3, 3), 1, ((1, 1), (1, 1)), groups=1)
    if not same or x.dtype != jnp.float32:
        return False
    # For one image, transforming the kernel costs too much; tiles of many exceed the caches.
    if len(x) == 1 or x.nbytes > 16e6:
        return False
    # Larger tiles need fewer products, but more of a tile lies outside a small grid.
    return tile == (4 if min(x.shape[1:3]) >= 28 else 2)


def _winograd(tile: int) -> _Way:
    return _Way(
        functools.partial(_suits_winograd, tile),
        lambda x, kernel, _: winograd.convolve(x, kernel, tile),
        lambda kernel, _: winograd.transform_kernel(kernel, tile),
    )


_DIRECT = _Way(lambda *layer: True, direct.convolve)

# For each platform, the first algorithm that suits a layer is used, or else XLA's own.
#
# CPU: XLA's grouped convolution is about ten times slower than the sum. Matrix products are faster
# than the equivalent convolutions. See `winograd` for 3×3 kernels.
# GPU (H100): sums raised EfficientNet-Lite0 from 29,600 to 37,000 images per second. 1×1 layers
# remain convolutions, because cuDNN fuses bias, shortcut and ReLU into them; with this and the stem
# over blocks, ResNet-50 rose from 24,200 to 35,100.
_WAYS: dict[str, tuple[_Way, ...]] = {
    "cpu": (
        _Way(_is_depthwise, windows.depthwise_sum),
        _Way(_is_pointwise, windows.pointwise_product),
        _Way(_has_few_terms, windows.product),
        _winograd(2),
        _winograd(4),
    ),
    "cuda": (
        _Way(_is_depthwise, windows.depthwise_sum),
        _Way(_is_stem, blocks.convolve, blocks.transform_kernel),
    ),
}


def convolve(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows columns ingroup outputs"],
    *,
    stride: int,
    padding: str | int | Pads,
    groups: int,
) -> Float[Array, "batch tall wide outputs"]:
    """Convolve channels-last activations with a kernel, by the fastest known algorithm.

    Args:
        x: the activations.
        kernel: (rows, columns, inputs of a group, outputs).
        stride: pixels between neighbouring windows.
        padding: `"SAME"`, `"VALID"`, the number of zeros on every side, or the numbers before and
            after the rows and before and after the columns.
        groups: the number of groups of channels that are convolved separately.
    """
    geometry = geometry_of(x, kernel, stride=stride, padding=padding, groups=groups)
    fastest = {
        platform: next((way for way in ways if way.suits(x, kernel, geometry)), _DIRECT)
        for platform, ways in _WAYS.items()
    }
    ways = list(dict.fromkeys([_DIRECT, *fastest.values()]))
    kernels = [way.prepare(kernel, geometry) for way in ways]

    def run(index: int, x: jax.Array, kernels: list[jax.Array]) -> jax.Array:
        return ways[index].convolve(x, kernels[index], geometry)

    # Platforms that share an algorithm share the function, so that it is traced once.
    runs = [functools.partial(run, index) for index in range(len(ways))]
    special = {
        platform: runs[ways.index(way)] for platform, way in fastest.items() if way != _DIRECT
    }
    return lax.platform_dependent(x, kernels, default=runs[0], **special)
