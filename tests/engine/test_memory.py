"""What a program needs, estimated from its trace."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from scorecam_jax.engine.memory import estimate_temporaries, most_alive
from tests.compilers.networks import vit

BATCH, SIDE = 8, 64


class Residual(nn.Module):
    """Three blocks of two convolutions beside a shortcut."""

    @nn.compact
    def __call__(self, x):
        for width in (32, 64, 128):
            y = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(width, (3, 3))(x)))
            y = nn.BatchNorm(use_running_average=True)(nn.Conv(width, (3, 3))(y))
            x = nn.max_pool(nn.relu(y + nn.Conv(width, (1, 1))(x)), (2, 2), (2, 2))
        return nn.Dense(10)(x.mean((1, 2)))


class UNet(nn.Module):
    """Down twice and up again, with the shortcuts concatenated."""

    @nn.compact
    def __call__(self, x):
        a = nn.relu(nn.Conv(32, (3, 3))(x))
        b = nn.relu(nn.Conv(64, (3, 3), strides=2)(a))
        c = nn.relu(nn.Conv(128, (3, 3), strides=2)(b))
        c = jax.image.resize(c, (*b.shape[:3], 128), "linear")
        b = nn.relu(nn.Conv(64, (3, 3))(jnp.concatenate([b, c], -1)))
        b = jax.image.resize(b, (*a.shape[:3], 64), "linear")
        a = nn.relu(nn.Conv(32, (3, 3))(jnp.concatenate([a, b], -1)))
        return nn.Conv(5, (1, 1))(a).mean((1, 2))


def plain(module):
    images = jnp.zeros((1, SIDE, SIDE, 3))
    return jax.tree_util.Partial(module.apply, jax.jit(module.init)(jax.random.key(0), images))


NETWORKS = {
    "residual": lambda: plain(Residual()),
    "u-net": lambda: plain(UNet()),
    "transformer": vit,
}


@pytest.mark.usefixtures("cpus")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_estimate_is_within_a_factor_of_two_of_the_compilers_figure(name):
    def forward(network, images):
        found = network(images)
        return found[0] if isinstance(found, tuple) else found

    asked = NETWORKS[name](), jnp.zeros((BATCH, SIDE, SIDE, 3))
    estimated = estimate_temporaries(jax.make_jaxpr(forward)(*asked), "cpu")
    stated = jax.jit(forward).lower(*asked).compile().memory_analysis().temp_size_in_bytes
    assert 1 / 2 < estimated / stated < 2


def test_arrays_live_until_their_last_use():
    size = 100 * 100 * 4

    def alive(function):
        return most_alive(jax.make_jaxpr(function)(jnp.ones((100, 100))), "cpu")

    assert alive(lambda x: x @ x) == size
    assert alive(lambda x: jnp.tanh(x @ x + 1) @ x) == 2 * size
    assert alive(lambda x: ((x @ x) @ x) @ x) == 2 * size  # the first is gone

    def shortcut(x):
        y = x @ x
        return ((y @ x) @ x) + y

    assert alive(shortcut) == 3 * size


def test_the_branch_of_the_platform_counts():
    def by_platform(x):
        return jax.lax.platform_dependent(
            x, cpu=lambda x: jnp.tile(x, (5, 1)) @ x.T, default=lambda x: jnp.tile(x, (5, 1)) * 1.0
        )

    jaxpr = jax.make_jaxpr(by_platform)(jnp.ones((10, 10)))
    assert most_alive(jaxpr, "cpu") > most_alive(jaxpr, "cuda")
