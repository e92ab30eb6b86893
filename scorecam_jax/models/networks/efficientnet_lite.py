"""EfficientNet-Lite, networks small enough to explain on a laptop."""

import math
from typing import NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.checkpoints.layout import Layout
from scorecam_jax.models.layers import Linear
from scorecam_jax.models.networks.inverted import (
    Block,
    Shape,
    Stages,
    Style,
    divisible,
    timm_names,
)


class _Stage(NamedTuple):
    """Blocks of one width: number, kernel size, first block's stride, expansion, channels."""

    depth: int
    size: int
    stride: int
    expansion: int
    outputs: int


# "EfficientNet", table 1.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# The factors for width and depth.
_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
_STEM, _HEAD = 32, 1280

# From tensor paths in this library to the names in the weights converted by lukemelas.
_CONVERTED = {
    r"^stem\.norm": "_bn0",
    r"^stem": "_conv_stem",
    r"^head\.norm": "_bn1",
    r"^head": "_conv_head",
    r"^classifier": "_fc",
    r"^blocks": "_blocks",
    r"expand\.norm": "_bn0",
    r"filter\.norm": "_bn1",
    r"project\.norm": "_bn2",
    r"\.expand": "._expand_conv",
    r"\.filter": "._depthwise_conv",
    r"\.project": "._project_conv",
}
_TIMM = {
    r"^stem\.norm": "bn1",
    r"^stem": "conv_stem",
    r"^head\.norm": "bn2",
    r"^head": "conv_head",
}


def _shapes(scale: int) -> Stages:
    """The blocks of each stage. The depths of the first and the last stage are not scaled."""
    width, deeper = _SCALES[scale]
    found: list[list[Shape]] = []
    inputs = _STEM
    for number, (depth, size, stride, expansion, channels) in enumerate(_STAGES):
        found.append([])
        outputs = divisible(channels * width)
        if 0 < number < len(_STAGES) - 1:
            depth = math.ceil(depth * deeper)
        for index in range(depth):
            step = stride if index == 0 else 1
            found[-1].append(Shape(inputs, inputs * expansion, outputs, size, step))
            inputs = outputs
    return found


def LAYOUTS(scale: int = 0, **options: object) -> tuple[Layout, ...]:  # noqa: N802
    """Publishers' names for the tensors of a network."""
    return (
        Layout("lukemelas", r"_conv_stem\.weight", _CONVERTED),
        Layout("timm", r"blocks\.6\.0\.conv_dw\.weight", timm_names(_shapes(scale), _TIMM)),
    )


HEAD = "classifier"


class EfficientNetLite(nnx.Module):
    """EfficientNet-Lite in evaluation mode, its batch norms folded into the convolutions.

    Takes (N, height, width, 3), 8-bit RGB scaled to (x - 127) / 128; returns (N, classes) logits.
    `head` gives the last activations with a spatial grid, (N, 7, 7, 1280) for EfficientNet-Lite0,
    after their ReLU6.

    Args:
        scale: 0 to 4.
        epsilon: constant that batch norms add to variances: 1e-3 as published.
        same: whether to pad as TensorFlow does, as published.
        classes: number of logits.
        rngs: random number generators for the weights.

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        ICML 2019 (arXiv 1905.11946); the Lite variant drops squeeze-and-excitation, uses
        ReLU6, and does not scale stem and head.
    """

    def __init__(
        self,
        *,
        scale: int = 0,
        epsilon: float = 1e-3,
        same: bool = True,
        classes: int = 1000,
        rngs: nnx.Rngs,
    ):
        style = Style(jax.nn.relu6, epsilon, same)
        shapes = [shape for stage in _shapes(scale) for shape in stage]
        self.stem = style.conv(3, _STEM, 3, 2, rngs=rngs)
        self.blocks = nnx.List([Block(shape, style, rngs=rngs) for shape in shapes])
        self.head = style.conv(shapes[-1].outputs, _HEAD, 1, rngs=rngs)
        self.classifier = Linear(_HEAD, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean((1, 2)))
