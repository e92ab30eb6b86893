import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.adapters import from_equinox, list_layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6, 5)), jnp.float32)


def conv(inputs, outputs):
    return eqx.nn.Conv2d(inputs, outputs, 3, padding=1, key=jax.random.key(outputs))


class Network(eqx.Module):
    """Runs `call(self, x)` on some layers, then the mean over space."""

    layers: list
    call: object = eqx.field(static=True)

    def __call__(self, x, **options):
        return self.call(self, x, **options).mean((1, 2))


@pytest.mark.parametrize("transform", [eqx.filter_checkpoint, eqx.filter_jit])
def test_layers_inside_checkpoint_and_jit_are_read_and_edited(transform):
    inside = transform(lambda layer, x: jax.nn.relu(layer(x)))
    model = Network([conv(3, 4)], lambda self, x: inside(self.layers[0], x))
    expected = jax.vmap(model)(IMAGES)
    adapted = from_equinox(model, "layers/0")
    outputs, activations = adapted(IMAGES)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    np.testing.assert_allclose(activations, jax.vmap(model.layers[0])(IMAGES), atol=1e-6)
    assert not adapted(IMAGES, edit=lambda a: -jnp.abs(a))[0].any()


def test_a_layer_can_be_picked_by_a_function():
    model = Network([conv(3, 4), conv(4, 4)], lambda self, x: self.layers[1](self.layers[0](x)))
    by_function = from_equinox(model, lambda model: model.layers[0])
    by_path = from_equinox(model, ("layers", 0))
    np.testing.assert_array_equal(by_function(IMAGES)[1], by_path(IMAGES)[1])
    run = jax.jit(lambda model, x: model(x)[0])
    run(by_function, IMAGES)
    run(by_path, IMAGES)
    assert run._cache_size() == 1
    _, (first, last) = from_equinox(model, [lambda model: model.layers[0], "layers/1"])(IMAGES)
    np.testing.assert_allclose(last, jax.vmap(model.layers[1])(first), atol=1e-6)
    with pytest.raises(ValueError, match="layer picked list, wanted a callable submodule"):
        from_equinox(model, lambda model: model.layers)


def test_sequential_with_batch_norm_and_options():
    layers = lambda: eqx.nn.Sequential(  # noqa: E731
        [
            conv(3, 4),
            eqx.nn.BatchNorm(4, "batch", mode="ema"),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Dropout(0.5),
            eqx.nn.AdaptiveAvgPool2d(1),
        ]
    )
    model, state = eqx.nn.make_with_state(layers)()
    adapted = from_equinox(model, "layers/3", state=state, key=None)
    outputs, activations = adapted(IMAGES)
    kinds = [layer.kind for layer in list_layers(adapted, IMAGES)]
    assert kinds == ["Conv2d", "BatchNorm", "Lambda", "Dropout", "AdaptiveAvgPool2d"]
    assert activations.shape == (2, 4, 6, 5)
    np.testing.assert_allclose(outputs[..., 0, 0], activations.mean((2, 3)), rtol=1e-6)
    assert not model.layers[3].inference


def test_layers_mapped_over_tokens_are_read_as_tokens_and_as_their_grid():
    def call(self, x):
        tokens = x.reshape(x.shape[0], -1).T
        tokens = jax.vmap(self.layers[0])(tokens)
        return tokens.T.reshape(x.shape)

    norm = eqx.nn.LayerNorm(3)
    model = Network([norm], call)
    same = (lambda tokens: tokens, lambda tokens: tokens)
    outputs, tokens = from_equinox(model, "layers/0", grid=same)(IMAGES)
    expected = jax.vmap(jax.vmap(norm))(IMAGES.reshape(2, 3, -1).swapaxes(1, 2))
    np.testing.assert_allclose(tokens, expected, atol=1e-6)
    np.testing.assert_allclose(outputs, expected.mean(1), atol=1e-6)
    for grid in (None, (6, 5)):
        as_grid = from_equinox(model, "layers/0", grid=grid)(IMAGES)[1]
        np.testing.assert_allclose(as_grid, expected.swapaxes(1, 2).reshape(2, 3, 6, 5), atol=1e-6)
    with pytest.raises(ValueError, match="pass channel_axis=1 to the adapter"):
        from_equinox(model, "layers/0", grid=(6, 5), channel_axis=-1)(IMAGES)


def test_a_layer_called_twice_is_an_error_that_says_so():
    model = Network([conv(3, 3)], lambda self, x: self.layers[0](self.layers[0](x)))
    with pytest.raises(ValueError, match=r"'layers/0' is called more .* 'layers/0\[-1\]' for the"):
        from_equinox(model, "layers/0")(IMAGES)


def test_layers_may_be_used_by_their_attributes():
    def call(self, x):
        assert isinstance(self.layers[0], eqx.nn.Conv2d)
        return self.layers[0](x) + self.layers[0].bias

    model = Network([conv(3, 4)], call)
    outputs, _ = from_equinox(model, "layers/0")(IMAGES)
    np.testing.assert_allclose(outputs, jax.vmap(model)(IMAGES), atol=1e-6)


def test_volumes():
    volume = jnp.ones((2, 1, 4, 3, 5))
    layer = eqx.nn.Conv3d(1, 2, 3, padding=1, key=jax.random.key(0))
    outputs, activations = from_equinox(eqx.nn.Sequential([layer]), "layers/0")(volume)
    assert activations.shape == (2, 2, 4, 3, 5)
    np.testing.assert_array_equal(outputs, activations)
