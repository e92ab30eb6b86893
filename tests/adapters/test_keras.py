import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

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
    outputs, activations = from_keras(keras.Sequential(layers))(IMAGES)
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
