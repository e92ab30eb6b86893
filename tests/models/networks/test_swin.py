"""A shifted window's attention against loops over places; logits are tested beside PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import list_layers
from scorecam_jax.adapters.nnx import from_nnx
from scorecam_jax.models.networks.swin import Block, Swin, swin_tiny

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("rows", "columns", "pads_first"), [(8, 8, True), (8, 4, False), (4, 4, False)]
)
def test_tokens_attend_within_windows_that_the_border_cuts(rows, columns, pads_first):
    width, heads, window = 6, 2, 4
    block = Block(width, heads, window, shifted=True, pads_first=pads_first, rngs=nnx.Rngs(0))
    table = RNG.normal(size=(49, heads)).astype(np.float32)
    block.attn.relative_position_bias_table = nnx.Param(jnp.asarray(table))
    x = RNG.normal(size=(1, rows, columns, width)).astype(np.float32)
    normed = np.asarray(jax.jit(block.norm1)(x))[0]
    qkv = normed @ np.asarray(block.attn.qkv.kernel[...]) + np.asarray(block.attn.qkv.bias[...])
    q, k, v = qkv.reshape(rows, columns, 3, heads, width // heads).transpose(2, 0, 1, 3, 4)
    # A grid that is one window high is not shifted along that side.
    steps = [window // 2 if side > window else 0 for side in (rows, columns)]
    cell = {
        (r, c): ((r - steps[0]) // window, (c - steps[1]) // window)
        for r in range(rows)
        for c in range(columns)
    }
    mixed = np.zeros((rows, columns, heads, width // heads))
    for here in cell:
        for head in range(heads):
            total = 0
            for there in cell:
                if cell[there] != cell[here]:
                    continue
                row, column = here[0] - there[0] + window - 1, here[1] - there[1] + window - 1
                bias = table[row * (2 * window - 1) + column, head]
                likeness = q[here][head] @ k[there][head] / np.sqrt(width // heads) + bias
                mixed[here][head] += np.exp(likeness) * v[there][head]
                total += np.exp(likeness)
            mixed[here][head] /= total
    y = x[0] + mixed.reshape(rows, columns, width) @ np.asarray(block.attn.proj.kernel[...])
    expected = y + np.asarray(jax.jit(lambda y: block.mlp(block.norm2(y)))(y.astype(np.float32)))
    np.testing.assert_allclose(jax.jit(block)(x)[0], expected, rtol=0, atol=1e-4)


def test_the_default_layer_is_the_last_norm():
    network = Swin(8, (2, 2), (2, 2), 4, classes=5, rngs=nnx.Rngs(0))
    layers = list_layers(from_nnx(network), jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
    default = next(layer for layer in layers if layer.default)
    assert (default.path, default.grid) == ("norm", (8, 8))


def test_sizes_are_the_published_ones():
    state = nnx.state(nnx.eval_shape(lambda: swin_tiny(rngs=nnx.Rngs(0))))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 28_288_354


def test_sides_are_multiples_of_the_patch():
    network = Swin(8, (1,), (2,), 4, classes=None, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"66x64.*multiples of its 4-pixel patch"):
        network(jnp.zeros((1, 66, 64, 3)))
