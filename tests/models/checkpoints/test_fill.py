import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax.models.checkpoints.fill import from_checkpoint
from scorecam_jax.models.layers import Conv, Linear

RNG = np.random.default_rng(0)
NAMES = {r"^conv\.norm": "norm"}


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


class Network(nnx.Module):
    def __init__(self, rngs, epsilon=1e-5, **options):
        self.conv = Conv(4, 6, 3, epsilon=epsilon, rngs=rngs, **options)

    def __call__(self, x):
        return self.conv(x)


class Head(nnx.Module):
    def __init__(self, rngs):
        self.fc = Linear(5, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc(x)


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
    ours = from_checkpoint(functools.partial(Network, stride=2, epsilon=epsilon), values, NAMES)
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


def test_what_does_not_fit_is_named():
    values = checkpoint()
    del values["norm.bias"]
    values["conv.weight"] = values["conv.weight"][:, :2]
    values["fc.weight"] = normal(2, 2)
    with pytest.raises(ValueError, match=r"missing: norm\.bias") as caught:
        from_checkpoint(Network, values, NAMES)
    message = str(caught.value)
    assert "left over: fc.weight" in message
    assert "conv.weight is (6, 2, 3, 3), wanted (6, 4, 3, 3)" in message
    assert "num_batches_tracked" not in message


def test_linear_layers_are_transposed():
    values = {"fc.weight": normal(3, 5), "fc.bias": normal(3)}
    layer = from_checkpoint(Head, values, {})
    x = normal(2, 5)
    expected = np.einsum("ni,oi->no", x, values["fc.weight"]) + values["fc.bias"]
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("norm.running_mean", np.full(6, np.nan, np.float32), "norm.running_mean holds NaN"),
        ("norm.weight", np.full(6, 1e300), "norm.weight holds NaN, infinity or values beyond"),
        ("norm.running_var", -np.ones(6, np.float32), "norm.running_var holds negative"),
        ("norm.bias", np.ones(6, np.complex64), "norm.bias is complex64"),
    ],
)
def test_entries_that_are_no_weights_are_named(name, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_checkpoint(Network, {**checkpoint(), name: value}, NAMES)


def test_weights_that_overflow_when_folded_are_named():
    values = {**checkpoint(), "norm.weight": np.full(6, 3e38, np.float32)}
    values["norm.running_var"] = np.zeros(6, np.float32)
    with pytest.raises(ValueError, match="conv folded with its batch norm exceeds float32"):
        from_checkpoint(Network, values, NAMES)


def test_the_message_is_short_whatever_the_names_are():
    values = {f"{'x' * 10**6}{index}": np.ones(1) for index in range(9)}
    values["\x1b[2J\ud800"] = np.ones(1)
    with pytest.raises(ValueError, match="left over") as caught:
        from_checkpoint(Network, values, NAMES)
    message = str(caught.value)
    assert len(message) <= 500
    assert "and 7 more" in message
    assert message.isprintable()
