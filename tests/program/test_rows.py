"""Programs whose rows stay apart are told from those whose rows meet, by their trace alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.program.rows import find_fault

RNG = np.random.default_rng(0)
MIX, HEAD, SQUARE, ROWS, PLACES, KERNEL = (
    jnp.asarray(RNG.normal(size=shape), jnp.float32)
    for shape in [(3, 8), (8, 5), (3, 3), (3, 8), (8, 8, 8), (3, 3, 3, 8)]
)
BATCH = 3  # also the size of weights' axes
X = jnp.zeros((BATCH, 8, 8, 3))


def mixed(x):
    return jax.nn.relu(x @ MIX)


def pooled(x):
    return mixed(x).mean((1, 2))


def convolved(x):
    return jax.lax.conv_general_dilated(
        x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def attention(x):
    tokens = mixed(x).reshape(len(x), 64, 2, 4)
    shares = jax.nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", tokens, tokens))
    return jnp.einsum("nhqk,nkhd->nqhd", shares, tokens).reshape(len(x), 64, 8)


def windows(x):
    tokens = mixed(x).reshape(len(x), 2, 4, 2, 4, 8).transpose(0, 1, 3, 2, 4, 5)
    tokens = tokens.reshape(-1, 16, 8)
    return (jax.nn.softmax(tokens @ tokens.swapaxes(1, 2)) @ tokens).reshape(len(x), -1, 8)


def scanned(x):
    def step(carry, row):
        return jnp.tanh(carry + row @ SQUARE), None

    return jax.lax.scan(step, jnp.zeros((len(x), 3)), x.mean(1).swapaxes(0, 1))[0]


def noise(shape):
    return jax.random.bernoulli(jax.random.key(0), 0.5, shape)


APART = {
    "a product": lambda x: pooled(x) @ HEAD,
    "a bias as long as the batch": lambda x: (x + SQUARE[0]).mean((1, 2)) @ SQUARE,
    "embedded places": lambda x: (mixed(x) + PLACES).mean((1, 2)),
    "a convolution": lambda x: convolved(x).max((1, 2)),
    "statistics of an image": lambda x: jax.nn.standardize(convolved(x), (1, 2)).max((1, 2)),
    "attention": lambda x: (attention(x) + PLACES.reshape(1, 64, 8))[:, 0] @ HEAD,
    "windows that join the batch": lambda x: windows(x).mean(1) @ HEAD,
    "a scan": scanned,
    "stacking": lambda x: jnp.stack([mixed(x), mixed(2 * x)]).sum(0).max((1, 2)),
    "stacking behind": lambda x: jnp.stack([mixed(x), mixed(2 * x)], -1).max((1, 2, 4)),
    "tiling places": lambda x: jnp.tile(mixed(x), (1, 2, 1, 1)).max((1, 2)),
    "vmap": jax.vmap(lambda x: mixed(x).mean((0, 1)) @ HEAD),
    "resizing": lambda x: jax.image.resize(mixed(x), (len(x), 4, 4, 8), "linear").max((1, 2)),
    "noise that all share": lambda x: (mixed(x) * noise((8, 8, 8))).mean((1, 2)),
    "rows that are alike": lambda x: pooled(x) + jnp.broadcast_to(ROWS[:1], (len(x), 8)),
    "each row in its own order": lambda x: jax.vmap(lambda row: row[jnp.argsort(row)])(pooled(x)),
    "a table that is looked up": lambda x: HEAD[pooled(x).argmax(1)],
    "a branch": lambda x: jax.lax.cond(ROWS[0, 0] > 0, pooled, lambda x: 2 * pooled(x), x),
    "a checkpoint": jax.checkpoint(lambda x: pooled(x) @ HEAD),
    "a statistic that is not used": lambda x: pooled(x) * jnp.ones_like(x.mean(0)).shape[0],
}
MET = {
    "statistics of the batch": (lambda x: pooled(x) - pooled(x).mean(0), "mixed"),
    "the other order": (lambda x: pooled(x)[::-1], "mixed"),
    "tiling the batch": (lambda x: jnp.tile(mixed(x), (2, 1, 1, 1))[1:-2].max((1, 2)), "mixed"),
    "the batch in order": (lambda x: pooled(x)[jnp.argsort(pooled(x)[:, 0])], "mixed"),
    "a running sum": (lambda x: jnp.cumsum(pooled(x), 0), "mixed"),
    "dropout": (lambda x: (mixed(x) * noise((len(x), 8, 8, 8))).mean((1, 2)), "random"),
    "rows that are added": (lambda x: pooled(x) + ROWS, "constant"),
    "rows that are joined": (lambda x: jnp.concatenate([pooled(x), ROWS], 1), "constant"),
    "rows of a product": (lambda x: jnp.einsum("nc,nc->n", pooled(x), ROWS), "constant"),
    "rows that are looked up": (lambda x: pooled(x) + ROWS[jnp.arange(len(x))], "constant"),
    "a program outside": (
        lambda x: jax.pure_callback(np.asarray, jax.eval_shape(pooled, x), pooled(x)), "mixed",
    ),
}  # fmt: skip


def fault(function):
    with jax.numpy_rank_promotion("allow"):
        return find_fault(jax.make_jaxpr(function)(X), [True])


@pytest.mark.parametrize("name", APART)
def test_rows_that_stay_apart(name):
    assert fault(APART[name]) is None


@pytest.mark.parametrize("name", MET)
def test_rows_that_meet(name):
    function, kind = MET[name]
    assert fault(function).kind == kind


def test_what_is_declared_to_have_rows_may_be_joined():
    def network(rows, x):
        return jnp.concatenate([pooled(x), rows], 1)

    traced = jax.make_jaxpr(network)(ROWS, X)
    assert find_fault(traced, [True, True]) is None
    found = find_fault(traced, [False, True])
    assert (found.kind, found.shape) == ("constant", ROWS.shape)
