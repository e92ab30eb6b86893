"""EfficientNets and EfficientNetV2-S, as timm, torchvision, transformers and Keras define them."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.checkpoints.keras import unnormalized
from scorecam_jax.models.checkpoints.layout import ANYTHING, Layout
from scorecam_jax.models.layers import Linear
from scorecam_jax.models.networks.inverted import (
    Block,
    Same,
    Shape,
    Stages,
    Style,
    divisible,
    hugging_face_names,
    keras_names,
    timm_names,
    torchvision_names,
)


class _Stage(NamedTuple):
    """A sequence of blocks of one width; the first one strides.

    Attributes:
        depth: number of blocks.
        size: rows and columns of the kernels.
        stride: stride of the first block.
        expansion: factor by which a block widens its channels.
        outputs: output channels.
        fused: whether the blocks are fused; then they have no squeeze-and-excitation.
    """

    depth: int
    size: int
    stride: int
    expansion: int
    outputs: int
    fused: bool = False


# "EfficientNet", table 1.
_B = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# "EfficientNetV2", table 4.
_V2_S = (
    _Stage(2, 3, 1, 1, 24, fused=True),
    _Stage(4, 3, 2, 4, 48, fused=True),
    _Stage(4, 3, 2, 4, 64, fused=True),
    _Stage(6, 3, 2, 4, 128),
    _Stage(9, 3, 1, 6, 160),
    _Stage(15, 3, 2, 6, 256),
)


class _Variant(NamedTuple):
    """A network's stages, and the channels of its stem and head."""

    stages: tuple[_Stage, ...]
    stem: int
    head: int


def _scaled(width: float, depth: float) -> _Variant:
    """B0 scaled in width and depth."""
    stages = [
        stage._replace(
            depth=math.ceil(stage.depth * depth), outputs=divisible(stage.outputs * width)
        )
        for stage in _B
    ]
    return _Variant(tuple(stages), divisible(32 * width), divisible(1280 * width))


_VARIANTS = {
    "b0": _scaled(1.0, 1.0),
    "b1": _scaled(1.0, 1.1),
    "b2": _scaled(1.1, 1.2),
    "b3": _scaled(1.2, 1.4),
    "v2_s": _Variant(_V2_S, 24, 1280),
}


def _shapes(variant: _Variant) -> Stages:
    """The blocks of each stage."""
    found: list[list[Shape]] = []
    inputs = variant.stem
    for depth, size, stride, expansion, outputs, fused in variant.stages:
        found.append([])
        for index in range(depth):
            step = stride if index == 0 else 1
            squeeze = 0 if fused else inputs // 4
            wide = inputs * expansion
            found[-1].append(Shape(inputs, wide, outputs, size, step, squeeze, fused))
            inputs = outputs
    return found


def LAYOUTS(variant: str, **options: object) -> tuple[Layout, ...]:  # noqa: N802
    """Publishers' names for the tensors of a network."""
    stages = _shapes(_VARIANTS[variant])
    last = len(stages) + 1
    torchvision = {
        r"^stem\.norm": "features.0.1",
        r"^stem": "features.0.0",
        r"^head\.norm": f"features.{last}.1",
        r"^head": f"features.{last}.0",
        r"^classifier": "classifier.1",
    }
    timm = {
        r"^stem\.norm": "bn1",
        r"^stem": "conv_stem",
        r"^head\.norm": "bn2",
        r"^head": "conv_head",
    }
    return (
        Layout(
            "torchvision",
            rf"features\.{last}\.0\.weight",
            torchvision_names(stages, torchvision, lambda stage, i: f"features.{stage + 1}.{i}"),
        ),
        Layout(
            "timm",
            rf"blocks\.{last - 2}\.{len(stages[-1]) - 1}\.se\.conv_reduce\.weight",
            timm_names(stages, timm),
        ),
        Layout(
            "huggingface",
            r"efficientnet\.encoder\.blocks\.0\.squeeze_excite\.reduce\.weight",
            hugging_face_names(_HUGGING_FACE),
            assumes=_HUGGING_FACE_SAYS,
            options={"same": True},
        ),
        Layout(
            "keras",
            r"block1a_dwconv\.weight" if variant != "v2_s" else r"block4a_dwconv2\.weight",
            keras_names(stages, _KERAS, "dwconv" if variant != "v2_s" else "dwconv2"),
            convert=unnormalized,
            preprocess=_HALVES if variant == "v2_s" else {},
        ),
    )


_KERAS = {
    r"^(stem|head)\.norm": r"\1_bn",
    r"^(stem|head)\.": r"\1_conv.",
    r"^head": "top",
    r"^classifier": "predictions",
}
# The normalisation of Keras's EfficientNetV2.
_HALVES = {"mean": (128.0,) * 3, "std": (128.0,) * 3}

_HUGGING_FACE = {
    r"^stem\.norm": "efficientnet.embeddings.batchnorm",
    r"^stem": "efficientnet.embeddings.convolution",
    r"^head\.norm": "efficientnet.encoder.top_bn",
    r"^head": "efficientnet.encoder.top_conv",
}
# Settings that the tensors do not show.
_HUGGING_FACE_SAYS = {
    "num_channels": (3,),
    "hidden_act": ("swish", "silu"),
    "pooling_type": ("mean",),
    "batch_norm_eps": (0.001,),
    "strides": ([stage.stride for stage in _B],),
    "depthwise_padding": ANYTHING,
}


def arguments(checkpoint: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The padding, from a configuration of transformers.

    The configuration lists the blocks whose inputs have odd sides at the training resolution.
    """
    odd = config.get("depthwise_padding")
    return {"same": "even", "balanced": tuple(odd)} if isinstance(odd, list) else {}


HEAD = "classifier"


class EfficientNet(nnx.Module):
    """An EfficientNet in evaluation mode, its batch norms folded into the convolutions.

    Takes (N, height, width, 3), RGB normalised by ImageNet's mean and deviation; returns
    (N, classes) logits. `head` gives the last activations with a spatial grid, 1/32 of height and
    width, after their SiLU.

    Args:
        variant: `"b0"` to `"b3"`, or `"v2_s"`.
        epsilon: constant that batch norms add to variances: 1e-3 as published, 1e-5 in networks
            trained with PyTorch.
        same: whether to pad as TensorFlow does, as published; see `Style`.
        classes: number of logits.
        balanced: indices of the blocks to which `"even"` does not apply; see `Shape`.
        rngs: random number generators for the weights.

    References:
        Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        ICML 2019 (arXiv 1905.11946), table 1; "EfficientNetV2: Smaller Models and Faster
        Training", ICML 2021 (arXiv 2104.00298), table 4.
    """

    def __init__(
        self,
        *,
        variant: str,
        epsilon: float,
        same: Same = False,
        classes: int = 1000,
        balanced: Collection[int] = (),
        rngs: nnx.Rngs,
    ):
        chosen = _VARIANTS[variant]
        style = Style(jax.nn.silu, epsilon, same)
        plain = [shape for stage in _shapes(chosen) for shape in stage]
        shapes = [one._replace(balanced=i in balanced) for i, one in enumerate(plain)]
        self.stem = style.conv(3, chosen.stem, 3, 2, rngs=rngs)
        self.blocks = nnx.List([Block(shape, style, rngs=rngs) for shape in shapes])
        self.head = style.conv(shapes[-1].outputs, chosen.head, 1, rngs=rngs)
        self.classifier = Linear(chosen.head, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean((1, 2)))
