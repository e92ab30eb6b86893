import functools
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from scorecam_jax.models.layers import Conv, gelu

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", 1])
@pytest.mark.parametrize(
    "shape",
    [
        (2, 7, 10),
        pytest.param((1, 8, 4), marks=pytest.mark.slow),
        pytest.param((2, 28, 31), marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("channels", "depthwise"), [(6, True), (3, False), (8, False)], ids=["depthwise", "few", "many"]
)
def test_a_convolution_however_it_is_computed(size, stride, padding, shape, channels, depthwise):
    layer = Conv(
        channels, 6, size, stride=stride, padding=padding, depthwise=depthwise,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    x = jnp.asarray(normal(*shape, channels))
    expected = functools.partial(
        lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=padding if padding == "SAME" else [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels if depthwise else 1,
    )
    np.testing.assert_allclose(layer(x), expected(x, layer.kernel[...]), rtol=1e-4, atol=1e-5)
    ours = jax.grad(lambda x: jnp.sum(layer(x) ** 2))(x)
    theirs = jax.grad(lambda x: jnp.sum(expected(x, layer.kernel[...]) ** 2))(x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    stacked = jax.vmap(layer)(jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(stacked[1], 2 * stacked[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_pointwise_convolution_is_a_convolution(stride):
    layer = Conv(4, 6, 1, stride=stride, rngs=nnx.Rngs(0))
    x = jnp.asarray(normal(2, 9, 8, 4))
    expected = lax.conv_general_dilated(
        x,
        layer.kernel[...],
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_inputs_meet_float32_weights():
    layer = Conv(4, 6, 3, rngs=nnx.Rngs(0))
    x = jnp.asarray(normal(1, 5, 5, 4), jnp.bfloat16)
    assert layer(x).dtype == jnp.float32
    np.testing.assert_allclose(layer(x), layer(x.astype(jnp.float32)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_groups_of_channels_are_convolved_by_themselves(size):
    layer = Conv(6, 4, size, padding=size // 2, groups=2, rngs=nnx.Rngs(0))
    x = jnp.asarray(normal(2, 5, 7, 6))
    halves = []
    for half in (0, 1):
        alone = Conv(3, 2, size, padding=size // 2, rngs=nnx.Rngs(0))
        alone.kernel = nnx.Param(layer.kernel[..., 2 * half : 2 * half + 2])
        halves.append(alone(x[..., 3 * half : 3 * half + 3]))
    np.testing.assert_allclose(layer(x), jnp.concatenate(halves, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gelu_is_x_times_the_normal_distribution(dtype):
    x = jnp.linspace(-6, 6, 97).astype(dtype)
    expected = [value * NormalDist().cdf(value) for value in np.asarray(x, float)]
    found = gelu(x)
    assert found.dtype == dtype
    rounding = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=rounding, atol=4e-7)
