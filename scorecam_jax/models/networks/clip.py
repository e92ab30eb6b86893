"""CLIP and SigLIP: an image tower and a text tower, whose embeddings are compared."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from scorecam_jax.models.checkpoints.clip import CLIP, arguments
from scorecam_jax.models.layers import LayerNorm, Linear, Tensors, gelu
from scorecam_jax.models.networks.vit import Block, ViT

__all__ = [
    "HEAD",
    "LAYOUTS",
    "ImageTower",
    "TextTower",
    "arguments",
    "image_base",
    "image_large",
]

LAYOUTS = (CLIP,)
HEAD = "head"


def quick_gelu(x: jax.Array) -> jax.Array:
    """CLIP's own approximation of GELU."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": gelu,
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
}


class ImageTower(ViT):
    """The image tower of CLIP or SigLIP in evaluation mode.

    Takes (N, height, width, 3). Returns the embeddings, (N, features), or, after `compare_with`,
    the logits of some texts, (N, texts).

    Args:
        width: see `ViT`.
        depth: see `ViT`.
        heads: see `ViT`.
        patch: see `ViT`.
        projection: features of the embedding. None: those of the tokens, as in SigLIP.
        activation: a name in `ACTIVATIONS`.
        rngs: Flax's random number generators.
        **options: see `ViT`.

    References:
        Radford et al., CLIP, ICML 2021 (arXiv 2103.00020), figure 3; Zhai et al., "Sigmoid Loss
        for Language Image Pre-Training", ICCV 2023 (arXiv 2303.15343), algorithm 1.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        *,
        projection: int | None = None,
        activation: str = "quick_gelu",
        rngs: nnx.Rngs,
        **options: Any,
    ):
        options |= {"classes": projection, "activation": ACTIVATIONS[activation]}
        super().__init__(width, depth, heads, patch, **options, rngs=rngs)
        self.texts: nnx.Param[jax.Array] | None = nnx.data(None)
        self.scale = 1.0
        self.offset = 0.0

    def compare_with(
        self, texts: Float[np.ndarray, "texts features"], scale: float, offset: float
    ) -> None:
        """Make the tower return logits: `scale` times the cosine with each text, plus `offset`.

        Args:
            texts: the texts' embeddings, of unit length.
            scale: the learned scale.
            offset: the learned offset; 0 for CLIP, which has none.
        """
        self.texts = nnx.Param(jnp.asarray(texts.T))
        self.scale = scale
        self.offset = offset

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch features"]:
        """The embeddings, or the logits of the texts.

        Raises:
            ValueError: a side of the input is not a multiple of the patch.
        """
        x = super().__call__(x)
        if self.texts is None:
            return x
        x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
        return self.scale * (x @ self.texts[...]) + self.offset


class TextTower(nnx.Module):
    """The text tower of CLIP or SigLIP.

    Takes token ids (N, tokens) and the position in each row of the token whose features become the
    embedding, (N,); returns embeddings (N, features).

    Args:
        width: features of each token.
        depth: number of blocks.
        heads: attention heads per block.
        vocabulary: number of different tokens.
        length: maximum number of tokens in a text.
        features: features of the embedding.
        causal: whether tokens attend only to themselves and earlier tokens, as in CLIP.
        biased: whether the last linear layer has a bias, as in SigLIP.
        activation: a name in `ACTIVATIONS`.
        epsilon: constant added to variances.
        rngs: Flax's random number generators.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        vocabulary: int,
        length: int,
        features: int,
        causal: bool,
        biased: bool,
        activation: str,
        epsilon: float,
        rngs: nnx.Rngs,
    ):
        normal = partial(jax.random.normal, rngs.params())
        self.token_embed = nnx.Param(0.02 * normal((vocabulary, width)))
        self.positions = nnx.Param(0.02 * normal((length, width)))
        chosen = ACTIVATIONS[activation]
        block = partial(Block, width, heads, epsilon=epsilon, activation=chosen)
        self.blocks = nnx.List([block(rngs=rngs) for _ in range(depth)])
        self.norm = LayerNorm(width, epsilon=epsilon)
        self.head = Linear(width, features, bias=biased, rngs=rngs)
        self.causal = causal

    def __call__(
        self, tokens: Int[Array, "batch tokens"], places: Int[Array, " batch"]
    ) -> Float[Array, "batch features"]:
        """The embeddings."""
        length = tokens.shape[1]
        x = self.token_embed[...][tokens] + self.positions[...][None, :length]
        mask = jnp.tril(jnp.ones((length, length), bool)) if self.causal else None
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x[jnp.arange(len(x)), places]))

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the token and position embeddings."""
        return {"token_embed": self.token_embed.shape, "positions": self.positions.shape}

    def fill(self, tensors: Tensors) -> None:
        """Set the token and position embeddings."""
        self.token_embed = nnx.Param(jnp.asarray(tensors["token_embed"]))
        self.positions = nnx.Param(jnp.asarray(tensors["positions"]))


def image_base(patch: int = 32, *, rngs: nnx.Rngs, **options: Any) -> ImageTower:
    """The image tower with 768 features per token."""
    options.pop("classes", None)
    return ImageTower(768, 12, 12, patch, **options, rngs=rngs)


def image_large(patch: int = 14, *, rngs: nnx.Rngs, **options: Any) -> ImageTower:
    """The image tower with 1024 features per token."""
    options.pop("classes", None)
    return ImageTower(1024, 24, 16, patch, **options, rngs=rngs)
