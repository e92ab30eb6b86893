"""EfficientNet-Lite0, a network small enough to explain on a laptop."""

from functools import partial

import jax
from flax import nnx
from jaxtyping import Array, Float

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
_Conv = partial(Conv, epsilon=1e-3)


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
        source: str,
        rngs: nnx.Rngs,
    ):
        names = iter([(f"{source}._bn{n}") for n in range(3)][expansion == 1 :])
        wide = inputs * expansion
        self.expand = (
            _Conv(
                inputs,
                wide,
                1,
                activation=jax.nn.relu6,
                source=(f"{source}._expand_conv", next(names)),
                rngs=rngs,
            )
            if expansion > 1
            else None
        )
        self.filter = _Conv(
            wide,
            wide,
            size,
            stride=stride,
            depthwise=True,
            activation=jax.nn.relu6,
            source=(f"{source}._depthwise_conv", next(names)),
            rngs=rngs,
        )
        self.project = _Conv(
            wide, outputs, 1, source=(f"{source}._project_conv", next(names)), rngs=rngs
        )
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

    Takes (N, 224, 224, 3), values (x - 127) / 128 of 8-bit RGB; returns (N, 1000) logits. `head`
    gives the last activations with a spatial grid, (N, 7, 7, 1280), after their ReLU6.

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        ICML 2019 (arXiv 1905.11946); the Lite variant drops squeeze-and-excitation, takes ReLU6.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = _Conv(
            3,
            32,
            3,
            stride=2,
            activation=jax.nn.relu6,
            source=("_conv_stem", "_bn0"),
            rngs=rngs,
        )
        blocks: list[Block] = []
        inputs = 32
        for repeats, size, stride, expansion, outputs in _STAGES:
            for repeat in range(repeats):
                blocks.append(
                    Block(
                        inputs,
                        outputs,
                        size,
                        stride if repeat == 0 else 1,
                        expansion,
                        source=f"_blocks.{len(blocks)}",
                        rngs=rngs,
                    )
                )
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.head = _Conv(
            320, 1280, 1, activation=jax.nn.relu6, source=("_conv_head", "_bn1"), rngs=rngs
        )
        self.classifier = Linear(1280, 1000, source=("_fc",), rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean((1, 2)))
