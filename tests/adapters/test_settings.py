"""Settings of networks that JAX cannot hash, in every framework that takes them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import score_cam
from scorecam_jax.adapters import from_equinox, from_haiku, from_linen, from_nnx, list_layers

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 6, 5, 3)), jnp.float32)
TRACES: list[str] = []


@dataclasses.dataclass
class Options:
    """As `PretrainedConfig` and `ConfigDict` are, not hashable."""

    scales: Any


class Config:
    def __init__(self, **values):
        self.__dict__.update(values)

    def __eq__(self, other):
        return self.__dict__ == other.__dict__


# Each holds a list of scales, and gives access to it.
SETTINGS: dict[str, tuple[Callable[[list], Any], Callable[[Any], list]]] = {
    "list": (lambda scales: scales, lambda setting: setting),
    "dict": (lambda scales: {"scales": scales}, lambda setting: setting["scales"]),
    "dataclass": (Options, lambda setting: setting.scales),
    "configuration": (lambda scales: Config(scales=scales), lambda setting: setting.scales),
}


class Linen(nn.Module):
    setting: Any
    read: Any

    @nn.compact
    def __call__(self, x):
        TRACES.append("linen")
        x = nn.relu(nn.Conv(4, (3, 3), name="conv")(x))
        for scale in self.read(self.setting):
            x = x * scale
        return nn.Dense(3)(x.mean((1, 2)))


def linen(setting, read):
    variables = jax.jit(Linen(setting, read).init)(jax.random.key(0), IMAGES)

    def adapt(setting):
        return from_linen(Linen(setting, read), variables, "conv")

    return adapt, lambda setting: Linen(setting, read).apply(variables, IMAGES)


class Nnx(nnx.Module):
    def __init__(self, setting, read):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
        self.dense = nnx.Linear(4, 3, rngs=nnx.Rngs(1))
        self.setting = nnx.static(setting)
        self.read = read

    def __call__(self, x):
        TRACES.append("nnx")
        x = nnx.relu(self.conv(x))
        for scale in self.read(self.setting):
            x = x * scale
        return self.dense(x.mean((1, 2)))


def nnx_(setting, read):
    return (
        lambda setting: from_nnx(Nnx(setting, read), "conv"),
        lambda setting: Nnx(setting, read)(IMAGES),
    )


class Equinox(eqx.Module):
    conv: eqx.nn.Conv2d
    setting: Any = eqx.field(static=True)
    read: Any = eqx.field(static=True)

    def __call__(self, x):
        TRACES.append("equinox")
        x = jax.nn.relu(self.conv(jnp.moveaxis(x, -1, 0)))
        for scale in self.read(self.setting):
            x = x * scale
        return x.mean((1, 2))


def equinox(setting, read):
    conv = eqx.nn.Conv2d(3, 4, 3, padding=1, key=jax.random.key(0))
    return (
        lambda setting: from_equinox(Equinox(conv, setting, read), "conv", channel_axis=-1),
        lambda setting: jax.vmap(Equinox(conv, setting, read))(IMAGES),
    )


def haiku(setting, read):
    def forward(x, setting):
        TRACES.append("haiku")
        x = jax.nn.relu(hk.Conv2D(4, 3, name="conv")(x))
        for scale in read(setting):
            x = x * scale
        return hk.Linear(3)(x.mean((1, 2)))

    transformed = hk.without_apply_rng(hk.transform(forward))
    params = transformed.init(jax.random.key(0), IMAGES, setting)
    return (
        lambda setting: from_haiku(transformed, params, "conv", setting),
        lambda setting: transformed.apply(params, IMAGES, setting),
    )


@pytest.fixture(params=SETTINGS)
def holder(request):
    return SETTINGS[request.param]


@pytest.fixture(params=[linen, nnx_, equinox, haiku])
def case(request, holder):
    make, read = holder
    adapt, predict = request.param(make([2.0]), read)
    return adapt, predict, make, read


def outputs_and_traces(run, *arguments):
    TRACES.clear()
    outputs = run(*arguments)[0]
    return outputs, len(TRACES)


def test_equal_settings_share_a_trace_and_changed_ones_do_not(case):
    adapt, predict, make, read = case
    setting = make([2.0])
    model = adapt(setting)
    runs = model, jax.jit(lambda model, x: model(x))
    for run in runs:
        arguments = (IMAGES,) if run is model else (model, IMAGES)
        outputs, traces = outputs_and_traces(run, *arguments)
        np.testing.assert_allclose(outputs, predict(setting), rtol=1e-5, atol=1e-6)
    again = adapt(make([2.0]))
    assert outputs_and_traces(again, IMAGES)[1] == 0
    assert outputs_and_traces(runs[1], again, IMAGES)[1] == 0

    read(setting).append(3.0)
    expected = predict(setting)
    assert np.abs(expected - predict(make([2.0]))).max() > 0.01
    for run in runs:
        arguments = (IMAGES,) if run is model else (model, IMAGES)
        outputs, _ = outputs_and_traces(run, *arguments)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    # The first trace is still there for the first settings, and no other is served for them.
    outputs, traces = outputs_and_traces(again, IMAGES)
    np.testing.assert_allclose(outputs, predict(make([2.0])), rtol=1e-5, atol=1e-6)
    assert traces == 0


def test_the_heatmap_is_that_of_hashable_settings():
    adapt, _ = linen([2.0, 3.0], list)
    by_list = score_cam(adapt([2.0, 3.0]), IMAGES, 0)
    TRACES.clear()
    again = score_cam(adapt([2.0, 3.0]), IMAGES, 0)
    assert not TRACES
    by_tuple = score_cam(adapt((2.0, 3.0)), IMAGES, 0)
    assert TRACES
    assert by_list.heatmap.max() == 1
    for other in (again, by_tuple):
        np.testing.assert_array_equal(by_list.heatmap, other.heatmap)
    layers = list_layers(adapt([2.0, 3.0]), IMAGES)
    assert [layer.path for layer in layers] == ["conv", "conv:relu", "Dense_0"]


def test_a_setting_that_a_haiku_function_is_closed_over_may_change():
    scales = [2.0]

    def forward(x):
        x = hk.Conv2D(4, 3, name="conv")(x)
        for scale in scales:
            x = x * scale
        return x.mean((1, 2))

    transformed = hk.transform(forward)
    params = transformed.init(jax.random.key(0), IMAGES)
    model = from_haiku(transformed, params, "conv")
    once = model(IMAGES)[0]
    scales.append(3.0)
    np.testing.assert_allclose(model(IMAGES)[0], 3 * once, rtol=1e-5)


def test_arguments_may_be_of_any_kind():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, options):
            return nn.Conv(4, (3, 3), name="conv")(x).mean((1, 2)) * options["scales"][0]

    variables = Network().init(jax.random.key(0), IMAGES, {"scales": [1.0]})
    options = {"scales": [1.0], "name": {"a", "b"}}
    model = from_linen(Network(), variables, "conv", options)
    once = model(IMAGES)[0]
    options["scales"][0] = 2.0
    np.testing.assert_allclose(model(IMAGES)[0], 2 * once, rtol=1e-5)
