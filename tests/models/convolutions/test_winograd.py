import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from scorecam_jax.models.convolutions import winograd
from scorecam_jax.models.layers import Conv
from scorecam_jax.program.hoist import hoist

pytestmark = pytest.mark.usefixtures("cpus")  # no other platform takes these products
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ours(x, kernel, tile):
    return winograd.convolve(x, winograd.transform_kernel(kernel, tile), tile)


def direct(x, kernel):
    """In double precision, by NumPy."""
    padded = np.pad(x.astype("f8"), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    return np.einsum("nhwcij,ijck->nhwk", windows, kernel.astype("f8"))


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("grid", [(8, 8), (7, 10), (9, 3), (1, 1), (5, 14)])
def test_equals_the_sum_that_defines_a_convolution(tile, grid):
    x, kernel = normal(2, *grid, 5), normal(3, 3, 5, 6)
    found = ours(jnp.asarray(x), jnp.asarray(kernel), tile)
    expected = direct(x, kernel)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("tile", "times"), [(2, 1.5), (4, 5)])
def test_rounding_stays_near_that_of_the_direct_sum(tile, times):
    x, kernel = np.maximum(normal(2, 28, 28, 64), 0), normal(3, 3, 64, 64)
    exact = direct(x, kernel)

    def error(found):
        return np.sqrt(np.mean((np.asarray(found) - exact) ** 2))

    summed = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = error(ours(jnp.asarray(x), jnp.asarray(kernel), tile))
    assert found < times * error(summed)
    assert found < 3e-6 * exact.std()


@pytest.mark.parametrize("tile", [2, 4])
def test_an_output_takes_four_or_two_and_a_quarter_products(tile):
    """What the compiler counts, for so many channels that the transforms hardly matter."""
    x, kernel = normal(1, 8, 8, 128), normal(3, 3, 128, 128)
    transformed = winograd.transform_kernel(jnp.asarray(kernel), tile)

    def flops(function, *args):
        return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]

    found = flops(lambda x, kernel: winograd.convolve(x, kernel, tile), x, transformed)
    products = 2 * 64 * 128 * 128 * (tile + 2) ** 2 / tile**2
    assert products <= found < 1.2 * products


def test_a_loop_around_a_layer_transforms_its_kernel_once():
    layer = Conv(5, 6, 3, rngs=nnx.Rngs(0))
    graph, state = nnx.split(layer)
    x = jnp.asarray(normal(2, 8, 8, 5))
    run = hoist(lambda state, x: nnx.merge(graph, state)(x), state, x)
    consts = [const.shape for const in jax.make_jaxpr(run)(x).consts]
    assert (16, 5, 6) in consts
    np.testing.assert_allclose(run(x), layer(x), rtol=1e-6)


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 1), ("tpu", 1)])
def test_accelerators_keep_their_own_convolutions(platform, convolutions):
    layer = Conv(5, 6, 3, rngs=nnx.Rngs(0))
    traced = jax.jit(lambda x: layer(x)).trace(jnp.zeros((2, 8, 8, 5)))
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution") == convolutions


@pytest.mark.parametrize("shape", [(1, 28, 28, 5), (6, 28, 28, 1000)])
def test_one_image_or_too_many_for_the_caches_are_summed_directly(shape):
    layer = Conv(shape[-1], 6, 3, rngs=nnx.Rngs(0))
    program = jax.jit(lambda x: layer(x)).lower(jnp.zeros(shape)).as_text()
    assert "stablehlo.convolution" in program
