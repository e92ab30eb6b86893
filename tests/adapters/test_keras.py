import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from scorecam_jax import score_cam
from scorecam_jax.adapters import from_keras, list_layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jnp.float32)


@pytest.fixture(autouse=True)
def _keras_broadcasts():
    with jax.numpy_rank_promotion("allow"):
        yield


def test_sequential():
    layers = [
        keras.Input((6, 5, 3)),
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.GlobalAveragePooling2D(name="pool"),
    ]
    outputs, activations = from_keras(keras.Sequential(layers), "conv")(IMAGES)
    assert activations.shape == (2, 4, 3, 4)
    np.testing.assert_allclose(outputs, activations.mean((1, 2)), atol=1e-6)


def test_subclassed_model_with_a_nested_layer():
    class Block(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.conv = keras.layers.Conv2D(4, 3, name="conv")

        def call(self, x):
            return keras.ops.relu(self.conv(x))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = Block(name="block")

        def call(self, x):
            x = self.block(x)
            return {"mean": keras.ops.mean(x, (1, 2)), "map": x}

    model = Model()
    expected = model(IMAGES)
    adapted = from_keras(model, "block/conv")
    outputs, activations = adapted(IMAGES)
    np.testing.assert_allclose(outputs["mean"], expected["mean"], atol=1e-6)
    np.testing.assert_allclose(outputs["map"], jax.nn.relu(activations), atol=1e-6)
    assert [layer.path for layer in list_layers(adapted, IMAGES)] == ["block/conv", "block"]


def test_the_graph_of_a_functional_model_is_left_alone():
    inputs = keras.Input((6, 5, 3))
    hidden = keras.layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    skip = keras.layers.Conv2D(4, 1, name="skip")(inputs)
    outputs = keras.layers.Add(name="add")([hidden, skip])
    model = keras.Model(inputs, outputs)
    adapted = from_keras(model, "conv")
    added, _ = adapted(IMAGES, edit=lambda a: a * 0)
    _, skipped = from_keras(model, "skip")(IMAGES)
    np.testing.assert_allclose(added, skipped, atol=1e-6)  # the way around the layer remains
    assert model.get_layer("conv").output is hidden
    assert type(model.get_layer("conv")) is keras.layers.Conv2D


def test_masks_pass_through_marked_layers():
    model = keras.Sequential(
        [
            keras.Input((4, 2)),
            keras.layers.Masking(name="masking"),
            keras.layers.GlobalAveragePooling1D(name="pool"),
        ]
    )
    signals = jnp.array([[[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_allclose(from_keras(model, "masking")(signals)[0], [[2.0, 3.0]], rtol=1e-6)


def test_a_layer_called_twice_is_an_error_that_says_so():
    conv = keras.layers.Conv2D(3, 3, padding="same", name="conv")
    inputs = keras.Input((6, 5, 3))
    model = keras.Model(inputs, conv(conv(inputs)))
    with pytest.raises(ValueError, match="'conv' is called more than once"):
        from_keras(model, "conv")(IMAGES)


def test_another_backend_is_an_error_that_says_what_to_set(monkeypatch):
    model = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Conv2D(4, 3)])
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(RuntimeError, match=r"'tensorflow', wanted 'jax'.*KERAS_BACKEND=jax"):
        from_keras(model)


def functional(**options):
    inputs = keras.Input((6, 5, 3))
    hidden = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(inputs)
    hidden = hidden + keras.layers.Conv2D(4, 3, padding="same", name="branch")(hidden)
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(hidden))
    return keras.Model(inputs, outputs, **options)


def test_operations_are_layers_too():
    model = functional()
    (name,) = [o.name for o in model.operations if not isinstance(o, keras.layers.Layer)]
    adapted = from_keras(model, name)
    layers = {layer.path: layer for layer in list_layers(adapted, IMAGES)}
    assert layers[name].kind == "Add"
    assert list(layers)[:3] == ["stem", "branch", name]
    outputs, activations = adapted(IMAGES)
    expected = keras.Model(model.input, model.get_layer("branch").output)(IMAGES)
    expected += keras.Model(model.input, model.get_layer("stem").output)(IMAGES)
    np.testing.assert_allclose(activations, expected, atol=1e-5)
    np.testing.assert_allclose(outputs, model(IMAGES), atol=1e-5)
    bias = adapted(IMAGES, edit=lambda a: a * 0)[0]
    np.testing.assert_allclose(bias, np.tile(model.layers[-1].bias.value, (2, 1)), atol=1e-6)
    assert all(type(o).__module__.startswith("keras.") for o in model.operations)


def test_operations_of_a_nested_model():
    inner = functional(name="inner")
    inputs = keras.Input((6, 5, 3))
    model = keras.Model(inputs, keras.layers.Activation("softmax")(inner(inputs)))
    (name,) = [o.name for o in inner.operations if not isinstance(o, keras.layers.Layer)]
    np.testing.assert_allclose(
        from_keras(model, f"inner/{name}", dtype="bfloat16")(IMAGES)[1],
        from_keras(inner, name, dtype="bfloat16")(IMAGES)[1],
    )


class Siblings(keras.Model):
    def __init__(self):
        super().__init__()
        self.one = keras.layers.Conv2D(4, 3, name="conv")
        self.other = keras.layers.Conv2D(5, 3, name="conv")
        self.head = keras.layers.Dense(3, name="head")

    def call(self, x):
        return self.head(keras.ops.mean(self.other(self.one(x)), (1, 2)))


class Parent(keras.Model):
    def __init__(self):
        super().__init__()
        self.siblings = Siblings()

    def call(self, x):
        return self.siblings(x)


def test_siblings_of_one_name_are_numbered_and_their_name_is_ambiguous():
    model = Siblings()
    model(IMAGES)
    paths = [layer.path for layer in list_layers(from_keras(model), IMAGES)]
    assert paths == ["conv (1 of 2)", "conv (2 of 2)", "head"]
    for path, layer in zip(paths, (model.one, model.other), strict=False):
        assert from_keras(model, path)(IMAGES)[1].shape[-1] == layer.filters
    with pytest.raises(
        ValueError, match=r"2 layers are called 'conv', .*ambiguous.* \['conv \(1 of 2\)', 'conv"
    ):
        from_keras(model, ["head", "conv"])
    parent = Parent()
    parent(IMAGES)
    name = parent.siblings.name
    with pytest.raises(ValueError, match=rf"2 layers are called '{name}/conv'"):
        from_keras(parent, (name, "conv"))


def test_a_model_is_read_anew_after_fit():
    model = functional()
    model.compile("sgd", "mse")
    adapted = from_keras(model, "stem")
    explain = jax.jit(lambda model, x: score_cam(model, x, 0).outputs)
    traces = []

    @jax.jit
    def run(model, x):
        traces.append(x)
        return model(x)[0]

    before = model(IMAGES)
    for outputs in (adapted(IMAGES)[0], run(adapted, IMAGES), explain(adapted, IMAGES)):
        np.testing.assert_allclose(outputs, before, atol=1e-5)
    model.fit(np.asarray(IMAGES), np.full((2, 3), 9.0, np.float32), verbose=0)
    after = model(IMAGES)
    assert np.abs(after - before).max() > 0.01
    for outputs in (adapted(IMAGES)[0], run(adapted, IMAGES), explain(adapted, IMAGES)):
        np.testing.assert_allclose(outputs, after, atol=1e-5)
    assert len(traces) == 1


def test_weights_can_be_mapped_over():
    model = functional()
    adapted = from_keras(model, "stem")
    zero = jax.tree.map(jnp.zeros_like, adapted)
    both = jax.tree.map(jnp.add, adapted, zero)
    np.testing.assert_array_equal(both(IMAGES)[0], adapted(IMAGES)[0])
    assert not zero(IMAGES)[0].any()


def test_further_arguments_reach_the_model():
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = keras.layers.Conv2D(4, 3, name="conv")

        def call(self, x, scale=1.0, training=None):
            assert not training
            return scale * keras.ops.mean(self.conv(x), (1, 2))

    model = Scaled()
    once = model(IMAGES)
    np.testing.assert_allclose(from_keras(model, "conv", 2.0)(IMAGES)[0], 2 * once, rtol=1e-5)
    np.testing.assert_allclose(from_keras(model, "conv", scale=3.0)(IMAGES)[0], 3 * once, rtol=1e-5)
