"""Token activations as grids, on a small vision transformer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import score_cam
from scorecam_jax.adapters import from_nnx, list_layers

PATCH, WIDTH, CLASSES = 4, 8, 5
GRID = (3, 2)
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 8, 3)), jnp.float32)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm1 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, WIDTH, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.mlp = nnx.Sequential(
            nnx.Linear(WIDTH, 16, rngs=rngs), nnx.gelu, nnx.Linear(16, WIDTH, rngs=rngs)
        )

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nnx.Module):
    """A class token and registers before the patches; the head reads the class token."""

    def __init__(self, extra, rngs):
        size = (PATCH, PATCH)
        self.patches = nnx.Conv(3, WIDTH, size, strides=size, padding="VALID", rngs=rngs)
        self.extra = nnx.Param(jax.random.normal(rngs.params(), (1, extra, WIDTH)))
        count = extra + GRID[0] * GRID[1]
        self.positions = nnx.Param(jax.random.normal(rngs.params(), (1, count, WIDTH)))
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, WIDTH)
        extra = jnp.tile(self.extra[...], (x.shape[0], 1, 1))
        x = jnp.concatenate([extra, x], 1) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0])


@functools.cache
def transformer(extra):
    return nnx.jit(lambda: VisionTransformer(extra, nnx.Rngs(0)))()


def embed(extra):
    """The tokens that the first block takes."""
    model = transformer(extra)
    patches = model.patches(IMAGES).reshape(2, -1, WIDTH)
    return jnp.concatenate([jnp.tile(model.extra[...], (2, 1, 1)), patches], 1) + model.positions


@pytest.mark.parametrize("extra", [1, 3])
def test_the_last_tokens_are_the_grid_in_row_major_order(extra):
    tokens = transformer(extra).blocks[1].norm1(transformer(extra).blocks[0](embed(extra)))
    grid = from_nnx(transformer(extra), "blocks/1/norm1", grid=GRID)(IMAGES)[1]
    assert grid.shape == (2, *GRID, WIDTH)
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            expected = tokens[:, extra + row * GRID[1] + column]
            np.testing.assert_allclose(grid[:, row, column], expected, atol=1e-5)


def test_cells_are_where_their_patches_are():
    # Before any attention, a change of one patch changes its own cell alone.
    model = from_nnx(transformer(1), "blocks/0/norm1", grid=GRID)
    changed = IMAGES.at[:, PATCH : 2 * PATCH, :PATCH].add(1)
    difference = jnp.abs(model(changed)[1] - model(IMAGES)[1]).sum((0, 3))
    assert (np.argwhere(difference > 1e-6) == [[1, 0]]).all()


def test_edits_see_the_grid_and_leave_the_other_tokens_alone():
    model = from_nnx(transformer(3), "blocks/0", grid=GRID)
    same = (lambda tokens: tokens, lambda tokens: tokens)
    tokens = from_nnx(transformer(3), "blocks/0", grid=same)
    shapes = []

    def double(grid):
        shapes.append(grid.shape)
        return 2 * grid

    outputs, grid = jax.jit(lambda x: model(x, edit=double))(IMAGES)
    by_tokens = jax.jit(lambda x: tokens(x, edit=lambda t: t.at[:, 3:].multiply(2)))
    expected, edited = by_tokens(IMAGES)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    np.testing.assert_allclose(grid.reshape(2, -1, WIDTH), edited[:, 3:], atol=1e-6)
    assert set(shapes) == {(2, *GRID, WIDTH)}


def test_only_before_the_last_attention_do_patches_influence_the_class_token():
    layers = {layer.path: layer for layer in list_layers(from_nnx(transformer(1)), IMAGES)}
    for layer in ("blocks/0", "blocks/1/norm1"):
        model = from_nnx(transformer(1), layer)
        zeros = jnp.zeros((2, *GRID, WIDTH))
        gradient = jax.jit(jax.grad(lambda t, m=model: m(IMAGES, edit=lambda a: a + t)[0].sum()))
        assert gradient(zeros).any()
        assert layers[layer].alive
    for layer in ("blocks/1/attention", "blocks/1", "norm"):
        assert not layers[layer].alive
        with pytest.raises(ValueError, match=rf"do not depend on .* layer '{layer}' \(2, 7, 8\)"):
            from_nnx(transformer(1), layer, grid=GRID)(IMAGES)


@pytest.mark.parametrize("grid", [None, GRID])
def test_without_a_layer_the_last_with_living_tokens_is_shown(grid):
    model = from_nnx(transformer(3), grid=grid)
    expected = from_nnx(transformer(3), "blocks/0", grid=GRID)(IMAGES)[1]
    np.testing.assert_array_equal(model(IMAGES)[1], expected)


def test_layers_are_listed_by_their_tokens():
    layers = {layer.path: layer.shape for layer in list_layers(from_nnx(transformer(1)), IMAGES)}
    assert layers["patches"] == (2, *GRID, WIDTH)
    assert layers["blocks/1/norm1"] == (2, 7, WIDTH)
    grids = {layer.path: layer.grid for layer in list_layers(from_nnx(transformer(1)), IMAGES)}
    assert grids["patches"] == grids["blocks/0"] == GRID
    assert grids["head"] is None


def test_too_few_tokens_are_an_error_that_says_how_many():
    with pytest.raises(ValueError, match=r"\(2, 7, 8\), wanted .* at least 9 tokens for grid"):
        from_nnx(transformer(1), "blocks/0", grid=(3, 3))(IMAGES)
    with pytest.raises(ValueError, match=r"no layer returns .* tokens for grid=\(3, 3\)"):
        from_nnx(transformer(1), grid=(3, 3))(IMAGES)


def test_windows_by_a_pair_of_functions():
    class Windows(nnx.Module):
        def __call__(self, x):
            return x

    class Windowed(nnx.Module):
        """Cuts (N, 4, 6, C) into windows of 2 x 3 tokens, as (N * 4, 6, C)."""

        def __init__(self):
            self.windows = Windows()

        def __call__(self, x):
            x = x.reshape(-1, 2, 2, 2, 3, 3).swapaxes(2, 3).reshape(-1, 6, 3)
            return self.windows(x).reshape(-1, 4, 6, 3).mean((1, 2))

    def to_grid(windows):
        return windows.reshape(-1, 2, 2, 2, 3, 3).swapaxes(2, 3).reshape(-1, 4, 6, 3)

    def from_grid(grid):
        return grid.reshape(-1, 2, 2, 2, 3, 3).swapaxes(2, 3).reshape(-1, 6, 3)

    images = IMAGES[:, :4, :6]
    model = from_nnx(Windowed(), "windows", grid=(to_grid, from_grid))
    np.testing.assert_array_equal(model(images)[1], images)
    left = jax.jit(lambda x: model(x, edit=lambda a: a.at[:, :, 3:].set(0))[0])(images)
    np.testing.assert_allclose(left, images[:, :, :3].mean((1, 2)) / 2, atol=1e-6)
    with pytest.raises(ValueError, match="name one with layer="):
        from_nnx(Windowed(), grid=(to_grid, from_grid))(images)


def test_score_cam_of_a_transformer():
    explanation = score_cam(from_nnx(transformer(1), "blocks/1/norm1", grid=GRID), IMAGES)
    assert explanation.heatmap.shape == IMAGES.shape[:3]
    assert explanation.weights.shape == (2, WIDTH)
    assert np.isfinite(explanation.heatmap).all()
