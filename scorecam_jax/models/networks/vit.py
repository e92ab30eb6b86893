"""Vision transformers: ViT, DeiT, DINO, and the blocks of CLIP's towers."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from scorecam_jax.models.checkpoints.vit import LAYOUTS, arguments
from scorecam_jax.models.layers import Conv, LayerNorm, Linear, Tensors, gelu
from scorecam_jax.models.positions import PositionTable, Resizing, Turns, rotations, turned

__all__ = [
    "HEAD",
    "LAYOUTS",
    "Block",
    "ViT",
    "arguments",
    "vit_base",
    "vit_large",
    "vit_small",
    "vit_tiny",
]

Pool = Literal["class", "mean", "normed mean", "class+mean", "class+distillation", "attention"]

HEAD = "head"


class Attention(nnx.Module):
    """Self-attention: in each head, each token becomes a weighted mean of the tokens' values."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.qkv = Linear(width, 3 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.heads = heads

    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        mask: Bool[Array, "tokens tokens"] | None = None,
        turns: Turns | None = None,
    ) -> Float[Array, "batch tokens width"]:
        """The tokens after attention.

        Args:
            x: the tokens.
            mask: the tokens (columns) to which each token (row) attends. None: all.
            turns: the rotations of queries and keys; see `rotations`.
        """
        batch, tokens, width = x.shape
        queries, keys, values = self._projected(x)
        if turns is not None:
            queries, keys = turned(queries, turns), turned(keys, turns)
        likeness = (queries / queries.shape[-1] ** 0.5) @ keys.swapaxes(2, 3)
        if mask is not None:
            likeness = jnp.where(mask[None, None], likeness, -jnp.inf)
        mixed = (jax.nn.softmax(likeness) @ values).swapaxes(1, 2)
        return self.proj(mixed.reshape(batch, tokens, width))

    def _projected(
        self, x: Float[Array, "batch tokens width"]
    ) -> list[Float[Array, "batch heads tokens features"]]:
        """The queries, keys and values.

        A TPU's compiler copies the result of a joint product twice to take it apart. It does not
        copy those of three products, which a GPU's compiler joins again.
        """
        width = x.shape[-1]
        shape = (3, self.heads, width // self.heads)
        kernels = self.qkv.kernel[...].reshape(width, *shape)
        assert self.qkv.bias is not None
        biases = self.qkv.bias[...].reshape(1, 1, *shape)
        return [
            (jnp.einsum("btw,whf->bthf", x, kernels[:, part]) + biases[:, :, part]).swapaxes(1, 2)
            for part in range(3)
        ]


class Mlp(nnx.Module):
    """Two linear layers with an activation between them, applied to each token."""

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: Callable[[jax.Array], jax.Array] = gelu,
        *,
        rngs: nnx.Rngs,
    ):
        self.fc1 = Linear(width, hidden, rngs=rngs)
        self.fc2 = Linear(hidden, width, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The new features."""
        return self.fc2(self.activation(self.fc1(x)))


class Block(nnx.Module):
    """Attention, then an MLP; each takes normalised tokens and is added to its input."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        hidden: int | None = None,
        epsilon: float = 1e-6,
        activation: Callable[[jax.Array], jax.Array] = gelu,
        rngs: nnx.Rngs,
    ):
        self.norm1 = LayerNorm(width, epsilon=epsilon)
        self.attn = Attention(width, heads, rngs=rngs)
        self.norm2 = LayerNorm(width, epsilon=epsilon)
        self.mlp = Mlp(width, hidden or 4 * width, activation, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        mask: Bool[Array, "tokens tokens"] | None = None,
        turns: Turns | None = None,
    ) -> Float[Array, "batch tokens width"]:
        """The tokens; `mask` and `turns` as in `Attention`."""
        x = x + self.attn(self.norm1(x), mask, turns)
        return x + self.mlp(self.norm2(x))


class AttentionPool(nnx.Module):
    """Pool tokens by the attention of a learned query, followed by an MLP, as in SigLIP."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        epsilon: float = 1e-6,
        activation: Callable[[jax.Array], jax.Array] = gelu,
        rngs: nnx.Rngs,
    ):
        self.query = nnx.Param(0.02 * jax.random.normal(rngs.params(), (width,)))
        self.kv = Linear(width, 2 * width, rngs=rngs)
        self.proj = Linear(width, width, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=epsilon)
        self.mlp = Mlp(width, 4 * width, activation, rngs=rngs)
        self.heads = heads

    def __call__(self, x: Float[Array, "batch tokens width"]) -> Float[Array, "batch width"]:
        """The pooled features."""
        batch, tokens, width = x.shape
        each = width // self.heads
        both = self.kv(x).reshape(batch, tokens, 2, self.heads, each)
        keys, values = both.transpose(2, 0, 3, 1, 4)
        queries = self.query[...].astype(x.dtype).reshape(1, self.heads, 1, each) / each**0.5
        mixed = jax.nn.softmax(queries @ keys.swapaxes(2, 3)) @ values
        x = self.proj(mixed.reshape(batch, width))
        return x + self.mlp(self.norm(x))

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of the query."""
        return {"query": self.query.shape}

    def fill(self, tensors: Tensors) -> None:
        """Set the query."""
        self.query = nnx.Param(jnp.asarray(tensors["query"]))


class ViT(nnx.Module):
    """A vision transformer in evaluation mode, its layer scales folded into the weights.

    Takes (N, height, width, 3), both sides multiples of the patch, and returns (N, classes)
    logits. Without a head it returns the pooled features, (N, width): the embedding. The tokens
    are the class token if there is one, then registers, then the patches row by row.
    `blocks/{i}/norm1` and `blocks/{i}` give the tokens, (N, tokens, width).

    Args:
        width: features of each token.
        depth: number of blocks.
        heads: attention heads per block; a divisor of the width.
        patch: side of a patch in pixels.
        classes: number of logits; None: no head.
        cells: rows and columns of the table of positions.
        prefix: number of tokens before the patches.
        pool: the input of the head: `"class"`, the first token; `"mean"`, the mean of the patches,
            then normalised; `"normed mean"`, the mean of the normalised patches; `"class+mean"`,
            the first token and that mean; `"class+distillation"`, the first two tokens;
            `"attention"`, see `AttentionPool`.
        pre_norm: whether the tokens are normalised before the first block, as in CLIP.
        rotary: the base of the rotary position embedding that replaces the table, as in DINOv3.
            None: the table is used.
        resizing: how the table is resized to another grid; see `PositionTable`.
        epsilon: constant added to variances.
        activation: the activation in the MLPs.

    References:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021 (arXiv 2010.11929),
        equations 1 to 4; Touvron et al., DeiT, ICML 2021 (arXiv 2012.12877); Oquab et al.,
        DINOv2, 2023 (arXiv 2304.07193); Darcet et al. on registers, ICLR 2024 (arXiv 2309.16588);
        Siméoni et al., DINOv3, 2025 (arXiv 2508.10104).
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        *,
        classes: int | None = 1000,
        cells: tuple[int, int] = (14, 14),
        prefix: int = 1,
        pool: Pool = "class",
        pre_norm: bool = False,
        rotary: float | None = None,
        resizing: Resizing = "antialiased",
        epsilon: float = 1e-6,
        activation: Callable[[jax.Array], jax.Array] = gelu,
        rngs: nnx.Rngs,
    ):
        self.patch = patch
        self.heads = heads
        self.patch_embed = Conv(3, width, patch, stride=patch, padding=0, rngs=rngs)
        self.rotary = rotary
        tables = partial(PositionTable, cells, width, resizing)
        self.pos_embed = tables(rngs=rngs) if rotary is None else None
        # Includes their position embeddings, if any.
        self.prefix = nnx.Param(0.02 * jax.random.normal(rngs.params(), (prefix, width)))
        self.norm_pre = LayerNorm(width, epsilon=epsilon) if pre_norm else None
        block = partial(Block, width, heads, epsilon=epsilon, activation=activation)
        self.blocks = nnx.List([block(rngs=rngs) for _ in range(depth)])
        self.norm = LayerNorm(width, epsilon=epsilon)
        self.pool = pool
        pools = partial(AttentionPool, width, heads, epsilon=epsilon, activation=activation)
        self.attn_pool = pools(rngs=rngs) if pool == "attention" else None
        pooled = 2 * width if "+" in pool else width
        self.head = None if classes is None else Linear(pooled, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch features"]:
        """The logits, or the embedding.

        Raises:
            ValueError: a side of the input is not a multiple of the patch.
        """
        x = self.pooled(self.tokens(x))
        return x if self.head is None else self.head(x)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of the tokens before the patches."""
        return {"prefix": self.prefix.shape}

    def fill(self, tensors: Tensors) -> None:
        """Set the tokens before the patches."""
        self.prefix = nnx.Param(jnp.asarray(tensors["prefix"]))

    def tokens(
        self, x: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch tokens features"]:
        """The tokens after the last block."""
        if x.shape[1] % self.patch or x.shape[2] % self.patch or 0 in x.shape:
            sides = [max(1, round(side / self.patch)) * self.patch for side in x.shape[1:3]]
            raise ValueError(
                f"inputs are {x.shape[1]}x{x.shape[2]}, and this network takes sides that are "
                f"multiples of its {self.patch}-pixel patch, such as {sides[0]}x{sides[1]}"
            )
        x = self.patch_embed(x)
        batch, rows, columns, width = x.shape
        turns = None
        if self.pos_embed is not None:
            x = x + self.pos_embed(rows, columns)[None].astype(x.dtype)
        if self.rotary is not None:
            features = width // self.heads
            turns = rotations(
                rows, columns, prefix=len(self.prefix), features=features, base=self.rotary
            )
        prefix = jnp.broadcast_to(self.prefix[...][None], (batch, *self.prefix.shape))
        x = jnp.concatenate([prefix.astype(x.dtype), x.reshape(batch, -1, width)], axis=1)
        if self.norm_pre is not None:
            x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x, turns=turns)
        return x

    def pooled(
        self, x: Float[Array, "batch tokens features"]
    ) -> Float[Array, "batch pooled_features"]:
        """The input of the head, from the last block's tokens."""
        patches = slice(len(self.prefix), None)
        if self.pool == "mean":
            return self.norm(x[:, patches].mean(1))
        x = self.norm(x)
        if self.attn_pool is not None:
            return self.attn_pool(x)
        if self.pool == "class":
            return x[:, 0]
        if self.pool == "normed mean":
            return x[:, patches].mean(1)
        second = x[:, 1] if self.pool == "class+distillation" else x[:, patches].mean(1)
        return jnp.concatenate([x[:, 0], second], axis=-1)


def vit_tiny(patch: int = 16, *, rngs: nnx.Rngs, **options: Any) -> ViT:
    """ViT-Ti, with 192 features."""
    return ViT(192, 12, 3, patch, **options, rngs=rngs)


def vit_small(patch: int = 16, *, rngs: nnx.Rngs, **options: Any) -> ViT:
    """ViT-S, with 384 features."""
    return ViT(384, 12, 6, patch, **options, rngs=rngs)


def vit_base(patch: int = 16, *, rngs: nnx.Rngs, **options: Any) -> ViT:
    """ViT-B, with 768 features."""
    return ViT(768, 12, 12, patch, **options, rngs=rngs)


def vit_large(patch: int = 16, *, rngs: nnx.Rngs, **options: Any) -> ViT:
    """ViT-L, with 1024 features."""
    return ViT(1024, 24, 16, patch, **options, rngs=rngs)
