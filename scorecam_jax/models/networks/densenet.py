"""DenseNet-121, as torchvision, timm and Keras define it."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.checkpoints.keras import folded
from scorecam_jax.models.checkpoints.layout import Layout
from scorecam_jax.models.layers import BATCH_NORM, Conv, Linear, Tensors, batch_norm

# Channels that each layer adds, and channels inside a layer.
_GROWTH, _INSIDE = 32, 4 * 32
_DEPTHS = (6, 12, 24, 16)
_EPSILON = 1e-5


def _as_torchvision(checkpoint: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename tensors of torchvision's first checkpoints, such as `norm.1`, to today's names."""
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
    return {old.sub(r"\1\2.", name): value for name, value in checkpoint.items()}


_TORCHVISION = {
    r"^(?!classifier)": "features.",
    r"\.stem\.norm": ".norm0",
    r"\.stem\.": ".conv0.",
    **{rf"\.layers\.{n}\.": f".denselayer{n + 1}." for n in range(max(_DEPTHS))},
    r"\.conv1\.norm": ".norm2",
}
_KERAS = {
    r"^stem\.norm": "conv1_bn",
    r"^stem": "conv1_conv",
    **{
        rf"^denseblock{block}\.layers\.{n}\.": f"conv{block + 1}_block{n + 1}."
        for block in range(1, 5)
        for n in range(max(_DEPTHS))
    },
    r"\.norm1": "_0_bn",
    r"\.conv(\d)\.norm": r"_\1_bn",
    r"\.conv(\d)": r"_\1_conv",
    **{rf"^transition{n}\.": f"pool{n + 1}_" for n in range(1, 4)},
    r"^(pool\d_)norm": r"\1bn",
    r"^norm5": "bn",
    r"^classifier": "predictions",
}
LAYOUTS = (
    Layout(
        "torchvision",
        r"features\.denseblock4\.denselayer16\.conv\.?2\.weight",
        _TORCHVISION,
        convert=_as_torchvision,
    ),
    Layout("keras", r"conv5_block16_2_conv\.weight", _KERAS, convert=folded),
)
HEAD = "classifier"


class Norm(nnx.Module):
    """A batch norm in evaluation mode, as a scale and a shift of each channel, and its ReLU."""

    def __init__(self, channels: int):
        self.scale = nnx.Param(jnp.ones(channels))
        self.shift = nnx.Param(jnp.zeros(channels))

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The activations, with the input's shape."""
        scale, shift = (one[...][None, None, None] for one in (self.scale, self.shift))
        return jax.nn.relu(x * scale + shift)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the batch norm's parameters and statistics."""
        return dict.fromkeys(BATCH_NORM, self.scale.shape)

    def fill(self, tensors: Tensors) -> None:
        """Set scale and shift from a batch norm."""
        scale, shift = batch_norm(tensors, _EPSILON)
        self.scale, self.shift = nnx.Param(jnp.asarray(scale)), nnx.Param(jnp.asarray(shift))


class DenseLayer(nnx.Module):
    """A 1×1 and a 3×3 convolution, each after a norm and a ReLU, whose output is concatenated."""

    def __init__(self, inputs: int, *, rngs: nnx.Rngs):
        relu_conv = partial(Conv, activation=jax.nn.relu, epsilon=_EPSILON)
        self.norm1 = Norm(inputs)
        self.conv1 = relu_conv(inputs, _INSIDE, 1, rngs=rngs)
        self.conv2 = Conv(_INSIDE, _GROWTH, 3, padding=1, bias=False, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch height width outputs"]:
        """The input's channels, followed by the new ones."""
        return jnp.concatenate([x, self.conv2(self.conv1(self.norm1(x)))], -1)


class DenseBlock(nnx.Module):
    """Layers that each take the outputs of all layers before them."""

    def __init__(self, inputs: int, depth: int, *, rngs: nnx.Rngs):
        widths = [inputs + _GROWTH * index for index in range(depth)]
        self.layers = nnx.List([DenseLayer(width, rngs=rngs) for width in widths])

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch height width outputs"]:
        """The input's channels, followed by those of every layer."""
        for layer in self.layers:
            x = layer(x)
        return x


class Transition(nnx.Module):
    """Halve channels, height and width."""

    def __init__(self, inputs: int, *, rngs: nnx.Rngs):
        self.norm = Norm(inputs)
        self.conv = Conv(inputs, inputs // 2, 1, bias=False, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations, averaged over 2×2 positions."""
        return nnx.avg_pool(self.conv(self.norm(x)), (2, 2), (2, 2))


class DenseNet121(nnx.Module):
    """DenseNet-121 in evaluation mode.

    Takes (N, 224, 224, 3), RGB normalised by ImageNet's mean and deviation; returns (N, classes)
    logits. `norm5` gives the last activations with a spatial grid, (N, 7, 7, 1024), after their
    ReLU.

    References:
        Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks",
        CVPR 2017 (arXiv 1608.06993), table 1.
    """

    def __init__(self, *, classes: int = 1000, rngs: nnx.Rngs):
        relu_conv = partial(Conv, activation=jax.nn.relu, epsilon=_EPSILON)
        self.stem = relu_conv(3, 64, 7, stride=2, padding=3, rngs=rngs)
        channels = 64
        for number, depth in enumerate(_DEPTHS, 1):
            setattr(self, f"denseblock{number}", DenseBlock(channels, depth, rngs=rngs))
            channels += _GROWTH * depth
            if number < len(_DEPTHS):
                setattr(self, f"transition{number}", Transition(channels, rngs=rngs))
                channels //= 2
        self.norm5 = Norm(channels)
        self.classifier = Linear(channels, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = nnx.max_pool(self.stem(x), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for number in range(1, len(_DEPTHS) + 1):
            x = getattr(self, f"denseblock{number}")(x)
            x = x if number == len(_DEPTHS) else getattr(self, f"transition{number}")(x)
        return self.classifier(self.norm5(x).mean((1, 2)))
