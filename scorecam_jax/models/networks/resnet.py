"""ResNets and a ResNeXt, as torchvision defines them."""

from collections.abc import Callable
from functools import partial

import jax
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.checkpoints.layout import Layout
from scorecam_jax.models.layers import Conv, Linear

# From the paths of layers here to torchvision's names, one after the other.
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
)
HEAD = "fc"

_Conv = partial(Conv, epsilon=1e-5)
_ReluConv = partial(_Conv, activation=jax.nn.relu)


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions beside a shortcut."""

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
    """A 3×3 convolution between two 1×1 ones, beside a shortcut; the 3×3 one strides."""

    expansion = 4
    groups = 1
    widening = 1

    def __init__(self, inputs: int, width: int, stride: int, *, rngs: nnx.Rngs):
        outputs = width * self.expansion
        width *= self.widening
        middle = {"stride": stride, "padding": 1, "groups": self.groups}
        self.conv1 = _ReluConv(inputs, width, 1, rngs=rngs)
        self.conv2 = _ReluConv(width, width, 3, **middle, rngs=rngs)
        self.conv3 = _Conv(width, outputs, 1, rngs=rngs)
        self.shortcut = _shortcut(inputs, outputs, stride, rngs)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations after the merge and its ReLU."""
        return jax.nn.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


class GroupedBottleneck(Bottleneck):
    """A bottleneck whose 3×3 convolution has 32 groups of channels, and is twice as wide.

    References:
        Xie, Girshick, Dollár, Tu, He, "Aggregated Residual Transformations for Deep Neural
        Networks", CVPR 2017 (arXiv 1611.05431), figure 3c and table 1.
    """

    groups = 32
    widening = 2


class ResNet(nnx.Module):
    """A residual network in evaluation mode, its batch norms folded into the convolutions.

    Takes (N, 224, 224, 3), RGB normalised by ImageNet's mean and deviation; returns (N, classes)
    logits. `layer4` gives the last activations with a spatial grid, (N, 7, 7, 512 or 2048), after
    the residual merge and its ReLU.

    References:
        He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016
        (arXiv 1512.03385), with the stride on the 3×3 convolution, as torchvision has it.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        classes: int = 1000,
        rngs: nnx.Rngs,
    ):
        self.conv1 = _ReluConv(3, 64, 7, stride=2, padding=3, rngs=rngs)
        wide = block.expansion
        d1, d2, d3, d4 = depths
        self.layer1 = _stage(block, 64, 64, d1, 1, rngs)
        self.layer2 = _stage(block, 64 * wide, 128, d2, 2, rngs)
        self.layer3 = _stage(block, 128 * wide, 256, d3, 2, rngs)
        self.layer4 = _stage(block, 256 * wide, 512, d4, 2, rngs)
        self.fc = Linear(512 * wide, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = nnx.max_pool(self.conv1(x), (3, 3), (2, 2), ((1, 1), (1, 1)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((1, 2)))


def resnet18(rngs: nnx.Rngs, classes: int = 1000) -> ResNet:
    """ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), classes=classes, rngs=rngs)


def resnet34(rngs: nnx.Rngs, classes: int = 1000) -> ResNet:
    """ResNet-34."""
    return ResNet(BasicBlock, (3, 4, 6, 3), classes=classes, rngs=rngs)


def resnet50(rngs: nnx.Rngs, classes: int = 1000) -> ResNet:
    """ResNet-50."""
    return ResNet(Bottleneck, (3, 4, 6, 3), classes=classes, rngs=rngs)


def resnet101(rngs: nnx.Rngs, classes: int = 1000) -> ResNet:
    """ResNet-101."""
    return ResNet(Bottleneck, (3, 4, 23, 3), classes=classes, rngs=rngs)


def resnet152(rngs: nnx.Rngs, classes: int = 1000) -> ResNet:
    """ResNet-152."""
    return ResNet(Bottleneck, (3, 8, 36, 3), classes=classes, rngs=rngs)


def resnext50(rngs: nnx.Rngs, classes: int = 1000) -> ResNet:
    """ResNeXt-50 (32×4d): 32 groups, of 4 channels each in the first stage."""
    return ResNet(GroupedBottleneck, (3, 4, 6, 3), classes=classes, rngs=rngs)


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    inputs: int,
    width: int,
    depth: int,
    stride: int,
    rngs: nnx.Rngs,
) -> nnx.Sequential:
    outputs = width * block.expansion
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
