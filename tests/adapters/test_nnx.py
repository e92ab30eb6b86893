import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax.adapters import from_nnx, list_layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jnp.float32)


def conv(inputs, outputs):
    return nnx.Conv(inputs, outputs, (3, 3), rngs=nnx.Rngs(outputs))


class Network(nnx.Module):
    """Runs `call(self, x)` on some layers, then the mean over space."""

    def __init__(self, call, **layers):
        self.call = call
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, x):
        return self.call(self, x).mean((1, 2))


def test_children_of_lists_have_their_index_as_name():
    blocks = nnx.List([conv(3, 4), conv(4, 5)])
    model = Network(lambda self, x: self.blocks[1](self.blocks[0](x)), blocks=blocks)
    expected = blocks[1](blocks[0](IMAGES))
    for layer in ("blocks/1", ("blocks", 1)):
        np.testing.assert_allclose(from_nnx(model, layer)(IMAGES)[1], expected, atol=1e-6)


def test_sequential():
    model = nnx.Sequential(conv(3, 4), nnx.relu, conv(4, 5), lambda x: x.mean((1, 2)))
    paths = [layer.path for layer in list_layers(from_nnx(model), IMAGES)]
    assert paths == ["layers/0", "layers/0:relu", "layers/2"]
    outputs, activations = from_nnx(model, "layers/2")(IMAGES)
    np.testing.assert_allclose(outputs, activations.mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("transform", [nnx.remat, nnx.jit])
def test_layers_inside_remat_and_jit_are_read_and_edited(transform):
    inside = transform(lambda layer, x: nnx.relu(layer(x)))
    model = Network(lambda self, x: inside(self.conv, x), conv=conv(3, 4))
    model(IMAGES)
    adapted = from_nnx(model, "conv")
    outputs, activations = adapted(IMAGES)
    np.testing.assert_allclose(outputs, model(IMAGES), atol=1e-6)
    np.testing.assert_allclose(activations, model.conv(IMAGES), atol=1e-6)
    assert not adapted(IMAGES, edit=lambda a: -jnp.abs(a))[0].any()
    gradient = jax.jit(jax.grad(lambda t: adapted(IMAGES, edit=lambda a: a + t)[0].sum()))(0.0)
    np.testing.assert_allclose(
        gradient, 2 * (activations > 0).mean((1, 2)).mean(0).sum(), rtol=1e-5
    )


@pytest.mark.parametrize("paths", [("conv",), ("conv", "other")])
def test_a_layer_called_twice_is_named_with_the_run(paths):
    def call(self, x):
        for name in (paths * 2)[:2]:
            x = getattr(self, name)(x)
        return x

    layer = conv(3, 3)
    model = Network(call, **dict.fromkeys(paths, layer))
    with pytest.raises(ValueError, match=r"'conv' is called more than once .* 'conv\[-1\]' for"):
        from_nnx(model, "conv")(IMAGES)
    first, second = layer(IMAGES), layer(layer(IMAGES))
    for name, expected in {"conv[0]": first, "conv[-2]": first, "conv[-1]": second}.items():
        np.testing.assert_allclose(from_nnx(model, name)(IMAGES)[1], expected, atol=1e-6)
    edited, _ = from_nnx(model, "conv[0]")(IMAGES, edit=lambda a: 2 * a)
    np.testing.assert_allclose(edited, layer(2 * first).mean((1, 2)), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"'conv\[2\]' is called more than once"):
        from_nnx(model, "conv[2]")(IMAGES)


def test_layers_inside_scan_are_named_with_the_run():
    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def make(rngs):
        return nnx.Conv(3, 3, (3, 3), rngs=rngs)

    scan = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    model = Network(lambda self, x: scan(x, self.steps), steps=make(nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"'steps' runs inside scan .* 'steps\[-1\]' for the last"):
        from_nnx(model, "steps")(IMAGES)

    def steps(x, count, edit=lambda x: x):
        for i in range(3):
            kernel, bias = (value[i] for value in (model.steps.kernel, model.steps.bias))
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = x + bias[None, None, None]
            x = edit(x) if i == count else x
            if i == count:
                shown = x
        return x, shown

    for index in range(-3, 3):
        adapted = from_nnx(model, f"steps[{index}]")
        outputs, activations = adapted(IMAGES)
        expected, shown = steps(IMAGES, index % 3)
        np.testing.assert_allclose(outputs, model(IMAGES), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(activations, shown, rtol=1e-5, atol=1e-5)
        edited, _ = adapted(IMAGES, edit=jnp.abs)
        expected, _ = steps(IMAGES, index % 3, jnp.abs)
        np.testing.assert_allclose(edited, expected.mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_the_first_array_of_a_tuple_is_shown():
    class Pair(nnx.Module):
        def __call__(self, x):
            return x, x.mean()

    model = Network(lambda self, x: self.pair(self.conv(x))[0], conv=conv(3, 4), pair=Pair())
    outputs, activations = from_nnx(model, "pair")(IMAGES, edit=lambda a: a * 0)
    assert not outputs.any()
    assert activations.shape == (2, 6, 5, 4)


def test_a_model_in_training_is_explained_as_it_predicts_and_left_training():
    layers = {
        "norm": nnx.BatchNorm(3, rngs=nnx.Rngs(0)),
        "dropout": nnx.Dropout(0.5, rngs=nnx.Rngs(1)),
    }
    model = Network(lambda self, x: self.dropout(self.norm(x)), **layers)
    outputs, _ = from_nnx(model, "norm")(IMAGES)
    statistics = np.sqrt(1 + 1e-5)  # mean 0 and variance 1, before any training
    np.testing.assert_allclose(outputs, IMAGES.mean((1, 2)) / statistics, rtol=1e-5, atol=1e-6)
    assert not model.dropout.deterministic
    assert not model.norm.use_running_average
    assert type(model.norm) is nnx.BatchNorm
    np.testing.assert_array_equal(model.norm.mean.get_value(), np.zeros(3))
    assert (model(IMAGES) != outputs).any()


def test_layers_may_be_used_by_their_attributes():
    def call(self, x):
        assert isinstance(self.conv, nnx.Conv)
        assert type(self.conv).__name__ == "Conv"
        return self.conv(x) + self.conv.bias[None, None, None]

    model = Network(call, conv=conv(3, 4))
    np.testing.assert_allclose(from_nnx(model, "conv")(IMAGES)[0], model(IMAGES), atol=1e-6)


def test_a_model_built_while_tracing_is_differentiable():
    def loss(bias):
        layer = conv(3, 4)
        layer.bias.set_value(bias)
        return from_nnx(Network(lambda self, x: self.conv(x), conv=layer), "conv")(IMAGES)[0].sum()

    np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.zeros(4)), np.full(4, 2.0), rtol=1e-5)
