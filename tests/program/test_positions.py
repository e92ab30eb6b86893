"""Where entries lie in the image: told by the program, compared with tokens cut by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.program.jaxprs import flatten
from scorecam_jax.program.positions import Positions, arrange, follow

HEIGHT, WIDTH = 8, 12


def arrangement(function, shape=(1, HEIGHT, WIDTH, 3)):
    """How what a function returns lies over its image."""
    jaxpr = jax.make_jaxpr(function)(jnp.zeros(shape)).jaxpr
    program = flatten(jaxpr)
    image = program.numbers[jaxpr.invars[0]]
    found = follow(program, image, shape, len(shape) - 1, set())
    assert isinstance(found, Positions)
    state = found.states.get(program.outputs[0])
    return state and arrange(state, shape[1:-1], found.seen)


def cells(image, side=2):
    """The mean of each patch of an image, by NumPy."""
    n, h, w, c = image.shape
    return image.reshape(n, h // side, side, w // side, side, c).mean((2, 4))


def pool(x):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def windows(x):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).swapaxes(2, 3).reshape(n, h * w, c)


def new(count):
    return jnp.full((1, count, 3), 7.0)


def row_by_row(x):
    return x.reshape(len(x), -1, x.shape[-1])


LAYERS = {
    "grid": pool,
    "rows": lambda x: row_by_row(pool(x)),
    "columns": lambda x: row_by_row(pool(x).swapaxes(1, 2)),
    "class token first": lambda x: jnp.concatenate([new(1), row_by_row(pool(x))], 1),
    "class token last": lambda x: jnp.concatenate([row_by_row(pool(x)), new(1)], 1),
    "registers and text": lambda x: jnp.concatenate([new(13), row_by_row(pool(x)), new(6)], 1),
    "registers dropped": lambda x: jnp.concatenate([new(3), row_by_row(pool(x))], 1)[:, 1:],
    "windows": lambda x: windows(pool(x)),
    "channels first": lambda x: jnp.moveaxis(pool(x), -1, 1),
    "width before height": lambda x: pool(x.swapaxes(1, 2)),
    "upside down": lambda x: pool(x[:, ::-1]),
    "turned by a quarter": lambda x: pool(jnp.rot90(x, axes=(1, 2))),
    "mirrored columns": lambda x: row_by_row(pool(x)[:, :, ::-1].swapaxes(1, 2)),
    "padded": lambda x: pool(jnp.pad(x, ((0, 0), (0, 4), (2, 2), (0, 0)))),
    "the largest of a stack": lambda x: jnp.stack([pool(x), pool(x) - 1], 1).max(1),
    "the largest of a stack behind": lambda x: jnp.stack([pool(x), pool(x) - 1], -1).max(-1),
    "an axis cut in two": lambda x: pool(x).reshape(1, 2, 2, 6, 3),
    "patches by reshape": lambda x: (
        x.reshape(1, 4, 2, 6, 2, 3).swapaxes(2, 3).reshape(1, 24, 4, 3).mean(2)
    ),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_activations_are_put_where_their_patches_are(kind):
    image = np.random.default_rng(0).normal(size=(1, HEIGHT, WIDTH, 3)).astype("float32")
    values = LAYERS[kind](jnp.asarray(image))
    found = arrangement(LAYERS[kind])
    assert found.box == ((0, HEIGHT), (0, WIDTH))
    grid = found.to_grid(values, -1)
    np.testing.assert_allclose(grid, cells(image), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.from_grid(grid, values, -1), values)
    first = found.to_grid(values, 1)
    np.testing.assert_array_equal(jnp.moveaxis(first, 1, -1), grid)
    changed = found.from_grid(grid + 1, values, -1)
    assert float((changed - values).sum()) == pytest.approx(grid.size, rel=1e-4)


@pytest.mark.parametrize(
    ("layer", "box"),
    [
        (lambda x: pool(x[:, 2:6]), ((2, 6), (0, 12))),
        (lambda x: pool(x[:, ::-1][:, :4, 4:]), ((4, 8), (4, 12))),
        (lambda x: pool(jnp.pad(x[:, 2:6], ((0, 0), (1, 1), (0, 0), (0, 0)))), ((2, 6), (0, 12))),
    ],
    ids=["crop", "crop of a mirrored image", "crop, padded again"],
)
def test_a_crop_lies_where_it_was_cut(layer, box):
    found = arrangement(layer)
    assert found.box == box


def test_strides_windows_and_padding_move_cells_as_they_do_in_one_dimension():
    # The centre of what each output reads, by a derivative.
    def layer(x):
        kernel = jnp.ones((5, 1, 1))
        options = {"dimension_numbers": ("NHC", "HIO", "NHC"), "rhs_dilation": (2,)}
        x = jax.lax.conv_general_dilated(x, kernel, (3,), ((1, 2),), **options)
        return jax.lax.conv_transpose(x, jnp.ones((2, 1, 1)), (2,), "VALID")

    shape = (1, 48, 1)
    found = arrangement(layer, shape)
    reads = jax.jacobian(lambda x: layer(x)[0, :, 0])(jnp.ones(shape))[:, 0, :, 0]
    centres = (reads * (jnp.arange(48) + 0.5)[None]).sum(1) / reads.sum(1)
    inside = slice(4, -4)
    (digit,) = found.axes[0].digits
    expected = digit.low + digit.step * (np.arange(digit.size) + 0.5)
    # Two outputs share an input of the transposed convolution.
    np.testing.assert_allclose(
        centres[inside].reshape(-1, 2).mean(1), expected[inside].reshape(-1, 2).mean(1), atol=1e-4
    )


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: x.mean(1),
        lambda x: row_by_row(x)[:, np.random.default_rng(0).permutation(96)],
        lambda x: jnp.einsum("nhwc,k->nkc", x, jnp.ones(96)),
        lambda x: x + x[:, ::-1],
        lambda x: jnp.concatenate([row_by_row(pool(x)), new(8)], 1).reshape(1, 4, 8, 3),
    ],
    ids=["pooled", "permuted", "latents", "folded", "cut up with other tokens"],
)
def test_what_is_not_followed_is_not_told(layer):
    assert arrangement(layer) is None


def test_a_loop_whose_body_moves_nothing_keeps_places():
    def layer(x):
        tokens = row_by_row(pool(x))
        return jax.lax.scan(lambda t, _: (jnp.tanh(t) + t, None), tokens, None, 3)[0]

    assert arrangement(layer).grid == (4, 6)

    def turning(x):
        return jax.lax.scan(lambda t, _: (t[:, ::-1], None), row_by_row(pool(x)), None, 3)[0]

    assert arrangement(turning) is None


def test_branches_tell_what_they_agree_on_and_those_of_platforms_what_the_general_one_tells():
    def turn(x):
        return x[:, ::-1]

    def either(x):
        return jax.lax.cond(x[0, 0, 0, 0] > 0, jnp.tanh, turn, pool(x))

    def alike(x):
        return jax.lax.cond(x[0, 0, 0, 0] > 0, jnp.tanh, jnp.sin, pool(x))

    def by_platform(x):
        return jax.lax.platform_dependent(pool(x), cpu=lambda x: x[:, [3, 2, 1, 0]], default=turn)

    assert arrangement(either) is None
    assert arrangement(alike).grid == (4, 6)
    assert arrangement(by_platform).mirrored == (0,)


def test_resizing_keeps_a_grid_over_its_image():
    found = arrangement(lambda x: jax.image.resize(pool(x), (1, 8, 3, 3), "linear"))
    assert found.grid == (8, 3)
    assert found.box == ((0, HEIGHT), (0, WIDTH))

    def mixed(weights, x):  # tokens are mixed by weights, which is no resizing
        return jnp.einsum("nhwc,hk->nkwc", x, weights)

    jaxpr = jax.make_jaxpr(mixed)(jnp.ones((8, 8)), jnp.ones((1, 8, 12, 3))).jaxpr
    program = flatten(jaxpr)
    weights, image = (program.numbers[variable] for variable in jaxpr.invars)
    positions = follow(program, image, (1, 8, 12, 3), 3, {weights})
    assert arrange(positions.states[program.outputs[0]], (8, 12), None) is None
