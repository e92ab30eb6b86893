"""big_vision's files of ViT, against its network as Flax Linen has it."""

from functools import partial

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import models
from scorecam_jax.models.checkpoints.fill import from_checkpoint
from scorecam_jax.models.checkpoints.layout import layout_of
from scorecam_jax.models.networks import vit

RNG = np.random.default_rng(0)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(2)(y, y)
        y = MlpBlock()(nn.LayerNorm()(x))
        return x + y


class MlpBlock(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.Dense(128)(x))
        return nn.Dense(32)(x)


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        for n in range(2):
            x = Block(name=f"encoderblock_{n}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class Network(nn.Module):
    pool: str

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(32, (16, 16), (16, 16), padding="VALID", name="embedding")(x)
        x = x.reshape(len(x), -1, 32)
        x = x + self.param("pos_embedding", nn.initializers.normal(), (1, x.shape[1], 32))
        if self.pool == "tok":
            cls = self.param("cls", nn.initializers.normal(), (1, 1, 32))
            x = jnp.concatenate([jnp.tile(cls, (len(x), 1, 1)), x], 1)
        x = Encoder(name="Transformer")(x)
        return nn.Dense(7, name="head")(x[:, 0] if self.pool == "tok" else x.mean(1))


@pytest.mark.parametrize("pool", ["tok", "gap"])
def test_logits_are_those_of_the_original(tmp_path, pool):
    images = jnp.asarray(RNG.normal(size=(2, 64, 64, 3)), jnp.float32)
    original = Network(pool)
    with jax.numpy_rank_promotion("allow"):
        shapes = jax.eval_shape(original.init, jax.random.key(0), images)["params"]
        weights = jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(0, 0.3, leaf.shape)), shapes)
        expected = jax.jit(original.apply)({"params": weights}, images)
    flat = flax.traverse_util.flatten_dict(weights, sep="/")
    np.savez(tmp_path / "vit.npz", **{f"params/{name}": value for name, value in flat.items()})
    checkpoint = models.load_checkpoint(tmp_path / "vit.npz")
    found = vit.arguments(checkpoint, {})
    layout = layout_of(vit.LAYOUTS, checkpoint)
    assert layout.publisher == "big_vision"
    make = partial(vit.ViT, 32, 2, 2, 16, **found)
    network = from_checkpoint(
        lambda rngs: make(rngs=rngs), layout.converted(checkpoint), layout.names
    )
    logits = jax.jit(lambda x: network(x))(images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_is_read_and_a_bomb_is_not(tmp_path):
    values = jnp.arange(6, dtype=jnp.bfloat16)
    np.savez(tmp_path / "a.npz", x=np.asarray(values).view("V2"))
    found = models.load_checkpoint(tmp_path / "a.npz")["x"]
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found.astype(float), np.arange(6))
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros(2**22))
    with pytest.raises(ValueError, match="more than a hundredfold"):
        models.load_checkpoint(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=np.array({}, object))
    with pytest.raises(ValueError, match=r"c\.npz' is not a checkpoint"):
        models.load_checkpoint(tmp_path / "c.npz")
