"""Networks whose layer has a given number of channels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from scorecam_jax import from_linen, from_nnx
from scorecam_jax.models.networks.vit import ViT

SIDE = 64


class _Cnn(nn.Module):
    channels: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
        x = nn.relu(nn.Conv(self.channels, (3, 3), strides=2, name="features")(x))
        return nn.Dense(10)(x.mean((1, 2)))


class _Block(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x))
        y = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
        return x + nn.Dense(self.width)(y)


class _Vit(nn.Module):
    width: int
    depth: int

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (8, 8), strides=8)(x)
        x = x.reshape(len(x), -1, self.width)
        x = x + self.param("positions", nn.initializers.normal(), (1, *x.shape[1:]))
        for number in range(self.depth):
            x = _Block(self.width, name=f"block{number}")(x)
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))


def _shaped(module, layer, **options):
    images = jnp.zeros((1, SIDE, SIDE, 3))
    variables = jax.jit(module.init)(jax.random.key(0), images)
    return from_linen(module, variables, layer, **options)


def cnn(channels):
    """A network of two convolutions, on images of 64 × 64; the second is 16 × 16 × channels."""
    return _shaped(_Cnn(channels), "features")


def vit(width=64, depth=2):
    """A vision transformer on images of 64 × 64, whose tokens are 8 × 8."""
    return _shaped(_Vit(width, depth), f"block{depth - 2}", grid=(8, 8))


def bundled_vit(width=64, depth=2, dtype=jnp.bfloat16):
    """The bundled vision transformer on images of 64 × 64: a class token and 8 × 8 patches."""
    network = ViT(width, depth, 4, 8, classes=10, cells=(8, 8), rngs=nnx.Rngs(0))
    return from_nnx(network, f"blocks/{depth - 1}/norm1", dtype=dtype)
