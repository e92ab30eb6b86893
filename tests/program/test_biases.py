"""Which arrays of a program are biases, and where they are added."""

import jax
import jax.numpy as jnp
import numpy as np

from scorecam_jax.program.biases import run_with_biases

WEIGHTS = [jnp.asarray(np.random.default_rng(i).normal(size=4), jnp.float32) for i in range(3)]
X = jnp.asarray(np.random.default_rng(9).normal(size=(2, 4)), jnp.float32)


def found(function, taps=None):
    """What a function of three vectors and of images returns, and its biases."""
    with jax.numpy_rank_promotion("allow"):
        traced = jax.make_jaxpr(function)(*WEIGHTS, X)
    (result,), biases = run_with_biases(traced.jaxpr, traced.consts, [*WEIGHTS, X], 3, taps)
    return result, biases


def rows(bias):
    return np.broadcast_to(bias, X.shape)


def test_what_is_added_is_a_bias_and_what_multiplies_is_none():
    _, biases = found(lambda a, b, c, x: jnp.tanh(a * x + b) * c)
    assert len(biases) == 1
    np.testing.assert_array_equal(biases[0], rows(WEIGHTS[1]))


def test_a_norm_has_one_bias():
    result, biases = found(lambda a, b, c, x: (x - a) * b / 2 + c, [jnp.ones_like(X)])
    a, b, c = WEIGHTS
    assert len(biases) == 1
    np.testing.assert_allclose(biases[0], rows(c - a * b / 2), rtol=1e-5)
    np.testing.assert_allclose(result, (X - a[None]) * b[None] / 2 + c[None] + 1, rtol=1e-4)


def test_a_difference_that_is_used_twice_is_a_bias_of_its_own():
    def function(a, b, c, x):
        moved = x - a
        return moved * b + moved

    result, biases = found(function, [jnp.ones_like(X)])
    np.testing.assert_array_equal(biases, [rows(-WEIGHTS[0])])
    np.testing.assert_allclose(
        result, (X - WEIGHTS[0][None] + 1) * (WEIGHTS[1][None] + 1), rtol=1e-4
    )


def test_numbers_and_other_weights_are_no_biases_and_calls_are_entered():
    def function(a, b, c, x):
        inner = jax.jit(lambda x: jax.checkpoint(lambda x: a - x)(x))
        return inner(x) * (1 + jnp.exp(x)) + (b + c).sum()

    _, biases = found(function)
    np.testing.assert_array_equal(biases, [rows(WEIGHTS[0])])
