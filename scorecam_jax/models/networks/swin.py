"""Swin transformers: attention inside windows, which are shifted in every second block."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Num

from scorecam_jax.models.checkpoints.layout import ANYTHING, AVERAGED, Layout, layout_of
from scorecam_jax.models.layers import Conv, LayerNorm, Linear, Tensors
from scorecam_jax.models.networks.vit import Mlp

# From layer paths in this library to publishers' names; applied in order.
_EMBEDDING = {r"^patch_embed\b": "patch_embed.proj", r"^patch_norm\b": "patch_embed.norm"}
_TIMM = {**_EMBEDDING, r"^head\b": "head.fc"}
_MICROSOFT = {
    **_EMBEDDING,
    **{rf"^layers\.{stage}\.downsample\b": f"layers.{stage - 1}.downsample" for stage in (1, 2, 3)},
}
_TORCHVISION = {
    r"^patch_embed\b": "features.0.0",
    r"^patch_norm\b": "features.0.2",
    **{rf"^layers\.{stage}\.blocks\b": f"features.{2 * stage + 1}" for stage in range(4)},
    **{rf"^layers\.{stage}\.downsample\b": f"features.{2 * stage}" for stage in range(1, 4)},
    r"\.mlp\.fc1\b": ".mlp.0",
    r"\.mlp\.fc2\b": ".mlp.3",
}

_TABLE = r"0\.attn\.relative_position_bias_table"
_SAYS = {
    **AVERAGED,
    "img_size": ANYTHING,
    "strict_img_size": ANYTHING,
    "always_partition": ANYTHING,
    "window_size": (7,),
}


def _without_buffers(checkpoint: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Remove the tensors that follow from the sizes alone."""
    buffers = ("relative_position_index", "attn_mask")
    return {name: value for name, value in checkpoint.items() if not name.endswith(buffers)}


LAYOUTS = (
    Layout("microsoft", r"layers\.0\.downsample\.norm\.weight", _MICROSOFT, _without_buffers),
    Layout("timm", rf"layers\.0\.blocks\.{_TABLE}", _TIMM, _without_buffers, _SAYS),
    Layout("torchvision", rf"features\.1\.{_TABLE}", _TORCHVISION, _without_buffers),
)
HEAD = "head"


def arguments(checkpoint: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `Swin` other than its sizes.

    Args:
        checkpoint: the checkpoint as published.
        config: its configuration.
    """
    layout = layout_of(LAYOUTS, checkpoint)
    heads = [checkpoint[name] for name in ("head.weight", "head.fc.weight") if name in checkpoint]
    return {
        "classes": len(heads[0]) if heads else None,
        "pads_first": layout is not None and layout.publisher == "torchvision",
    }


# Added to the attention logits of tokens from different parts of the image in one window.
_APART = -100.0


class WindowAttention(nnx.Module):
    """Self-attention within each window, with a bias for each offset between two tokens."""

    def __init__(self, width: int, heads: int, window: int, *, rngs: nnx.Rngs):
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        table = jax.random.normal(rngs.params(), ((2 * window - 1) ** 2, heads))
        self.relative_position_bias_table = nnx.Param(0.02 * table)
        self.heads = heads
        self.window = window

    def __call__(
        self,
        x: Float[Array, "batch windows tokens width"],
        mask: Float[np.ndarray, "windows tokens tokens"] | None,
    ) -> Float[Array, "batch windows tokens width"]:
        """The tokens after attention; `mask` is added to the attention logits."""
        batch, windows, tokens, width = x.shape
        heads = self.qkv(x).reshape(batch, windows, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = heads.transpose(3, 0, 1, 4, 2, 5)
        likeness = (queries / queries.shape[-1] ** 0.5) @ keys.swapaxes(3, 4)
        bias = self.relative_position_bias_table[...][_offsets(self.window)]
        likeness = likeness + jnp.moveaxis(bias, -1, 0)[None, None].astype(x.dtype)
        if mask is not None:
            likeness = likeness + jnp.asarray(mask, x.dtype)[None, :, None]
        mixed = jax.nn.softmax(likeness) @ values
        return self.proj(mixed.swapaxes(2, 3).reshape(x.shape))

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of the table of biases."""
        return {"relative_position_bias_table": self.relative_position_bias_table.shape}

    def fill(self, tensors: Tensors) -> None:
        """Set the table of biases."""
        table = jnp.asarray(tensors["relative_position_bias_table"])
        self.relative_position_bias_table = nnx.Param(table)


class Block(nnx.Module):
    """Window attention, then an MLP; each takes normalised tokens and is added to its input."""

    def __init__(
        self,
        width: int,
        heads: int,
        window: int,
        *,
        shifted: bool,
        pads_first: bool,
        rngs: nnx.Rngs,
    ):
        self.norm1 = LayerNorm(width, epsilon=1e-5)
        self.attn = WindowAttention(width, heads, window, rngs=rngs)
        self.norm2 = LayerNorm(width, epsilon=1e-5)
        self.mlp = Mlp(width, 4 * width, rngs=rngs)
        self.window = window
        self.shifted = shifted
        self.pads_first = pads_first

    def __call__(
        self, x: Float[Array, "batch rows columns width"]
    ) -> Float[Array, "batch rows columns width"]:
        """The tokens."""
        x = x + self._attended(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def _attended(self, x: jax.Array) -> jax.Array:
        rows, columns = x.shape[1:3]
        padded = [math.ceil(side / self.window) * self.window for side in (rows, columns)]
        pads = ((0, 0), (0, padded[0] - rows), (0, padded[1] - columns), (0, 0))
        # A single window along an axis is not shifted.
        shift = [self.window // 2 if self.shifted and side > self.window else 0 for side in padded]
        back = [-step for step in shift]
        if self.pads_first:
            x = jnp.roll(jnp.pad(x, pads), back, (1, 2))
        else:
            x = jnp.pad(jnp.roll(x, back, (1, 2)), pads)
        mask = _mask(padded, self.window, shift) if any(shift) else None
        x = _merge(self.attn(_split(x, self.window), mask), padded, self.window)
        if self.pads_first:
            return jnp.roll(x, shift, (1, 2))[:, :rows, :columns]
        return jnp.roll(x[:, :rows, :columns], shift, (1, 2))


class Merging(nnx.Module):
    """Merge each 2×2 tokens into one of twice the width."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = LayerNorm(4 * width, epsilon=1e-5)
        self.reduction = Linear(4 * width, 2 * width, bias=False, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch rows columns width"]
    ) -> Float[Array, "batch newrows newcolumns newwidth"]:
        """The tokens, with half as many rows and columns, rounded up."""
        batch, rows, columns, width = x.shape
        x = jnp.pad(x, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))
        x = x.reshape(batch, -(-rows // 2), 2, -(-columns // 2), 2, width)
        x = x.transpose(0, 1, 3, 4, 2, 5).reshape(*x.shape[:2], x.shape[3], 4 * width)
        return self.reduction(self.norm(x))


class Stage(nnx.Module):
    """Blocks of one width; every second one shifts its windows."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        window: int,
        *,
        merges: bool,
        pads_first: bool,
        rngs: nnx.Rngs,
    ):
        self.downsample = Merging(width // 2, rngs=rngs) if merges else None
        self.blocks = nnx.List(
            [
                Block(width, heads, window, shifted=bool(i % 2), pads_first=pads_first, rngs=rngs)
                for i in range(depth)
            ]
        )

    def __call__(
        self, x: Float[Array, "batch rows columns width"]
    ) -> Float[Array, "batch newrows newcolumns newwidth"]:
        """The tokens after the last block."""
        x = x if self.downsample is None else self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class Swin(nnx.Module):
    """A Swin transformer in evaluation mode.

    Takes (N, height, width, 3), and returns (N, classes) logits; without a head, the mean of the
    last tokens, (N, 8 · width): the embedding. `norm` gives the last activations with a spatial
    grid: (N, 7, 7, 768) for Swin-T and 224 pixels.

    Args:
        width: features of the first stage; each further stage is twice as wide.
        depths: number of blocks in each stage.
        heads: attention heads in each stage.
        window: rows and columns of a window.
        classes: number of logits; None: no head.
        pads_first: whether a grid that windows do not fit is padded before it is shifted, as in
            torchvision, or after, as in timm.

    References:
        Liu et al., "Swin Transformer", ICCV 2021 (arXiv 2103.14030), equations 3 and 4.
    """

    def __init__(
        self,
        width: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        window: int = 7,
        *,
        classes: int | None = 1000,
        pads_first: bool = False,
        rngs: nnx.Rngs,
    ):
        self.patch_embed = Conv(3, width, 4, stride=4, padding=0, rngs=rngs)
        self.patch_norm = LayerNorm(width, epsilon=1e-5)
        stages = []
        for index, (depth, each) in enumerate(zip(depths, heads, strict=True)):
            stages.append(
                Stage(
                    width * 2**index,
                    depth,
                    each,
                    window,
                    merges=index > 0,
                    pads_first=pads_first,
                    rngs=rngs,
                )
            )
        self.layers = nnx.List(stages)
        features = width * 2 ** (len(depths) - 1)
        self.norm = LayerNorm(features, epsilon=1e-5)
        self.head = None if classes is None else Linear(features, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch features"]:
        """The logits, or the embedding.

        Raises:
            ValueError: a side of the input is not a multiple of 4.
        """
        if x.shape[1] % 4 or x.shape[2] % 4:
            raise ValueError(
                f"inputs are {x.shape[1]}x{x.shape[2]}, and Swin takes sides that are multiples "
                "of its 4-pixel patch, such as 224x224"
            )
        x = self.patch_norm(self.patch_embed(x))
        for stage in self.layers:
            x = stage(x)
        x = self.norm(x).mean((1, 2))
        return x if self.head is None else self.head(x)


def swin_tiny(*, rngs: nnx.Rngs, classes: int | None = 1000, pads_first: bool = False) -> Swin:
    """Swin-T."""
    sizes = (96, (2, 2, 6, 2), (3, 6, 12, 24))
    return Swin(*sizes, classes=classes, pads_first=pads_first, rngs=rngs)


def _split(x: jax.Array, window: int) -> jax.Array:
    """(N, rows, columns, width) -> (N, windows, tokens, width)."""
    batch, rows, columns, width = x.shape
    x = x.reshape(batch, rows // window, window, columns // window, window, width)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, window**2, width)


def _merge(x: jax.Array, sides: list[int], window: int) -> jax.Array:
    """The inverse of `_split`."""
    rows, columns = sides
    x = x.reshape(len(x), rows // window, columns // window, window, window, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), rows, columns, -1)


def _offsets(window: int) -> Num[np.ndarray, "tokens tokens"]:
    """The row in the table of biases for each pair of tokens in a window."""
    places = np.stack(np.divmod(np.arange(window**2), window))
    rows, columns = places[:, :, None] - places[:, None] + window - 1
    return rows * (2 * window - 1) + columns


def _mask(sides: list[int], window: int, shift: list[int]) -> Float[np.ndarray, "windows t t"]:
    """The mask that separates tokens that only the cyclic shift brought into one window."""
    parts = [
        np.digitize(np.arange(side), [side - window, side - step]) if step else np.zeros(side, int)
        for side, step in zip(sides, shift, strict=True)
    ]
    part = parts[0][:, None] * 3 + parts[1]
    tokens = part.reshape(sides[0] // window, window, sides[1] // window, window)
    tokens = tokens.transpose(0, 2, 1, 3).reshape(-1, window**2)
    return np.where(tokens[:, :, None] == tokens[:, None], 0.0, _APART).astype(np.float32)
