"""What networks take beside the image, in every framework."""

import collections

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import opti_cam, per_input, score_cam
from scorecam_jax.adapters import (
    from_equinox,
    from_haiku,
    from_keras,
    from_linen,
    from_nnx,
    list_layers,
)
from scorecam_jax.engine.tuning import _bytes_per_input

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.uniform(size=(3, 6, 5, 3)), jnp.float32)
META = jnp.asarray(3 * RNG.normal(size=(3, 4)), jnp.float32)
KERNEL = jnp.asarray(RNG.normal(size=(3, 3, 3, 8)), jnp.float32)
HEAD = jnp.asarray(RNG.normal(size=(12, 3)), jnp.float32)


def convolve(images):
    return jax.lax.conv_general_dilated(
        images, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def plain(images, meta):
    """The network that follows, written once more: (outputs, activations)."""
    activations = convolve(images)
    features = jnp.concatenate([jax.nn.relu(activations).mean((1, 2)), meta], -1)
    return features @ HEAD, activations


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, meta):
        x = nn.relu(nn.Conv(8, (3, 3), use_bias=False, name="conv")(x))
        x = jnp.concatenate([x.mean((1, 2)), meta], -1)
        return nn.Dense(3, use_bias=False, name="head")(x)

    def doubled(self, x, meta):
        return 2 * self(x, meta)

    def of_a_dict(self, inputs):
        return self(inputs["image"], inputs["meta"])


VARIABLES = {"params": {"conv": {"kernel": KERNEL}, "head": {"kernel": HEAD}}}


class Nnx(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 8, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
        self.head = nnx.Linear(12, 3, use_bias=False, rngs=nnx.Rngs(0))
        self.conv.kernel.set_value(KERNEL)
        self.head.kernel.set_value(HEAD)

    def __call__(self, x, meta):
        x = nnx.relu(self.conv(x))
        return self.head(jnp.concatenate([x.mean((1, 2)), meta], -1))

    def doubled(self, x, meta):
        return 2 * self(x, meta)


class Equinox(eqx.Module):
    conv: eqx.nn.Conv2d
    head: eqx.nn.Linear

    def __init__(self):
        key = jax.random.key(0)
        conv = eqx.nn.Conv2d(3, 8, 3, padding=1, use_bias=False, key=key)
        head = eqx.nn.Linear(12, 3, use_bias=False, key=key)
        self.conv = eqx.tree_at(lambda conv: conv.weight, conv, KERNEL.transpose(3, 2, 0, 1))
        self.head = eqx.tree_at(lambda head: head.weight, head, HEAD.T)

    def __call__(self, x, meta):
        x = jax.nn.relu(self.conv(x)).mean((1, 2))
        return self.head(jnp.concatenate([x, meta], -1))

    def doubled(self, x, meta):
        return 2 * self(x, meta)


def haiku_forward():
    def network(x, meta):
        x = jax.nn.relu(hk.Conv2D(8, 3, with_bias=False, name="conv")(x))
        return hk.Linear(3, False, name="head")(jnp.concatenate([x.mean((1, 2)), meta], -1))

    def doubled(x, meta):
        return 2 * network(x, meta)

    return network, {"network": network, "doubled": doubled}


PARAMS = {"conv": {"w": KERNEL}, "head": {"w": HEAD}}
HAIKU = hk.without_apply_rng(hk.multi_transform(haiku_forward))


class Keras(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")
        self.head = keras.layers.Dense(3, use_bias=False, name="head")

    def call(self, x, meta=None):
        x = keras.ops.relu(self.conv(x))
        return self.head(keras.ops.concatenate([keras.ops.mean(x, (1, 2)), meta], -1))


def from_keras_(*args, **kwargs):
    model = Keras()
    model(IMAGES, META)
    model.conv.set_weights([KERNEL])
    model.head.set_weights([HEAD])
    return from_keras(model, "conv", *args, **kwargs)


def from_haiku_(*args, method="network", **kwargs):
    return from_haiku(HAIKU, PARAMS, "conv", *args, method=method, **kwargs)


ADAPTERS = {
    "linen": lambda *args, **kwargs: from_linen(Linen(), VARIABLES, "conv", *args, **kwargs),
    "nnx": lambda *args, **kwargs: from_nnx(Nnx(), "conv", *args, **kwargs),
    "equinox": lambda *args, **kwargs: from_equinox(Equinox(), "conv", *args, **kwargs),
    "haiku": from_haiku_,
    "keras": from_keras_,
}


@pytest.fixture(params=ADAPTERS)
def adapt(request):
    with jax.numpy_rank_promotion("allow" if request.param == "keras" else "raise"):
        yield ADAPTERS[request.param]


@pytest.fixture
def linen():
    return ADAPTERS["linen"]


def channels_last(activations):
    return jnp.moveaxis(activations, 1, -1) if activations.shape[1] == 8 else activations


def images(model):
    """The images with the channels where the model has them."""
    return jnp.moveaxis(IMAGES, -1, model.channel_axis)


def one_by_one(method, **options):
    """Each image explained alone, by the plain network closed over its row."""
    found = []
    for i in range(len(IMAGES)):
        row = META[i]

        def model(x, edit=None, row=row):
            return plain(x, jnp.broadcast_to(row, (len(x), 4)))

        found.append(method(model, IMAGES[i : i + 1], **options))
    return jax.tree.map(lambda *values: np.concatenate(values), *found)


@pytest.fixture(scope="module")
def alone():
    return one_by_one(score_cam, targets=1)


DECLARATIONS = {
    "among the arguments": lambda adapt, meta: adapt(per_input(meta)),
    "among the keywords": lambda adapt, meta: adapt(meta=per_input(meta)),
    "in a list": lambda adapt, meta: adapt(per_input=[meta]),
    "in a dict": lambda adapt, meta: adapt(per_input={"meta": meta}),
}


@pytest.mark.parametrize("declare", DECLARATIONS.values(), ids=DECLARATIONS)
def test_the_network_gets_its_arguments(adapt, declare):
    model = declare(adapt, META)
    outputs, activations = model(images(model))
    expected, shown = plain(IMAGES, META)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(channels_last(activations), shown, rtol=1e-4, atol=1e-5)


def test_each_row_follows_its_image(adapt, alone):
    model = adapt(per_input(META))
    for batch_size in (None, 5):
        explanation = score_cam(model, images(model), 1, batch_size=batch_size)
        np.testing.assert_allclose(explanation.weights, alone.weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(explanation.heatmap, alone.heatmap, rtol=1e-4, atol=1e-4)


def test_another_pairing_is_another_explanation(linen, alone):
    other = score_cam(linen(per_input(META[::-1])), IMAGES, 1)
    assert np.abs(other.weights - alone.weights).max() > 0.01


@pytest.mark.parametrize("name", ["linen", "nnx", "equinox"])
def test_another_method_may_be_called(name):
    adapt = ADAPTERS[name]
    owner = {"linen": Linen, "nnx": Nnx, "equinox": Equinox}[name]
    expected = 2 * plain(IMAGES, META)[0]
    for method in ("doubled", owner.doubled, lambda network, x, meta: 2 * network(x, meta)):
        model = adapt(per_input(META), method=method)
        outputs, _ = model(images(model))
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_a_function_of_several_may_be_called():
    outputs, _ = from_haiku_(per_input(META), method="doubled")(IMAGES)
    np.testing.assert_allclose(outputs, 2 * plain(IMAGES, META)[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"method is None, wanted one of .*'doubled', 'network'"):
        from_haiku_(per_input(META), method=None)


def test_an_array_that_is_not_declared_is_an_error_that_says_how(adapt):
    for model in (adapt(META), adapt(meta=META)):
        with pytest.raises(ValueError, match=r"shape \(3, 4\).* scorecam_jax\.per_input\(array\)"):
            score_cam(model, images(model), 1, batch_size=4)


def test_a_table_that_all_images_share_is_closed_over(linen):
    table = jnp.ones((3, 4))
    model = linen(method=lambda network, x: network(x, jnp.tile(table[:1], (len(x), 1))))
    expected = score_cam(linen(per_input(table)), IMAGES, 1)
    np.testing.assert_allclose(
        score_cam(model, IMAGES, 1).weights, expected.weights, rtol=1e-4, atol=1e-6
    )


def test_raw_random_keys_are_no_rows():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3), name="conv")(x)
            return nn.Dropout(0.5, deterministic=True)(x).mean((1, 2))

    variables = Network().init(jax.random.key(0), IMAGES)
    keys = {"dropout": jax.random.PRNGKey(0)}
    score_cam(from_linen(Network(), variables, "conv", rngs=keys), IMAGES[:2], 0)


def test_rows_and_images_must_be_as_many(adapt):
    model = adapt(per_input(META[:2]))
    with pytest.raises(ValueError, match=r"per_input has shape \(2, 4\), .* 3 images"):
        model(IMAGES)


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (1.0, ValueError, "found a scalar"),
        ("text", TypeError, "found str"),
        ([], TypeError, "found list"),
    ],
)
def test_only_arrays_can_be_declared(value, error, match):
    with pytest.raises(error, match=match):
        per_input(value)


def test_the_list_or_dict_of_declarations(linen):
    with pytest.raises(TypeError, match=r"per_input= is a .*Array.*, wanted a list"):
        linen(per_input=META)
    with pytest.raises(TypeError, match=r"\['meta'\] are passed both"):
        linen(meta=META, per_input={"meta": META})


def test_a_declaration_may_hold_several_arrays(linen):
    def method(network, x, words):
        return network(x, words["ids"] * words["mask"])

    words = {"ids": META, "mask": np.ones((3, 4), np.float32)}
    model = linen(per_input(words), method=method)
    expected = score_cam(linen(per_input(META)), IMAGES, 1)
    explanation = score_cam(model, IMAGES, 1)
    np.testing.assert_allclose(explanation.weights, expected.weights, rtol=1e-5)


def test_declared_inputs_are_arguments_of_jit_and_differentiable(linen):
    traces = []

    @jax.jit
    def run(model, x):
        traces.append(x)
        return score_cam(model, x, 1).weights

    weights = run(linen(per_input(META)), IMAGES)
    other = run(linen(per_input(2 * META)), IMAGES)
    assert len(traces) == 1
    assert np.abs(weights - other).max() > 0.01

    def summed(scale, x):
        weights = score_cam(linen(per_input(META * scale)), x, 1, batch_size=4).weights
        return (weights**2).sum()

    slope = jax.jit(jax.grad(summed))(1.0, IMAGES)
    difference = (summed(1.01, IMAGES) - summed(0.99, IMAGES)) / 0.02
    np.testing.assert_allclose(slope, difference, rtol=0.02)


def test_declared_inputs_under_vmap(linen, alone):
    def explain(x, meta):
        return score_cam(linen(per_input(meta[None])), x[None], 1, batch_size=4).weights[0]

    weights = jax.jit(jax.vmap(explain))(IMAGES, META)
    np.testing.assert_allclose(weights, alone.weights, rtol=1e-4, atol=1e-6)


def test_declared_inputs_over_devices(linen, alone, cpus):
    kinds = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((8,), ("masks",), axis_types=kinds, devices=cpus)
    explanation = score_cam(linen(per_input(META)), IMAGES, 1, batch_size=1, mesh=mesh)
    np.testing.assert_allclose(explanation.weights, alone.weights, rtol=1e-4, atol=1e-6)


def test_declared_inputs_in_a_narrow_type(linen):
    outputs, _ = linen(per_input(META), dtype=jnp.bfloat16)(IMAGES)
    assert outputs.dtype == jnp.bfloat16


@pytest.mark.parametrize("targets", [1, np.array([[0, 1], [1, 2], [2, 0]])], ids=["one", "two"])
def test_opti_cam_repeats_rows_with_their_images(linen, targets):
    model = linen(per_input(META))
    explanation = opti_cam(model, IMAGES, targets, steps=3)
    for i in range(len(IMAGES)):
        target = targets if np.ndim(targets) == 0 else targets[i : i + 1]
        single = opti_cam(linen(per_input(META[i : i + 1])), IMAGES[i : i + 1], target, steps=3)
        np.testing.assert_allclose(explanation.weights[i], single.weights[0], rtol=1e-3)


def test_memory_is_estimated_with_as_many_rows_as_inputs(linen):
    assert _bytes_per_input(linen(per_input(META)), IMAGES, "cpu") > 0


def test_two_inputs_of_a_keras_model():
    image = keras.Input((6, 5, 3))
    meta = keras.Input((4,))
    hidden = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(image)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU(name="relu")(hidden))
    outputs = keras.layers.Dense(3, use_bias=False)(keras.layers.Concatenate()([pooled, meta]))
    model = keras.Model([image, meta], outputs)
    model.set_weights([KERNEL, HEAD])
    adapted = from_keras(model, "conv")
    with jax.numpy_rank_promotion("allow"):
        outputs, activations = adapted([IMAGES, META])
        assert [layer.path for layer in list_layers(adapted, [IMAGES, META])][:2] == [
            "conv",
            "relu",
        ]
    expected, shown = plain(IMAGES, META)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(activations, shown, rtol=1e-4, atol=1e-5)


CONTAINERS = {
    "list": lambda image, meta: [image, meta],
    "tuple": lambda image, meta: (image, meta),
    "dict": lambda image, meta: {"image": image, "meta": meta},
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_inputs_that_begin_with_the_image(linen, make, alone):
    def method(network, inputs):
        assert type(inputs) is type(make(0, 1))
        image, meta = inputs.values() if isinstance(inputs, dict) else inputs
        return network(image, meta)

    model = linen(method=method)
    np.testing.assert_allclose(
        model(make(IMAGES, META))[0], plain(IMAGES, META)[0], rtol=1e-4, atol=1e-5
    )
    explanation = score_cam(model, make(IMAGES, META), 1)
    np.testing.assert_allclose(explanation.weights, alone.weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(explanation.heatmap, alone.heatmap, rtol=1e-4, atol=1e-4)


def test_inputs_of_a_plain_function(alone):
    explanation = score_cam(lambda inputs: plain(*inputs), [IMAGES, META], 1)
    np.testing.assert_allclose(explanation.weights, alone.weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "error", "match"),
    [
        ([META, IMAGES], TypeError, r"the first of the inputs is float32\[3, 4\], wanted the im"),
        ({"ids": np.ones((3, 4), int), "image": IMAGES}, TypeError, r"'ids' is int64\[3, 4\]"),
        ([IMAGES, META[:2]], ValueError, r"shapes \(3, 6, 5, 3\) and \(2, 4\), wanted one row"),
        ([IMAGES[0], IMAGES[1]], ValueError, r"a list of 2 arrays .* jnp\.stack\(images\)"),
    ],
)
def test_other_inputs_are_errors_that_say_how(linen, inputs, error, match):
    with pytest.raises(error, match=match):
        linen()(inputs)
    with pytest.raises(error, match=match):
        score_cam(linen(), inputs, 1)


def test_an_ordered_dict_keeps_its_order_under_jit(linen, alone):
    def method(network, inputs):
        return network(inputs["z"], inputs["a"])

    inputs = collections.OrderedDict(z=IMAGES, a=META)
    weights = jax.jit(lambda inputs: score_cam(linen(method=method), inputs, 1).weights)(inputs)
    np.testing.assert_allclose(weights, alone.weights, rtol=1e-4, atol=1e-6)


def test_numbers_in_lists_are_one_input(linen):
    outputs, _ = linen(per_input(META))(np.asarray(IMAGES.tolist(), np.float32))
    explanation = score_cam(linen(per_input(META)), np.asarray(IMAGES, np.float32).tolist(), 1)
    np.testing.assert_allclose(outputs, explanation.outputs, rtol=1e-5)
