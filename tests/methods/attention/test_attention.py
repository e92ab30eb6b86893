"""Methods that read attention, on a small transformer, against their formulas in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import diagnose, from_nnx, show_attention
from scorecam_jax.methods.attention.generic import generic_attention
from scorecam_jax.methods.attention.grad_eclip import grad_eclip
from scorecam_jax.methods.attention.legrad import legrad
from scorecam_jax.methods.attention.raw import raw_attention
from scorecam_jax.methods.attention.recipro import vit_recipro_cam
from scorecam_jax.methods.attention.rollout import attention_rollout
from tests import reference
from tests.adapters.test_tokens import GRID, IMAGES, embed, transformer
from tests.networks import images, network

TARGETS = (2, 0)
SHAPE = IMAGES.shape[1:3]


@functools.cache
def model(extra=1):
    return from_nnx(transformer(extra))


def forward(taps, extra=1):
    """A class token's network, from its modules: the logits, what blocks return, the matrices."""
    net = transformer(extra)
    tokens, streams, matrices = embed(extra), [], []
    for block, tap in zip(net.blocks, taps, strict=True):
        layer, x = block.attention, block.norm1(tokens)
        q, k, v = layer.query(x), layer.key(x), layer.value(x)
        shares = jax.nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", q, k) / q.shape[-1] ** 0.5) + tap
        tokens = tokens + layer.out(jnp.einsum("nhqk,nkhd->nqhd", shares, v))
        tokens = tokens + block.mlp(block.norm2(tokens))
        streams.append(tokens)
        matrices.append(shares)
    return net.head(net.norm(tokens)[:, 0]), streams, matrices


@functools.cache
def known(extra=1):
    """The matrices, and the gradients of the targets' logits by them, as NumPy's."""
    transformer(extra)  # made ahead of the trace
    count = extra + 6
    zeros = [jnp.zeros((2, 2, count, count))] * 2

    def score(taps):
        logits, _, matrices = forward(taps, extra)
        return sum(logits[row, target] for row, target in enumerate(TARGETS)), matrices

    slopes, matrices = jax.jit(jax.grad(score, has_aux=True))(zeros)
    return [np.asarray(a, float) for a in matrices], [np.asarray(a, float) for a in slopes]


def finished(tokens):
    """The heatmaps of what is told of all tokens."""
    grids = tokens[:, -6:].reshape(2, *GRID)
    return np.stack([reference.scale(reference.resize(grid, SHAPE)) for grid in grids])


@pytest.mark.parametrize("extra", [1, 3])
def test_rollout_multiplies_the_blocks(extra):
    matrices, _ = known(extra)
    total = np.eye(extra + 6)
    for matrix in matrices:
        mean = matrix.mean(1) + np.eye(extra + 6)
        total = mean / mean.sum(-1, keepdims=True) @ total
    found = attention_rollout(model(extra), IMAGES)
    np.testing.assert_allclose(found.heatmap, finished(total[:, 0]), atol=1e-4)
    np.testing.assert_allclose(found.activations[1], matrices[1], atol=1e-6)


@pytest.mark.parametrize("blocks", [None, 1])
def test_generic_attention_adds_what_speaks_for_the_target(blocks):
    matrices, slopes = known()
    total = np.broadcast_to(np.eye(7), (2, 7, 7))
    for matrix, slope in list(zip(matrices, slopes, strict=True))[-(blocks or 2) :]:
        total = total + np.maximum(matrix * slope, 0).mean(1) @ total
    found = generic_attention(model(), IMAGES, TARGETS, blocks=blocks)
    np.testing.assert_allclose(found.heatmap, finished(total[:, 0]), atol=1e-4)


def test_raw_attention_is_a_row_of_a_matrix():
    matrices, _ = known()
    found = raw_attention(model(), IMAGES, block=0, head=1)
    np.testing.assert_allclose(found.heatmap, finished(matrices[0][:, 1, 0]), atol=1e-4)
    np.testing.assert_allclose(found.peak, matrices[0][:, 1, 0, 1:].max(1), atol=1e-6)


@pytest.mark.parametrize("blocks", [1, 2])
def test_legrad_differentiates_what_the_head_makes_of_each_blocks_mean(blocks):
    net = transformer(1)

    @jax.jit
    def slopes(number):
        def score(tap):
            taps = [jnp.where(number == i, tap, 0) for i in range(2)]
            stream = jnp.stack(forward(taps)[1])[number]
            logits = net.head(net.norm(stream.mean(1)))
            return sum(logits[row, target] for row, target in enumerate(TARGETS))

        return jax.grad(score)(jnp.zeros((2, 2, 7, 7)))

    each = [np.maximum(np.asarray(slopes(n), float), 0).mean((1, 2)) for n in (0, 1)]
    found = legrad(model(), IMAGES, TARGETS, blocks=blocks)
    np.testing.assert_allclose(found.heatmap, finished(sum(each[-blocks:])), atol=1e-4)


@pytest.mark.parametrize("extra", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_grad_eclip_weighs_values_by_gradients_and_by_how_alike_keys_are(extra):
    net, last = transformer(extra), transformer(extra).blocks[1]
    x = last.norm1(net.blocks[0](embed(extra)))
    layer = last.attention
    q, k, v = (each(x) for each in (layer.query, layer.key, layer.value))
    matrices, _ = known(extra)

    # The gradient by what the attention makes for the class token, ahead of the projection.
    def score(made):
        tokens = net.blocks[0](embed(extra)) + layer.out(made)
        logits = net.head(net.norm(tokens + last.mlp(last.norm2(tokens)))[:, 0])
        return sum(logits[row, target] for row, target in enumerate(TARGETS))

    made = jnp.einsum("nhqk,nkhd->nqhd", jnp.asarray(matrices[1], jnp.float32), v)
    g = np.asarray(jax.jit(jax.grad(score))(made), float)[:, 0]
    tokens = np.zeros((2, extra + 6))
    for row in range(2):
        values = (g[row] * np.asarray(v[row, extra:], float)).sum((1, 2))
        query, keys = (np.asarray(a, float).reshape(len(a), -1) for a in (q[row], k[row, extra:]))
        cosines = keys @ query[0] / np.linalg.norm(keys, axis=1) / np.linalg.norm(query[0])
        tokens[row, extra:] = np.maximum(values * reference.scale(cosines), 0)
    found = grad_eclip(model(extra), IMAGES, TARGETS)
    np.testing.assert_allclose(found.heatmap, finished(tokens), atol=1e-4)
    np.testing.assert_allclose(found.peak, tokens.max(1), rtol=1e-3)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("gaussian", [False, True])
def test_vit_recipro_cam_scores_each_patch_in_the_last_block(residual, gaussian):
    net = transformer(1)
    block, stream = net.blocks[1], net.blocks[0](embed(1))
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16 if gaussian else np.eye(3)[1:2, 1:2]

    @jax.jit
    def last(shares):
        read = block.norm1(stream) * shares
        tokens = (stream * shares if residual else stream) + block.attention(read)
        return net.head(net.norm(tokens + block.mlp(block.norm2(tokens)))[:, 0])

    maps = np.zeros((2, *GRID))
    for place in reference.places(GRID):
        padded = np.zeros((GRID[0] + 2, GRID[1] + 2))
        reach = len(kernel) // 2
        rows, columns = (slice(1 + at - reach, 2 + at + reach) for at in place)
        padded[rows, columns] = kernel
        shares = np.concatenate([[1], padded[1:-1, 1:-1].ravel()])[None, :, None]
        logits = last(jnp.asarray(shares, jnp.float32))
        maps[:, *place] = [logits[row, target] for row, target in enumerate(TARGETS)]
    found = vit_recipro_cam(model(), IMAGES, TARGETS, residual=residual, gaussian=gaussian)
    np.testing.assert_allclose(found.scores.reshape(maps.shape), maps, atol=1e-4)
    np.testing.assert_allclose(found.heatmap, finished(maps.reshape(2, 6)), atol=2e-3)


def plain(x, edit=None):
    """A function that returns its two matrices, of a network that averages its tokens."""
    tokens = x.reshape(-1, 3, 4, 2, 4, 3).mean((2, 4)).reshape(-1, 6, 3)
    matrices = []
    for number in range(2):
        shares = jax.nn.softmax(3 * tokens @ tokens.swapaxes(1, 2))[:, None]
        if edit and edit[number]:
            shares = edit[number](shares)
        matrices.append(shares)
        tokens = tokens + (shares[:, 0] @ tokens)
    return tokens.mean(1), tuple(matrices)


def test_a_function_may_return_its_matrices():
    _, matrices = plain(IMAGES)
    first, last = (np.asarray(a[:, 0], float) for a in matrices)
    both = (last + np.eye(6)) / 2 @ (first + np.eye(6)) / 2
    found = attention_rollout(plain, IMAGES)
    np.testing.assert_allclose(found.heatmap, finished(both.mean(1)), atol=1e-4)
    assert generic_attention(plain, IMAGES, 1).heatmap.max() == 1
    with pytest.raises(ValueError, match=r"6 tokens form no grid \(5, 5\).*pass grid="):
        attention_rollout(plain, IMAGES, grid=(5, 5))
    with pytest.raises(TypeError, match="legrad needs a network made by an adapter"):
        legrad(plain, IMAGES)


def pooled(x, edit=None):
    """Tokens that a learned query pools after one block of attention."""
    tokens = x.reshape(-1, 3, 4, 2, 4, 3).mean((2, 4)).reshape(-1, 6, 3)
    shares = jax.nn.softmax(3 * tokens @ tokens.swapaxes(1, 2))[:, None]
    shares = edit[0](shares) if edit and edit[0] else shares
    tokens = tokens + shares[:, 0] @ tokens
    pool = jax.nn.softmax(tokens @ jnp.array([1.0, -2.0, 0.5]))[:, None, None]
    pool = edit[1](pool) if edit and edit[1] else pool
    return (pool[:, 0] @ tokens)[:, 0], (shares, pool)


def test_a_pools_learned_query_comes_last():
    _, (first, last) = pooled(IMAGES)
    first, last = np.asarray(first[:, 0], float), np.asarray(last[:, 0], float)
    found = attention_rollout(pooled, IMAGES)
    np.testing.assert_allclose(
        found.heatmap, finished((last @ (first + np.eye(6)))[:, 0]), atol=1e-4
    )

    def score(taps):
        edits = tuple(lambda a, tap=tap: a + tap for tap in taps)
        return sum(pooled(IMAGES, edits)[0][row, target] for row, target in enumerate(TARGETS))

    slopes = jax.grad(score)([jnp.zeros((2, 1, 6, 6)), jnp.zeros((2, 1, 1, 6))])
    lower, upper = (np.asarray(slope[:, 0], float) for slope in slopes)
    total = np.eye(6) + np.maximum(first * lower, 0)
    expected = (np.maximum(last * upper, 0) @ total)[:, 0]
    found = generic_attention(pooled, IMAGES, TARGETS)
    np.testing.assert_allclose(found.heatmap, finished(expected), atol=1e-4)


def test_a_rollout_that_collapses_is_told():
    def drawn(x, edit=None):
        """Attention of all pixels to those that are bright."""
        logits = jnp.broadcast_to(x.mean(-1).reshape(-1, 1, 1, 96), (len(x), 1, 96, 96))
        return x.mean((1, 2)), (jax.nn.softmax(logits),) * 2

    inputs = IMAGES.at[0, 5, 3].set(20.0)
    findings = diagnose(attention_rollout(drawn, inputs, grid=SHAPE))
    told = [finding for finding in findings if finding.kind == "collapsed"]
    assert [finding.input for finding in told] == [0]
    assert told[0].figure == 1
    assert "single token" in told[0].text


def test_several_targets_and_jit():
    both = jax.jit(generic_attention)(model(), IMAGES, jnp.asarray([[2, 1], [0, 1]]))
    alone = generic_attention(model(), IMAGES, TARGETS)
    assert both.heatmap.shape == (2, 2, *SHAPE)
    np.testing.assert_allclose(both.heatmap[:, 0], alone.heatmap, atol=1e-5)
    np.testing.assert_allclose(both.confidence[:, 0], alone.confidence, atol=1e-5)


def test_what_does_not_fit_is_told():
    with pytest.raises(TypeError, match=r"\(outputs, \(matrix, ...\)\)"):
        attention_rollout(network(), images())
    with pytest.raises(ValueError, match=r"blocks=3, wanted .* 1 to 2"):
        generic_attention(model(), IMAGES, blocks=3)
    with pytest.raises(ValueError, match=r"head=2, wanted .* 0 to 1"):
        raw_attention(model(), IMAGES, head=2)

    def merged(x, edit=None):
        return x.mean((1, 2)), (jnp.ones((2, 1, 6, 6)) / 6, jnp.ones((2, 1, 3, 3)) / 3)

    with pytest.raises(ValueError, match="no common grid"):
        attention_rollout(merged, IMAGES)


def test_the_model_shown_is_a_model_of_several_layers():
    shown = show_attention(model(), IMAGES)
    outputs, _ = shown(IMAGES)
    np.testing.assert_allclose(outputs, forward([0, 0])[0], atol=1e-5)
    edited, _ = shown(IMAGES, edit=(jnp.zeros_like, None))
    assert np.abs(edited - outputs).max() > 1e-3
