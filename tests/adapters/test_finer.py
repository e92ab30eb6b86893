"""Several layers, chosen by rule."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.adapters import from_linen, list_layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 48, 3)), jnp.float32)


def shown(module, layers, inputs=IMAGES, **options):
    """The paths and grids of what `layers=n` shows."""
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    model = from_linen(module, variables, layers=layers, **options)
    listed = list_layers(model, inputs)
    activations = jax.eval_shape(model, inputs)[1]
    leaves = activations if isinstance(activations, tuple) else (activations,)
    paths = [layer.path for layer in listed if layer.shown]
    return paths, [leaf.shape[1:-1] for leaf in leaves]


class Pyramid(nn.Module):
    """Three grids; a shortcut around the second block, and a margin before the third."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2, name="first")(x))
        y = nn.Conv(4, (3, 3), strides=2, name="inner")(
            nn.relu(nn.Conv(4, (3, 3), name="beside")(x))
        )
        x = nn.relu(y + nn.Conv(4, (1, 1), strides=2, name="shortcut")(x))
        x = Margin(name="margin")(x)
        x = nn.relu(nn.Conv(6, (3, 3), strides=2, padding="VALID", name="last")(x))
        return nn.Dense(5)(x.mean((1, 2)))


class Margin(nn.Module):
    def __call__(self, x):
        return jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])


def test_the_last_cut_of_each_finer_grid_is_shown_from_the_finest_on():
    grids = [(16, 24), (8, 12), (4, 6)]
    paths = ["first:relu", "shortcut:add:relu", "last:relu"]
    for count in (1, 2, 3):
        found, sizes = shown(Pyramid(), count)
        assert sizes == grids[-count:]
        # `beside` is at the finest grid and later, but the shortcut leads past it; so is a margin.
        assert found == paths[-count:]


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm()(x))
        return x + nn.Dense(8)(nn.gelu(nn.Dense(8)(nn.LayerNorm()(x))))


class Transformer(nn.Module):
    """Six blocks on one grid; the stem has a finer one."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (2, 2), strides=2, name="stem")(x)
        x = nn.Conv(8, (4, 4), strides=4, name="patch")(x).reshape(len(x), -1, 8)
        for number in range(6):
            x = Block(name=f"block{number}")(x)
        return nn.Dense(5)(nn.LayerNorm(name="norm")(x).mean(1))


def test_blocks_of_a_transformer_are_at_even_distances():
    paths, grids = shown(Transformer(), 3)
    assert grids == [(4, 6)] * 3
    *blocks, last = paths
    numbers = [int(path.removeprefix("block")) for path in blocks]
    assert last == "norm"
    assert numbers == [2, 4]  # of block0 to block5, and the norm


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return Block(name="block")(x), None


class Looped(nn.Module):
    """Six blocks as one in a loop, whose weights are stacked."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (8, 8), strides=8, name="patch")(x).reshape(len(x), -1, 8)
        loop = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=6)
        x, _ = loop(name="loop")(x, None)
        return nn.Dense(5)(x.mean(1))


def test_runs_of_a_loop_are_chosen_as_blocks_are():
    variables = Looped().init(jax.random.key(0), IMAGES)
    found = from_linen(Looped(), variables, layers=3)(IMAGES)[1]
    named = ["loop[-5]", "loop[-3]", "loop[-1]"]
    expected = from_linen(Looped(), variables, named)(IMAGES)[1]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_more_layers_than_there_are_is_an_error_that_names_them():
    with pytest.raises(ValueError, match=r"layers=4, but .* only 3 grids, \['first:relu'"):
        shown_activations(Pyramid(), 4)


def shown_activations(module, layers):
    variables = jax.eval_shape(module.init, jax.random.key(0), IMAGES)
    return jax.eval_shape(from_linen(module, variables, layers=layers), IMAGES)


@pytest.mark.parametrize("layers", [0, -1, True])
def test_layers_is_a_number_of_layers(layers):
    with pytest.raises(ValueError, match="wanted how many layers to explain together"):
        shown_activations(Pyramid(), layers)
