"""Attention matrices, found in traced programs and compared with what the frameworks compute."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.nnx.nn.attention import dot_product_attention_weights

from scorecam_jax import (
    from_equinox,
    from_function,
    from_linen,
    from_nnx,
    grad_cam,
    list_layers,
    show_attention,
)
from tests import reference
from tests.adapters.test_tokens import GRID, IMAGES, embed, transformer

TOKENS = IMAGES.reshape(2, 96, 3)[:, :12]


def names(model, inputs=IMAGES):
    return [x.path for x in list_layers(model, inputs) if x.kind == "attention matrix"]


def shown(model, inputs=IMAGES):
    return show_attention(model, inputs)(inputs)[1]


def test_every_block_of_a_transformer_is_shown_as_its_framework_computes_it():
    network, model = transformer(1), from_nnx(transformer(1))
    assert names(model) == [f"blocks/{block}/attention/attention" for block in (0, 1)]
    tokens, matrices = embed(1), shown(model)
    for block, matrix in zip(network.blocks, matrices, strict=True):
        layer, x = block.attention, block.norm1(tokens)
        expected = dot_product_attention_weights(layer.query(x), layer.key(x))
        np.testing.assert_allclose(matrix, expected, atol=1e-6)
        tokens = block(tokens)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        layer = nn.MultiHeadDotProductAttention(3, qkv_features=6, name="mix")
        return x + layer(x, sow_weights=True), None


class Scanned(nn.Module):
    """Rematerialised blocks in a loop, whose weights are stacked."""

    depth: int = 3

    @nn.compact
    def __call__(self, image):
        x = image.reshape(len(image), -1, 3)
        axes = {"params": 0, "intermediates": 0}
        blocks = nn.scan(nn.remat(Block), variable_axes=axes, split_rngs={"params": True},
                         length=self.depth)  # fmt: skip
        return nn.Dense(4)(blocks(name="blocks")(x, None)[0].mean(1))


def test_every_run_of_rematerialised_blocks_in_a_loop():
    module = Scanned()
    variables = module.init(jax.random.key(0), IMAGES)
    model = from_linen(module, {"params": variables["params"]})
    _, state = module.apply({"params": variables["params"]}, IMAGES, mutable=["intermediates"])
    (expected,) = jax.tree.leaves(state["intermediates"])
    assert expected.shape == (3, 2, 3, 96, 96)
    for found, run in zip(shown(model), expected, strict=True):
        np.testing.assert_allclose(found, run, atol=1e-6)
    last = names(model)[-1]
    assert last == "blocks[-1]/mix/attention"
    again = from_linen(module, {"params": variables["params"]}, last.replace("[-1]", "[0]"))
    np.testing.assert_allclose(again(IMAGES)[1], expected[0], atol=1e-6)


def qkv(heads, width=4):
    """Weights of queries, keys and values with so many heads each."""
    rng = np.random.default_rng(1)
    return [jnp.asarray(rng.normal(size=(3, n, width)), jnp.float32) for n in heads]


def project(weights, images):
    x = images.reshape(len(images), -1, 3)[:, :12]
    return [jnp.einsum("ntc,chd->nthd", x, w) for w in weights]


def dot_product_attention(weights, images, **options):
    q, k, v = project(weights, images)
    return jax.nn.dot_product_attention(q, k, v, **options).mean((1, 2))


def expected_shares(weights, mask=True, scale=0.5):
    q, k, _ = (np.asarray(array, np.float64) for array in project(weights, IMAGES))
    k = k.repeat(q.shape[2] // k.shape[2], 2)
    logits = np.einsum("nqhd,nkhd->nhqk", q, k) * scale
    return reference.softmax(np.where(mask, logits, -1e30))


@pytest.mark.parametrize("heads", [(2, 2, 2), (4, 2, 2)])
@pytest.mark.parametrize("causal", [False, True])
def test_jax_nn_dot_product_attention(heads, causal):
    weights = qkv(heads)
    mask = np.tri(12, dtype=bool) if causal else True
    model = from_function(dot_product_attention, weights, None, is_causal=causal)
    (matrix,) = shown(model)
    np.testing.assert_allclose(matrix, expected_shares(weights, mask), atol=1e-6)


def by_hand(weights, images):
    """Shares by an inverse sum, keys first, one head a time, in a vmap over the images."""

    def one(image):
        q, k, v = (array[0] for array in project(weights, image[None]))
        powers = jnp.exp(jnp.einsum("qhd,khd->khq", q, k) / 2)
        shares = powers * (1 / (powers.sum(0, keepdims=True) + 1e-9))
        return jnp.einsum("khq,khd->dqh", shares.astype(jnp.float32), v).mean((1, 2))

    return jax.vmap(one)(images)


def test_attention_written_by_hand():
    weights = qkv((2, 2, 2))
    (matrix,) = shown(from_function(by_hand, weights))
    np.testing.assert_allclose(matrix, expected_shares(weights), atol=1e-6)


def windowed(weights, images):
    """Attention within three windows of four tokens, which are put into the batch."""
    q, k, v = (array.reshape(-1, 4, *array.shape[2:]) for array in project(weights, images))
    mixed = jax.nn.dot_product_attention(q, k, v).reshape(len(images), 12, *v.shape[2:])
    return mixed.mean((1, 2))


def windowed_apart(weights, images):
    """The same, with an axis of windows, after a choice by the platform."""
    images = jax.lax.platform_dependent(images, cpu=lambda x: x + 0, default=lambda x: x * 1)
    q, k, v = (
        array.reshape(-1, 3, 4, *array.shape[2:]).swapaxes(2, 3)
        for array in project(weights, images)
    )
    return (jax.nn.softmax(q @ k.swapaxes(3, 4) / 2) @ v).mean((1, 2, 3))


@pytest.mark.parametrize("function", [windowed, windowed_apart])
def test_windows_have_an_axis(function):
    weights = qkv((2, 2, 2))
    (matrix,) = shown(from_function(function, weights))
    whole = np.zeros((12, 12), bool)
    for window in range(3):
        whole[4 * window : 4 * window + 4, 4 * window : 4 * window + 4] = True
    expected = expected_shares(weights, whole).reshape(2, 2, 3, 4, 3, 4)
    for window in range(3):
        np.testing.assert_allclose(matrix[:, window], expected[:, :, window, :, window], atol=1e-6)


def test_equinox():
    eqx = pytest.importorskip("equinox")

    class Network(eqx.Module):
        mix: eqx.nn.MultiheadAttention

        def __call__(self, image):
            x = image.reshape(3, -1).T[:12]
            return self.mix(x, x, x).mean(0)

    network = Network(eqx.nn.MultiheadAttention(1, 3, key=jax.random.key(0)))
    images = jnp.moveaxis(IMAGES, -1, 1)
    model = from_equinox(network)
    assert names(model, images) == ["mix/attention"]
    q, k = (
        jax.vmap(jax.vmap(layer))(TOKENS)
        for layer in (network.mix.query_proj, network.mix.key_proj)
    )
    expected = reference.softmax(np.asarray(q @ k.swapaxes(1, 2), np.float64) / 3**0.5)
    np.testing.assert_allclose(shown(model, images)[0][:, 0], expected, atol=1e-6)


def no_attention(params, images):
    """A convolution's mean by a product, a mixture of experts, and a mixture of weights."""
    x = images.reshape(len(images), -1, 3)
    mean = jnp.full((1, 1, 96), 1 / 96) * jnp.ones((len(x), 1, 1))
    gates = jax.nn.softmax(x.mean(1))
    experts = jnp.stack([x.mean(1) @ params, x.max(1) @ params, x.min(1) @ params], 1)
    mixed = jnp.einsum("ne,nek->nk", gates, experts)
    halves = jax.nn.softmax(x, -1) / 2
    return (mean @ x)[:, 0] + mixed + gates @ params + (halves @ params).mean(1)


def test_what_is_no_attention():
    model = from_function(no_attention, jnp.eye(3))
    assert names(model) == []
    with pytest.raises(ValueError, match="no attention matrix"):
        show_attention(model, IMAGES)
    with pytest.raises(TypeError, match="cannot find the attention of a function"):
        show_attention(lambda x: (x, x), IMAGES)


def test_editing_and_gradients():
    name = "blocks/1/attention/attention"
    model = from_nnx(transformer(1), name)
    outputs, matrix = jax.jit(model)(IMAGES)
    np.testing.assert_allclose(model(IMAGES, edit=lambda a: a)[0], outputs, atol=1e-6)

    # A matrix that looks at itself alone passes the values of each token on.
    block, network = transformer(1).blocks[1], transformer(1)
    tokens = transformer(1).blocks[0](embed(1))
    values = block.attention.value(block.norm1(tokens))
    passed = tokens + block.attention.out(values)
    passed = passed + block.mlp(block.norm2(passed))
    expected = network.head(network.norm(passed)[:, 0])
    eye = jnp.broadcast_to(jnp.eye(7)[None, None], matrix.shape)
    np.testing.assert_allclose(model(IMAGES, edit=lambda _: eye)[0], expected, atol=1e-5)

    def score(tap):
        return model(IMAGES, edit=lambda a: a + tap)[0][0, 2]

    slopes = jax.jit(jax.grad(score))(jnp.zeros(matrix.shape))
    assert not slopes[1].any()
    assert not slopes[0, :, 1:].any()  # the head reads the class token alone
    step = jnp.zeros(matrix.shape).at[0, 1, 0, 3].set(1e-2)
    difference = float(score(step) - score(-step)) / 2e-2
    np.testing.assert_allclose(slopes[0, 1, 0, 3], difference, rtol=1e-2)


def test_names_are_told_and_maps_of_matrices_refused():
    model = from_nnx(transformer(1), "blocks/1/attention/attention")
    with pytest.raises(ValueError, match=r"is an attention matrix, .* attention_rollout"):
        grad_cam(model, IMAGES)
    with pytest.raises(ValueError, match="Nearest: 'blocks/1/attention/attention'"):
        from_nnx(transformer(1), "blocks/1/atention/attention")(IMAGES)


@pytest.mark.parametrize("extra", [1, 3])
def test_the_tokens_grid_and_which_queries_are_read(extra):
    model = show_attention(from_nnx(transformer(extra)), IMAGES)
    first, last = model.attended(IMAGES)
    numbers = jnp.arange(extra + 6.0)[None, :, None]
    expected = extra + np.arange(6).reshape(1, *GRID, 1)
    np.testing.assert_array_equal(first.keys.to_grid(numbers), expected)
    assert first.reads_all
    assert not last.reads_all


def by_matmul(weights, images):
    """Products whose axes of size 1 are dropped, those of a single image among them."""
    q, k, v = (array.swapaxes(1, 2) for array in project(weights, images))
    return (jax.nn.softmax(q @ k.swapaxes(2, 3) / 2) @ v).mean((1, 2))


@pytest.mark.parametrize("function", [dot_product_attention, by_hand, windowed, by_matmul])
def test_a_single_image(function):
    weights = qkv((2, 2, 2))
    (both,) = shown(from_function(function, weights))
    (one,) = shown(from_function(function, weights), IMAGES[1:])
    np.testing.assert_allclose(one, both[1:], atol=1e-6)


def test_a_single_image_in_a_transformer():
    model = from_nnx(transformer(1))
    for both, one in zip(shown(model), shown(model, IMAGES[1:]), strict=True):
        np.testing.assert_allclose(one, both[1:], atol=1e-6)
