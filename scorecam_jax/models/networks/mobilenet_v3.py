"""MobileNetV3, as torchvision, timm and Keras define it."""

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
    torchvision_names,
)


class _Row(NamedTuple):
    """A block, as in the paper's tables.

    Attributes:
        size: rows and columns of the kernel.
        wide: channels inside.
        outputs: channels out.
        squeezes: whether the block has squeeze-and-excitation.
        hard_swish: whether the activation is hard swish; otherwise it is ReLU.
        stride: stride of the kernel.
    """

    size: int
    wide: int
    outputs: int
    squeezes: bool
    hard_swish: bool
    stride: int


# "Searching for MobileNetV3", tables 1 and 2: blocks by stage.
_LARGE = (
    (_Row(3, 16, 16, False, False, 1),),
    (_Row(3, 64, 24, False, False, 2), _Row(3, 72, 24, False, False, 1)),
    (
        _Row(5, 72, 40, True, False, 2),
        _Row(5, 120, 40, True, False, 1),
        _Row(5, 120, 40, True, False, 1),
    ),
    (
        _Row(3, 240, 80, False, True, 2),
        _Row(3, 200, 80, False, True, 1),
        _Row(3, 184, 80, False, True, 1),
        _Row(3, 184, 80, False, True, 1),
    ),
    (_Row(3, 480, 112, True, True, 1), _Row(3, 672, 112, True, True, 1)),
    (
        _Row(5, 672, 160, True, True, 2),
        _Row(5, 960, 160, True, True, 1),
        _Row(5, 960, 160, True, True, 1),
    ),
)
_SMALL = (
    (_Row(3, 16, 16, True, False, 2),),
    (_Row(3, 72, 24, False, False, 2), _Row(3, 88, 24, False, False, 1)),
    (
        _Row(5, 96, 40, True, True, 2),
        _Row(5, 240, 40, True, True, 1),
        _Row(5, 240, 40, True, True, 1),
    ),
    (_Row(5, 120, 48, True, True, 1), _Row(5, 144, 48, True, True, 1)),
    (
        _Row(5, 288, 96, True, True, 2),
        _Row(5, 576, 96, True, True, 1),
        _Row(5, 576, 96, True, True, 1),
    ),
)
# The blocks, and the channels of the layer before the classifier.
_VARIANTS = {"large": (_LARGE, 1280), "small": (_SMALL, 1024)}
_STEM = 16


def _shapes(variant: str) -> Stages:
    """The blocks of each stage."""
    found: list[list[Shape]] = []
    inputs = _STEM
    for stage in _VARIANTS[variant][0]:
        found.append([])
        for size, wide, outputs, squeezes, _, stride in stage:
            squeeze = divisible(wide / 4) if squeezes else 0
            found[-1].append(Shape(inputs, wide, outputs, size, stride, squeeze))
            inputs = outputs
    return found


def LAYOUTS(variant: str, **options: object) -> tuple[Layout, ...]:  # noqa: N802
    """Publishers' names for the tensors of a network."""
    stages = _shapes(variant)
    starts = [1 + sum(map(len, stages[:index])) for index in range(len(stages) + 1)]
    torchvision = {
        r"^stem\.norm": "features.0.1",
        r"^stem": "features.0.0",
        r"^head\.norm": f"features.{starts[-1]}.1",
        r"^head": f"features.{starts[-1]}.0",
        r"^hidden": "classifier.0",
        r"^classifier\.(weight|bias)": r"classifier.3.\1",
    }
    timm = {
        r"^stem\.norm": "bn1",
        r"^stem": "conv_stem",
        r"^head\.norm": f"blocks.{len(stages)}.0.bn1",
        r"^head": f"blocks.{len(stages)}.0.conv",
        r"^hidden": "conv_head",
    }
    return (
        Layout(
            "torchvision",
            r"features\.1\.block\.0\.0\.weight",
            torchvision_names(
                stages, torchvision, lambda stage, i: f"features.{starts[stage] + i}"
            ),
        ),
        Layout("timm", rf"blocks\.{len(stages)}\.0\.conv\.weight", timm_names(stages, timm)),
        Layout("keras", r"expanded_conv_10_project\.weight", _KERAS),
    )


_KERAS = {
    r"^blocks\.0\.": "expanded_conv.",
    r"^blocks\.": "expanded_conv_",
    r"\.expand\.norm": "_expand_bn",
    r"\.squeeze\.reduce": "_squeeze_excite_conv",
    r"\.squeeze\.expand": "_squeeze_excite_conv_1",
    r"\.expand\.": "_expand.",
    r"\.filter\.norm": "_depthwise_bn",
    r"\.filter": "_depthwise",
    r"\.project\.norm": "_project_bn",
    r"\.project": "_project",
    r"^stem\.norm": "conv_bn",
    r"^stem": "conv",
    r"^head\.norm": "conv_1_bn",
    r"^head": "conv_1",
    r"^hidden": "conv_2",
    r"^classifier": "logits",
}


HEAD = "classifier"


class MobileNetV3(nnx.Module):
    """MobileNetV3 in evaluation mode, its batch norms folded into the convolutions.

    Takes (N, 224, 224, 3), RGB normalised by ImageNet's mean and deviation; returns (N, classes)
    logits. `head` gives the last activations with a spatial grid, (N, 7, 7, 960 or 576), after
    their hard swish.

    Args:
        variant: `"large"` or `"small"`.
        epsilon: constant that batch norms add to variances: 1e-3 as published and in torchvision,
            1e-5 in networks trained with timm.
        same: whether to pad as TensorFlow does, as published.
        classes: number of logits.
        rngs: random number generators for the weights.

    References:
        Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv 1905.02244), tables 1 and 2.
    """

    def __init__(
        self,
        *,
        variant: str,
        epsilon: float,
        same: bool = False,
        classes: int = 1000,
        rngs: nnx.Rngs,
    ):
        rows, hidden = _VARIANTS[variant]
        hard = Style(jax.nn.hard_swish, epsilon, same, jax.nn.hard_sigmoid, jax.nn.relu)
        soft = hard._replace(activation=jax.nn.relu)
        self.stem = hard.conv(3, _STEM, 3, 2, rngs=rngs)
        self.blocks = nnx.List(
            [
                Block(shape, hard if row.hard_swish else soft, rngs=rngs)
                for shapes, stage in zip(_shapes(variant), rows, strict=True)
                for shape, row in zip(shapes, stage, strict=True)
            ]
        )
        outputs = rows[-1][-1].outputs
        self.head = hard.conv(outputs, 6 * outputs, 1, rngs=rngs)
        self.hidden = Linear(6 * outputs, hidden, rngs=rngs)
        self.classifier = Linear(hidden, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(jax.nn.hard_swish(self.hidden(self.head(x).mean((1, 2)))))
