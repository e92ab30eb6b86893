"""ResNets and a ResNeXt, as torchvision, transformers and Keras define them."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.checkpoints.keras import CAFFE, folded, of_rgb
from scorecam_jax.models.checkpoints.layout import Layout
from scorecam_jax.models.layers import Conv, Linear

# From layer paths in this library to torchvision's names; applied in order.
_TORCHVISION = {
    r"\.layers\.": ".",  # those of nnx.Sequential
    r"conv(\d)\.norm": r"bn\1",
    r"shortcut\.norm": "downsample.1",
    r"shortcut": "downsample.0",
}
_HUGGING_FACE = {
    r"\.layers\.": ".",
    r"^conv1\.norm": "resnet.embedder.embedder.normalization",
    r"^conv1": "resnet.embedder.embedder.convolution",
    r"^fc": "classifier.1",
    **{rf"^layer{n + 1}\.": f"resnet.encoder.stages.{n}.layers." for n in range(4)},
    **{rf"\.conv{n + 1}": f".layer.{n}" for n in range(3)},
    r"((?:layer|shortcut)[.\d]*)\.norm": r"\1.normalization",
    r"(\.layer\.\d|shortcut)\.weight": r"\1.convolution.weight",
}
_KERAS = {
    r"^conv1\.norm": "conv1_bn",
    r"^conv1\.": "conv1_conv.",
    **{
        rf"^layer{n}\.layers\.{block}\.": f"conv{n + 1}_block{block + 1}."
        for n in range(1, 5)
        for block in range(36)
    },
    r"\.shortcut": ".conv0",
    r"\.conv(\d)\.norm": r"_\1_bn",
    r"\.conv(\d)": r"_\1_conv",
    r"^fc": "predictions",
}


def _from_keras(checkpoint: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return of_rgb(folded(checkpoint), "conv1_conv.weight")


LAYOUTS = (
    Layout("torchvision", r"layer4\.0\.conv1\.weight", _TORCHVISION),
    Layout(
        "huggingface",
        r"resnet\.encoder\.stages\.3\.layers\.0\.layer\.0\.convolution\.weight",
        _HUGGING_FACE,
        assumes={
            "num_channels": (3,),
            "hidden_act": ("relu",),
            "downsample_in_first_stage": (False,),
            "downsample_in_bottleneck": (False,),
        },
    ),
    Layout(
        "keras",
        r"conv5_block3_3_conv\.weight",
        _KERAS,
        convert=_from_keras,
        options={"early": True},
        preprocess=CAFFE,
    ),
)
HEAD = "fc"

_Conv = partial(Conv, epsilon=1e-5)
_ReluConv = partial(_Conv, activation=jax.nn.relu)


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions with a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = _ReluConv(inputs, width, 3, stride=stride, padding=1, rngs=rngs)
        self.conv2 = _Conv(width, width, 3, padding=1, rngs=rngs)
        self.shortcut = _shortcut(inputs, width, stride, rngs)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations after the merge and its ReLU."""
        return jax.nn.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class Bottleneck(nnx.Module):
    """A 3×3 convolution between two 1×1 ones, with a shortcut.

    The 3×3 convolution strides or, if `early`, the first 1×1 one.
    """

    expansion = 4
    groups = 1
    widening = 1

    def __init__(
        self, inputs: int, width: int, stride: int, *, early: bool = False, rngs: nnx.Rngs
    ):
        outputs = width * self.expansion
        width *= self.widening
        first, second = (stride, 1) if early else (1, stride)
        middle = {"stride": second, "padding": 1, "groups": self.groups}
        self.conv1 = _ReluConv(inputs, width, 1, stride=first, rngs=rngs)
        self.conv2 = _ReluConv(width, width, 3, **middle, rngs=rngs)
        self.conv3 = _Conv(width, outputs, 1, rngs=rngs)
        self.shortcut = _shortcut(inputs, outputs, stride, rngs)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations after the merge and its ReLU."""
        return jax.nn.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


class GroupedBottleneck(Bottleneck):
    """A bottleneck whose 3×3 convolution has 32 groups of channels and twice the width.

    References:
        Xie, Girshick, Dollár, Tu, He, "Aggregated Residual Transformations for Deep Neural
        Networks", CVPR 2017 (arXiv 1611.05431), figure 3c and table 1.
    """

    groups = 32
    widening = 2


_VARIANTS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
    "resnext50_32x4d": (GroupedBottleneck, (3, 4, 6, 3)),
}


class ResNet(nnx.Module):
    """A residual network in evaluation mode, its batch norms folded into the convolutions.

    Takes (N, 224, 224, 3), RGB normalised by ImageNet's mean and deviation; returns (N, classes)
    logits. `layer4` gives the last activations with a spatial grid, (N, 7, 7, 512 or 2048), after
    the residual merge and its ReLU.

    Args:
        variant: `"resnet18"`, `"resnet34"`, `"resnet50"`, `"resnet101"`, `"resnet152"` or
            `"resnext50_32x4d"`.
        early: whether bottlenecks stride in their first convolution, as published and in Keras,
            or in the 3×3 one, as in torchvision.
        classes: number of logits.
        rngs: random number generators for the weights.

    References:
        He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016
        (arXiv 1512.03385).
    """

    def __init__(self, *, variant: str, early: bool = False, classes: int = 1000, rngs: nnx.Rngs):
        block, (d1, d2, d3, d4) = _VARIANTS[variant]
        made: Callable[..., nnx.Module] = block
        if early and issubclass(block, Bottleneck):
            made = partial(block, early=True)
        stage = partial(_stage, made, rngs)
        wide = block.expansion
        self.conv1 = _ReluConv(3, 64, 7, stride=2, padding=3, rngs=rngs)
        self.layer1 = stage(64, 64, 64 * wide, d1, 1)
        self.layer2 = stage(64 * wide, 128, 128 * wide, d2, 2)
        self.layer3 = stage(128 * wide, 256, 256 * wide, d3, 2)
        self.layer4 = stage(256 * wide, 512, 512 * wide, d4, 2)
        self.fc = Linear(512 * wide, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = nnx.max_pool(self.conv1(x), (3, 3), (2, 2), ((1, 1), (1, 1)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((1, 2)))


def _stage(
    block: Callable[..., nnx.Module],
    rngs: nnx.Rngs,
    inputs: int,
    width: int,
    outputs: int,
    depth: int,
    stride: int,
) -> nnx.Sequential:
    blocks = [block(inputs, width, stride, rngs=rngs)]
    blocks += [block(outputs, width, 1, rngs=rngs) for _ in range(depth - 1)]
    return nnx.Sequential(*blocks)


def _shortcut(
    inputs: int, outputs: int, stride: int, rngs: nnx.Rngs
) -> Callable[[jax.Array], jax.Array]:
    if stride == 1 and inputs == outputs:
        return _identity
    return _Conv(inputs, outputs, 1, stride=stride, rngs=rngs)


def _identity(x: jax.Array) -> jax.Array:
    return x
