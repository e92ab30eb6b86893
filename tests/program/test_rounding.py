"""Products of rounded factors, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from scorecam_jax.program.rounding import round_factors

RNG = np.random.default_rng(0)
W, X = (jnp.asarray(RNG.normal(size=(6, 6)), jnp.float32) for _ in range(2))


def rounded(array):
    return np.asarray(jnp.asarray(array, jnp.bfloat16), np.float64)


def run(function, *args, weights=1):
    with jax.default_matmul_precision("default"):  # as the adapter traces
        traced = jax.make_jaxpr(function)(*args)
    return round_factors(traced.jaxpr, traced.consts, args, weights)


def exact(a, b):
    return np.asarray(a, np.float64) @ np.asarray(b, np.float64)


WRAPPED = {
    "as it is": lambda f: f,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "scan": lambda f: lambda w, x: lax.scan(lambda w, x: (w, f(w, x)), w, x[None])[1][0],
    "scan over weights": lambda f: (
        lambda w, x: lax.scan(lambda x, w: (f(w, x),) * 2, x, w[None])[0]
    ),
    "cond": lambda f: lambda w, x: lax.cond(x[0, 0] < 9, f, lambda w, x: x, w, x),
    "platform": lambda f: lambda w, x: lax.platform_dependent(w, x, cpu=f, default=f),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_factors_are_rounded_and_sums_are_not(wrap):
    (found,) = run(wrap(lambda w, x: x @ w), W, X)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact(rounded(X), rounded(W)), rtol=1e-5, atol=1e-6)
    assert np.abs(found - exact(X, W)).max() > 1e-3  # or the test could not tell


def test_convolutions_are_rounded_too():
    images, kernel = RNG.normal(size=(1, 5, 5, 2)), RNG.normal(size=(3, 3, 2, 4))

    def convolve(kernel, images):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=numbers)

    (found,) = run(convolve, jnp.asarray(kernel, jnp.float32), jnp.asarray(images, jnp.float32))
    windows = np.lib.stride_tricks.sliding_window_view(rounded(images), (3, 3), (1, 2))
    expected = np.einsum("nhwcij,ijck->nhwk", windows, rounded(kernel))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_products_of_weights_and_precise_ones_are_exact():
    def network(w, x):
        return w @ w, jnp.matmul(x, w, precision="highest"), w.astype(jnp.float16) @ w.T[0]

    for found, expected in zip(run(network, W, X), network(W, X), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_a_second_product_takes_the_sums_of_the_first():
    (found,) = run(lambda w, x: jnp.tanh(x @ w) @ w, W, X)
    first = np.tanh(exact(rounded(X), rounded(W)).astype(np.float32))
    np.testing.assert_allclose(found, exact(rounded(first), rounded(W)), rtol=2e-2, atol=2e-2)


def test_gradients_pass_through_rounded_products():
    def loss(x):
        return jnp.sum(run(lambda w, x: x @ w, W, x)[0])

    np.testing.assert_allclose(
        jax.grad(loss)(X), np.broadcast_to(rounded(W).sum(1), X.shape), rtol=1e-2, atol=1e-2
    )
