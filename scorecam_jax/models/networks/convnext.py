"""ConvNeXt, as its authors, torchvision, transformers and Keras define it."""

import re

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.checkpoints.keras import unnormalized
from scorecam_jax.models.checkpoints.layout import Layout
from scorecam_jax.models.layers import Conv, LayerNorm, Linear, Tensors, gelu

# From tensor paths in this library to publishers' names.
_TORCHVISION = {
    r"^stem\.conv": "features.0.0",
    r"^stem\.norm": "features.0.1",
    **{rf"^stages\.{n}\.reduce\.norm": f"features.{2 * n}.0" for n in range(4)},
    **{rf"^stages\.{n}\.reduce\.conv": f"features.{2 * n}.1" for n in range(4)},
    **{rf"^stages\.{n}\.blocks": f"features.{2 * n + 1}" for n in range(4)},
    r"\.filter": ".block.0",
    r"\.norm": ".block.2",
    r"\.expand": ".block.3",
    r"\.project": ".block.5",
    r"\.scale": ".layer_scale",
    r"^norm": "classifier.0",
    r"^head": "classifier.2",
}
_TIMM = {
    r"^stem\.conv": "stem.0",
    r"^stem\.norm": "stem.1",
    r"\.reduce\.norm": ".downsample.0",
    r"\.reduce\.conv": ".downsample.1",
    r"\.filter": ".conv_dw",
    r"\.expand": ".mlp.fc1",
    r"\.project": ".mlp.fc2",
    r"\.scale": ".gamma",
    r"^norm": "head.norm",
    r"^head\.(weight|bias)": r"head.fc.\1",
}
_HUGGING_FACE = {
    r"^stem\.conv": "convnext.embeddings.patch_embeddings",
    r"^stem\.norm": "convnext.embeddings.layernorm",
    r"^stages": "convnext.encoder.stages",
    r"\.reduce\.norm": ".downsampling_layer.0",
    r"\.reduce\.conv": ".downsampling_layer.1",
    r"\.blocks": ".layers",
    r"\.filter": ".dwconv",
    r"\.norm": ".layernorm",
    r"\.expand": ".pwconv1",
    r"\.project": ".pwconv2",
    r"\.scale": ".layer_scale_parameter",
    r"^norm": "convnext.layernorm",
    r"^head": "classifier",
}
_KERAS = {
    r"^stem\.": "stem_",
    **{rf"^stages\.{n}\.reduce\.": f"downsampling_{n - 1}_" for n in range(1, 4)},
    r"^(downsampling)_(\d)_(conv|norm)": r"\1_\3_\2",
    r"^stages\.(\d)\.blocks\.(\d+)\.": r"stage_\1_block_\2_",
    r"_filter": "_depthwise_conv",
    r"_expand": "_pointwise_conv_1",
    r"_project": "_pointwise_conv_2",
    r"_scale": "_layer_scale.weight",
    r"_norm": "_layernorm",
    r"^norm": "head_layernorm",
    r"^head\.": "head_dense.",
}


def _from_keras(checkpoint: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Remove the network's name, which Keras puts before each layer's name."""
    own = re.compile(r"^.*?(?=(stem|stage|downsampling|head)_(conv|layernorm|dense|\d))")
    return {own.sub("", name): value for name, value in unnormalized(checkpoint).items()}


LAYOUTS = (
    Layout("torchvision", r"features\.1\.0\.layer_scale", _TORCHVISION),
    Layout("timm", r"stages\.0\.blocks\.0\.gamma", _TIMM),
    Layout(
        "huggingface",
        r"convnext\.encoder\.stages\.0\.layers\.0\.layer_scale_parameter",
        _HUGGING_FACE,
        assumes={
            "num_channels": (3,),
            "hidden_act": ("gelu",),
            "patch_size": (4,),
            "layer_norm_eps": (1e-12,),
        },
        options={"epsilon": 1e-12},
    ),
    Layout("keras", r".*stage_0_block_0_layer_scale\.weight", _KERAS, convert=_from_keras),
)
HEAD = "head"


class Block(nnx.Module):
    """A residual block: a depthwise convolution, then an MLP on the channels of each position."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.filter = Conv(width, width, 7, padding=3, depthwise=True, rngs=rngs)
        self.norm = LayerNorm(width)
        self.expand = Linear(width, 4 * width, rngs=rngs)
        self.project = Linear(4 * width, width, rngs=rngs)
        self.scale = nnx.Param(jnp.full(width, 1e-6))

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        """The activations, with the input's shape."""
        y = self.expand(self.norm(self.filter(x)))
        y = self.project(gelu(y))
        return x + y * self.scale[...][None, None, None]

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of the layer scale."""
        return {"scale": self.scale.shape}

    def fill(self, tensors: Tensors) -> None:
        """Set the layer scale."""
        self.scale = nnx.Param(jnp.asarray(tensors["scale"]))


class Reduce(nnx.Module):
    """Halve height and width."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(inputs)
        self.conv = Conv(inputs, outputs, 2, stride=2, padding="VALID", rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations, with half the rows and columns."""
        return self.conv(self.norm(x))


class Stem(nnx.Module):
    """Embed patches of 4×4 pixels."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.conv = Conv(3, width, 4, stride=4, padding="VALID", rngs=rngs)
        self.norm = LayerNorm(width)

    def __call__(
        self, x: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch rows columns channels"]:
        """The activations, with a quarter of the rows and columns."""
        return self.norm(self.conv(x))


class Stage(nnx.Module):
    """A sequence of blocks of one width."""

    def __init__(self, inputs: int, width: int, depth: int, *, rngs: nnx.Rngs):
        self.reduce = Reduce(inputs, width, rngs=rngs) if inputs != width else None
        self.blocks = nnx.List([Block(width, rngs=rngs) for _ in range(depth)])

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations after the last block."""
        x = x if self.reduce is None else self.reduce(x)
        for block in self.blocks:
            x = block(x)
        return x


class ConvNeXt(nnx.Module):
    """ConvNeXt in evaluation mode.

    Takes (N, 224, 224, 3), RGB normalised by ImageNet's mean and deviation, or other multiples of
    32; returns (N, classes) logits. `stages/3` gives the last activations with a spatial grid,
    (N, 7, 7, 768 or 1024), after the last residual merge.

    References:
        Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, "A ConvNet for the 2020s", CVPR 2022
        (arXiv 2201.03545), figure 4 and section 3.
    """

    def __init__(
        self,
        depths: tuple[int, int, int, int],
        widths: tuple[int, int, int, int],
        *,
        epsilon: float = 1e-6,
        classes: int = 1000,
        rngs: nnx.Rngs,
    ):
        self.stem = Stem(widths[0], rngs=rngs)
        befores = (widths[0], *widths[:-1])
        self.stages = nnx.List(
            [
                Stage(before, width, depth, rngs=rngs)
                for before, width, depth in zip(befores, widths, depths, strict=True)
            ]
        )
        self.norm = LayerNorm(widths[-1], epsilon=epsilon)
        self.head = Linear(widths[-1], classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x.mean((1, 2))))


def convnext_tiny(rngs: nnx.Rngs, classes: int = 1000, epsilon: float = 1e-6) -> ConvNeXt:
    """ConvNeXt-T."""
    widths = (96, 192, 384, 768)
    return ConvNeXt((3, 3, 9, 3), widths, epsilon=epsilon, classes=classes, rngs=rngs)


def convnext_small(rngs: nnx.Rngs, classes: int = 1000, epsilon: float = 1e-6) -> ConvNeXt:
    """ConvNeXt-S."""
    widths = (96, 192, 384, 768)
    return ConvNeXt((3, 3, 27, 3), widths, epsilon=epsilon, classes=classes, rngs=rngs)


def convnext_base(rngs: nnx.Rngs, classes: int = 1000, epsilon: float = 1e-6) -> ConvNeXt:
    """ConvNeXt-B."""
    widths = (128, 256, 512, 1024)
    return ConvNeXt((3, 3, 27, 3), widths, epsilon=epsilon, classes=classes, rngs=rngs)
