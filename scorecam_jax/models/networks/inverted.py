"""Inverted bottlenecks, the blocks of MobileNetV3 and EfficientNets, and their tensors' names."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.checkpoints.layout import renamed
from scorecam_jax.models.convolutions.direct import Pads
from scorecam_jax.models.layers import Conv

Activation = Callable[[jax.Array], jax.Array]
Same = bool | Literal["even"]


class Style(NamedTuple):
    """Settings shared by all layers of a network.

    Attributes:
        activation: the activation after convolutions.
        epsilon: constant that batch norms add to variances.
        same: whether to pad as TensorFlow does, with more zeros at the end if their number is odd.
            False: equally on all sides. `"even"`: strided kernels always as TensorFlow pads inputs
            with even sides.
        gate: the activation that turns the output of squeeze-and-excitation into factors.
        squeezed: the activation inside squeeze-and-excitation.
    """

    activation: Activation
    epsilon: float
    same: Same = False
    gate: Activation = jax.nn.sigmoid
    squeezed: Activation = jax.nn.silu

    def conv(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int = 1,
        *,
        depthwise: bool = False,
        linear: bool = False,
        balanced: bool = False,
        rngs: nnx.Rngs,
    ) -> Conv:
        """A convolution with its batch norm and, unless `linear`, its activation."""
        half = size // 2
        padding: str | int | Pads = "SAME" if self.same else half
        if self.same == "even":
            uneven = (half - 1, half), (half - 1, half)
            padding = half if balanced or stride == 1 else uneven
        return Conv(
            inputs,
            outputs,
            size,
            stride=stride,
            padding=padding,
            depthwise=depthwise,
            activation=None if linear else self.activation,
            epsilon=self.epsilon,
            rngs=rngs,
        )


class Shape(NamedTuple):
    """The shape of one block.

    Attributes:
        inputs: channels in.
        wide: channels inside.
        outputs: channels out.
        size: rows and columns of the kernel.
        stride: stride of the kernel.
        squeeze: channels inside squeeze-and-excitation; 0: none.
        fused: whether a single convolution expands and filters.
        balanced: whether a strided kernel is padded equally on all sides even if the style is
            `"even"`, because the block's inputs have odd sides.
    """

    inputs: int
    wide: int
    outputs: int
    size: int
    stride: int
    squeeze: int = 0
    fused: bool = False
    balanced: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The layers that a block of this shape has, in order."""
        if self.fused:
            return ("expand",) if self.wide == self.inputs else ("expand", "project")
        expand = () if self.wide == self.inputs else ("expand",)
        return (*expand, "filter", *(("squeeze",) if self.squeeze else ()), "project")


class Squeeze(nnx.Module):
    """Squeeze-and-excitation: a factor for each channel, from the means of all channels.

    References:
        Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018 (arXiv 1709.01507),
        equations 2 to 4.
    """

    def __init__(self, channels: int, inside: int, style: Style, *, rngs: nnx.Rngs):
        self.reduce = Conv(channels, inside, 1, activation=style.squeezed, rngs=rngs)
        self.expand = Conv(inside, channels, 1, activation=style.gate, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The activations, multiplied by the factor of their channel."""
        return x * self.expand(self.reduce(x.mean((1, 2), keepdims=True)))


class Block(nnx.Module):
    """An inverted bottleneck: expand the channels, filter each of them, project them to fewer."""

    def __init__(self, shape: Shape, style: Style, *, rngs: nnx.Rngs):
        inputs, wide, outputs, size, stride, squeeze, fused, balanced = shape
        conv = partial(style.conv, rngs=rngs)
        has = {part: part in shape.parts for part in ("expand", "filter", "squeeze", "project")}
        widen = (size, stride) if fused else (1, 1)
        self.expand = conv(inputs, wide, *widen) if has["expand"] else None
        filtered = partial(conv, depthwise=True, balanced=balanced)
        self.filter = filtered(wide, wide, size, stride) if has["filter"] else None
        self.squeeze = Squeeze(wide, squeeze, style, rngs=rngs) if has["squeeze"] else None
        self.project = conv(wide, outputs, 1, linear=True) if has["project"] else None
        self.residual = stride == 1 and inputs == outputs

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations, with height and width divided by the stride."""
        y = x
        for part in (self.expand, self.filter, self.squeeze, self.project):
            y = y if part is None else part(y)
        return x + y if self.residual else y


Stages = Sequence[Sequence[Shape]]

# timm's names of a block's layers and of their batch norms, keyed by the block's layers.
_TIMM: dict[tuple[str, ...], dict[str, tuple[str, str]]] = {
    ("filter", "project"): {"filter": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")},
    ("expand", "filter", "project"): {
        "expand": ("conv_pw", "bn1"),
        "filter": ("conv_dw", "bn2"),
        "project": ("conv_pwl", "bn3"),
    },
    ("expand", "project"): {"expand": ("conv_exp", "bn1"), "project": ("conv_pwl", "bn2")},
    ("expand",): {"expand": ("conv", "bn1")},
}


def timm_names(stages: Stages, others: dict[str, str]) -> Callable[[str], str]:
    """Make the map from tensor paths to timm's names.

    Args:
        stages: the shapes of blocks, in timm's stages.
        others: regular expressions for tensors outside the blocks, as in `Layout`.
    """

    def name(path: str) -> str:
        if not path.startswith("blocks."):
            return renamed(path, others)
        stage, index, shape, part, rest = _placed(path, stages)
        if part == "squeeze":
            rest = rest.replace("reduce", "se.conv_reduce").replace("expand", "se.conv_expand")
        else:
            names = _TIMM[tuple(one for one in shape.parts if one != "squeeze")][part]
            is_norm = rest.startswith("norm.")
            rest = f"{names[is_norm]}.{rest.removeprefix('norm.')}"
        return f"blocks.{stage}.{index}.{rest}"

    return name


_HUGGING_FACE = {
    "expand": ("expansion.expand_conv", "expansion.expand_bn"),
    "filter": ("depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"),
    "project": ("projection.project_conv", "projection.project_bn"),
}


def hugging_face_names(others: dict[str, str]) -> Callable[[str], str]:
    """Make the map from tensor paths to the names in transformers.

    Args:
        others: regular expressions for tensors outside the blocks, as in `Layout`.
    """

    def name(path: str) -> str:
        if not path.startswith("blocks."):
            return renamed(path, others)
        _, number, part, rest = path.split(".", 3)
        if part == "squeeze":
            rest = f"squeeze_excite.{rest}"
        else:
            is_norm = rest.startswith("norm.")
            rest = f"{_HUGGING_FACE[part][is_norm]}.{rest.removeprefix('norm.')}"
        return f"efficientnet.encoder.blocks.{number}.{rest}"

    return name


_KERAS = {
    "expand": ("expand_conv", "expand_bn"),
    "project": ("project_conv", "project_bn"),
}


def keras_names(stages: Stages, others: dict[str, str], filtered: str) -> Callable[[str], str]:
    """Make the map from tensor paths to the names in Keras's EfficientNets.

    Args:
        stages: the shapes of blocks.
        others: regular expressions for tensors outside the blocks, as in `Layout`.
        filtered: the name of the depthwise layer.
    """

    def name(path: str) -> str:
        if not path.startswith("blocks."):
            return renamed(path, others)
        stage, index, shape, part, rest = _placed(path, stages)
        block = f"block{stage + 1}{chr(ord('a') + index)}"
        if part == "squeeze":
            return f"{block}_se_{rest}"
        only = shape.parts == ("expand",)
        layers = _KERAS["project" if only else part] if part != "filter" else (filtered, "bn")
        return f"{block}_{layers[rest.startswith('norm.')]}.{rest.removeprefix('norm.')}"

    return name


def torchvision_names(
    stages: Stages, others: dict[str, str], prefix: Callable[[int, int], str]
) -> Callable[[str], str]:
    """Make the map from tensor paths to torchvision's names.

    Args:
        stages: the shapes of blocks, in torchvision's stages.
        others: regular expressions for tensors outside the blocks, as in `Layout`.
        prefix: (stage, index in the stage) -> the name of a block.
    """

    def name(path: str) -> str:
        if not path.startswith("blocks."):
            return renamed(path, others)
        stage, index, shape, part, rest = _placed(path, stages)
        if part == "squeeze":
            rest = rest.replace("reduce", "fc1").replace("expand", "fc2")
        else:
            is_norm = rest.startswith("norm.")
            rest = f"{int(is_norm)}.{rest.removeprefix('norm.')}"
        return f"{prefix(stage, index)}.block.{shape.parts.index(part)}.{rest}"

    return name


def _placed(path: str, stages: Stages) -> tuple[int, int, Shape, str, str]:
    """The stage of a tensor's block, its index there, its shape, its layer, and the rest."""
    _, number, part, rest = path.split(".", 3)
    index = int(number)
    for stage, shapes in enumerate(stages):
        if index < len(shapes):
            return stage, index, shapes[index], part, rest
        index -= len(shapes)
    raise IndexError(path)


def divisible(channels: float, by: int = 8) -> int:
    """The nearest multiple that is at least nine tenths of the number."""
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * channels else nearest
