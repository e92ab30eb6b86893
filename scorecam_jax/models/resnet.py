"""ResNet-18 and ResNet-50, as torchvision defines them."""

from collections.abc import Callable
from functools import partial

import jax
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.layers import Conv, Linear

_ReluConv = partial(Conv, activation=jax.nn.relu)


class BasicBlock(nnx.Module):
    """Two 3×3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, *, source: str, rngs: nnx.Rngs):
        self.conv1 = _ReluConv(
            inputs, width, 3, stride=stride, padding=1, source=_normed(source, 1), rngs=rngs
        )
        self.conv2 = Conv(width, width, 3, padding=1, source=_normed(source, 2), rngs=rngs)
        self.shortcut = _shortcut(inputs, width, stride, source, rngs)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations after the merge and its ReLU."""
        return jax.nn.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class Bottleneck(nnx.Module):
    """A 3×3 convolution between two 1×1 ones, beside a shortcut; the 3×3 one strides."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, *, source: str, rngs: nnx.Rngs):
        outputs = width * self.expansion
        self.conv1 = _ReluConv(inputs, width, 1, source=_normed(source, 1), rngs=rngs)
        self.conv2 = _ReluConv(
            width, width, 3, stride=stride, padding=1, source=_normed(source, 2), rngs=rngs
        )
        self.conv3 = Conv(width, outputs, 1, source=_normed(source, 3), rngs=rngs)
        self.shortcut = _shortcut(inputs, outputs, stride, source, rngs)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations after the merge and its ReLU."""
        return jax.nn.relu(self.conv3(self.conv2(self.conv1(x))) + self.shortcut(x))


class ResNet(nnx.Module):
    """A residual network in evaluation mode, its batch norms folded into the convolutions.

    Takes (N, 224, 224, 3), RGB normalised by ImageNet's mean and deviation; returns (N, 1000)
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
        rngs: nnx.Rngs,
    ):
        self.conv1 = _ReluConv(3, 64, 7, stride=2, padding=3, source=("conv1", "bn1"), rngs=rngs)
        wide = block.expansion
        stages = [
            _stage(block, inputs, 64 * 2**index, depth, f"layer{index + 1}", rngs)
            for index, (depth, inputs) in enumerate(
                zip(depths, (64, 64 * wide, 128 * wide, 256 * wide), strict=True)
            )
        ]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = Linear(512 * wide, 1000, source=("fc",), rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = nnx.max_pool(self.conv1(x), (3, 3), (2, 2), ((1, 1), (1, 1)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((1, 2)))


def resnet18(rngs: nnx.Rngs) -> ResNet:
    """ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), rngs=rngs)


def resnet50(rngs: nnx.Rngs) -> ResNet:
    """ResNet-50."""
    return ResNet(Bottleneck, (3, 4, 6, 3), rngs=rngs)


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    inputs: int,
    width: int,
    depth: int,
    source: str,
    rngs: nnx.Rngs,
) -> nnx.Sequential:
    blocks = []
    for index in range(depth):
        stride = 2 if index == 0 and source != "layer1" else 1
        blocks.append(block(inputs, width, stride, source=f"{source}.{index}", rngs=rngs))
        inputs = width * block.expansion
    return nnx.Sequential(*blocks)


def _normed(source: str, number: int) -> tuple[str, str]:
    return f"{source}.conv{number}", f"{source}.bn{number}"


def _shortcut(
    inputs: int, outputs: int, stride: int, source: str, rngs: nnx.Rngs
) -> Callable[[jax.Array], jax.Array]:
    if stride == 1 and inputs == outputs:
        return _identity
    names = f"{source}.downsample.0", f"{source}.downsample.1"
    return Conv(inputs, outputs, 1, stride=stride, source=names, rngs=rngs)


def _identity(x: jax.Array) -> jax.Array:
    return x
