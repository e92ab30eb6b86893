import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from scorecam_jax.models.layers import Conv, Linear, from_checkpoint

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def make_conv(rngs, **options):
    return Conv(4, 6, 3, source=("conv", "norm"), rngs=rngs, **options)


def checkpoint():
    return {
        "conv.weight": normal(6, 4, 3, 3),
        "norm.weight": normal(6),
        "norm.bias": normal(6),
        "norm.running_mean": normal(6),
        "norm.running_var": RNG.uniform(0.1, 2, 6).astype(np.float32),
        "norm.num_batches_tracked": np.int64(7),
    }


@pytest.mark.parametrize("epsilon", [1e-5, 1e-1])
def test_a_folded_batch_norm_equals_one_that_follows(epsilon):
    """flax's own convolution and batch norm are the reference."""
    values = checkpoint()
    ours = from_checkpoint(functools.partial(make_conv, stride=2, epsilon=epsilon), values)
    conv = nnx.Conv(4, 6, (3, 3), strides=2, padding="SAME", use_bias=False, rngs=nnx.Rngs(0))
    conv.kernel[...] = jnp.asarray(values["conv.weight"].transpose(2, 3, 1, 0))
    norm = nnx.BatchNorm(6, epsilon=epsilon, use_running_average=True, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...], norm.mean[...], norm.var[...] = (
        jnp.asarray(values[f"norm.{key}"])
        for key in ("weight", "bias", "running_mean", "running_var")
    )
    x = jnp.asarray(normal(2, 9, 8, 4))
    with jax.numpy_rank_promotion("allow"):
        expected = norm(conv(x))
    np.testing.assert_allclose(ours(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", 1])
@pytest.mark.parametrize("shape", [(2, 7, 10), (1, 8, 4), (2, 28, 31)])
@pytest.mark.parametrize(
    ("channels", "depthwise"), [(6, True), (3, False), (8, False)], ids=["depthwise", "few", "many"]
)
def test_a_convolution_however_it_is_computed(size, stride, padding, shape, channels, depthwise):
    layer = Conv(
        channels, 6, size, stride=stride, padding=padding, depthwise=depthwise,
        source=("conv",), rngs=nnx.Rngs(0),
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
    layer = Conv(4, 6, 1, stride=stride, source=("conv",), rngs=nnx.Rngs(0))
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
    layer = Conv(4, 6, 3, source=("conv",), rngs=nnx.Rngs(0))
    x = jnp.asarray(normal(1, 5, 5, 4), jnp.bfloat16)
    assert layer(x).dtype == jnp.float32
    np.testing.assert_allclose(layer(x), layer(x.astype(jnp.float32)), rtol=1e-5, atol=1e-6)


def test_what_does_not_fit_is_named():
    values = checkpoint()
    del values["norm.bias"]
    values["conv.weight"] = values["conv.weight"][:, :2]
    values["fc.weight"] = normal(2, 2)
    with pytest.raises(ValueError, match=r"missing: norm\.bias") as caught:
        from_checkpoint(make_conv, values)
    message = str(caught.value)
    assert "left over: fc.weight" in message
    assert "conv.weight is (6, 2, 3, 3), wanted (6, 4, 3, 3)" in message
    assert "num_batches_tracked" not in message


def test_linear_layers_are_transposed():
    values = {"fc.weight": normal(3, 5), "fc.bias": normal(3)}
    layer = from_checkpoint(lambda rngs: Linear(5, 3, source=("fc",), rngs=rngs), values)
    x = normal(2, 5)
    expected = np.einsum("ni,oi->no", x, values["fc.weight"]) + values["fc.bias"]
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)
