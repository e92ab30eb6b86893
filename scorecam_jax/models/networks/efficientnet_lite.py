"""EfficientNet-Lite0, a network small enough to explain on a laptop."""

from functools import partial

import jax
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.checkpoints.layout import Layout
from scorecam_jax.models.layers import Conv, Linear

# Repeats, kernel size, stride of the first, expansion, channels out.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

# From the paths of layers here to the published names, one after the other.
_PUBLISHED = {
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
LAYOUTS = (Layout("lukemelas", r"_conv_stem\.weight", _PUBLISHED),)
HEAD = "classifier"

_Conv = partial(Conv, epsilon=1e-3)
_Relu6Conv = partial(_Conv, activation=jax.nn.relu6)


class Block(nnx.Module):
    """An inverted bottleneck: widen, filter each channel, narrow."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        stride: int,
        expansion: int,
        *,
        rngs: nnx.Rngs,
    ):
        wide = inputs * expansion
        self.expand = _Relu6Conv(inputs, wide, 1, rngs=rngs) if expansion > 1 else None
        self.filter = _Relu6Conv(wide, wide, size, stride=stride, depthwise=True, rngs=rngs)
        self.project = _Conv(wide, outputs, 1, rngs=rngs)
        self.residual = stride == 1 and inputs == outputs

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations; rows and columns are height and width by the stride."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.filter(y))
        return x + y if self.residual else y


class EfficientNetLite0(nnx.Module):
    """EfficientNet-Lite0 in evaluation mode, its batch norms folded into the convolutions.

    Takes (N, 224, 224, 3), values (x - 127) / 128 of 8-bit RGB; returns (N, classes) logits. `head`
    gives the last activations with a spatial grid, (N, 7, 7, 1280), after their ReLU6.

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        ICML 2019 (arXiv 1905.11946); the Lite variant drops squeeze-and-excitation, takes ReLU6.
    """

    def __init__(self, *, classes: int = 1000, rngs: nnx.Rngs):
        self.stem = _Relu6Conv(3, 32, 3, stride=2, rngs=rngs)
        blocks: list[Block] = []
        inputs = 32
        for repeats, size, stride, expansion, outputs in _STAGES:
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                blocks.append(Block(inputs, outputs, size, step, expansion, rngs=rngs))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.head = _Relu6Conv(320, 1280, 1, rngs=rngs)
        self.classifier = Linear(1280, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean((1, 2)))
