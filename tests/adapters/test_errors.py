import dataclasses

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import Deviation, grad_cam, score_cam, scores
from scorecam_jax._internal.frameworks import check_instance
from scorecam_jax.adapters import from_equinox, from_haiku, from_keras, from_linen, from_nnx

IMAGES = jnp.ones((2, 8, 7, 3))


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Conv(8, (3, 3), name="conv")(x)).mean((1, 2)))


@pytest.fixture(scope="module")
def model():
    return from_linen(Network(), Network().init(jax.random.key(0), IMAGES), "conv")


def notes_of(error):
    return "\n".join(getattr(error, "__notes__", ()))


@pytest.mark.parametrize(
    ("inputs", "read", "tries"),
    [
        (IMAGES[..., 0], "2 of size 8 with 7 channels", "inputs[..., None]"),
        (IMAGES[0, ..., :2], "8 of size 7 with 2 channels", "inputs[None]"),
    ],
    ids=["no channel axis", "no batch axis"],
)
def test_an_error_of_the_network_notes_how_its_inputs_were_read(model, inputs, read, tries):
    for call in (lambda: model(inputs), lambda: score_cam(model, inputs, 0)):
        with pytest.raises(Exception, match="kernel") as caught:
            call()
        assert read in notes_of(caught.value)
        assert tries in notes_of(caught.value)
        assert notes_of(caught.value).count(read) == 1


def test_an_error_of_a_plain_function_notes_it_too():
    def plain(x):
        return x.mean((1, 2)) @ jnp.ones((3, 2)), x

    with pytest.raises(TypeError) as caught:
        score_cam(plain, IMAGES[..., 0], 0)
    assert "2 of size 8 with 7 channels" in notes_of(caught.value)


def test_channels_first():
    with pytest.raises(ZeroDivisionError) as caught:
        from_equinox(_raises())(jnp.ones((2, 8, 7)))
    assert "(batch, channels, *spatial): 2 of size 7 with 8 channels" in notes_of(caught.value)
    assert "inputs[:, None]" in notes_of(caught.value)


def _raises():
    import equinox as eqx

    class Raises(eqx.Module):
        def __call__(self, x):
            return x / (0 // 0)

    return Raises()


def test_this_packages_own_errors_have_no_such_note(model):
    with pytest.raises(ValueError, match="channels=99") as caught:
        score_cam(model, IMAGES, 0, channels=Deviation(99))
    assert "were read" not in notes_of(caught.value)


def test_an_image_without_a_batch_that_the_network_takes_is_an_error_that_says_so(model):
    with pytest.raises(ValueError, match=r"gave \(3,\), wanted .* \(8, \.\.\.\).*inputs\[None\]"):
        score_cam(model, IMAGES[0], 0)


@dataclasses.dataclass
class Plain:
    logits: jax.Array
    aux: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered:
    aux: jax.Array
    logits: jax.Array


SHAPES = {
    "dict": (lambda a, b: {"aux": b, "logits": a}, "'logits'"),
    "tuple": (lambda a, b: (b[:, None], a), "1"),
    "nested": (lambda a, b: {"heads": (b[:, None], a)}, "'heads', 1"),
    "dataclass": (lambda a, b: Registered(b, a), "'logits'"),
}


@pytest.mark.parametrize(("make", "path"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("score", [None, scores.sigmoid, scores.logits])
def test_several_outputs_are_named_with_what_to_write(make, path, score):
    def plain(x):
        return make(x.mean((1, 2)), x.max((1, 2))), x

    with pytest.raises(ValueError, match=r"\(2, 3\).*: choose one, score=scores\.select") as caught:
        score_cam(plain, IMAGES, 0, score=score)
    assert f"scores.select({path})" in str(caught.value)
    written = eval(f"scores.select({path})")
    expected = score_cam(lambda x: (x.mean((1, 2)), x), IMAGES, 0)
    np.testing.assert_array_equal(
        score_cam(plain, IMAGES, 0, score=written).heatmap, expected.heatmap
    )


def test_outputs_that_are_no_pytree_are_an_error_that_says_how_to_register_them():
    class Unregistered(nn.Module):
        @nn.compact
        def __call__(self, x):
            logits = Network(name="network")(x)
            return Plain(logits, logits)

    wanted = r"hold a Plain, .* jax\.tree_util\.register_dataclass\(Plain\)"
    variables = {"params": {"network": Network().init(jax.random.key(0), IMAGES)["params"]}}
    adapted = from_linen(Unregistered(), variables, "network/conv")
    with pytest.raises(TypeError, match=wanted):
        adapted(IMAGES)
    with pytest.raises(TypeError, match=wanted):
        score_cam(lambda x: (Plain(x.mean((1, 2)), x), x), IMAGES, 0)


def test_a_list_that_the_model_cannot_take_is_noted():
    def plain(x):
        return x.mean((1, 2)), x

    with pytest.raises(AttributeError) as caught:
        score_cam(plain, [IMAGES, IMAGES], 0)
    assert "a list of 2 inputs, the first of which is the image" in notes_of(caught.value)


def test_haiku_says_that_the_state_is_missing():
    transformed = hk.transform_with_state(lambda x: hk.BatchNorm(True, True, 0.9)(x, True))
    params, state = transformed.init(jax.random.key(0), IMAGES)
    with pytest.raises(TypeError, match=r"state= is missing: .*from_haiku\(\.\.\., state=state\)"):
        from_haiku(transformed, params)
    without = hk.transform(lambda x: hk.Conv2D(4, 3)(x))
    with pytest.raises(TypeError, match="leave it out"):
        from_haiku(without, without.init(jax.random.key(0), IMAGES), state=state)


class Training(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)
        self.seen = nnx.Intermediate(jnp.zeros(()))

    def __call__(self, x, train=True):
        x = nnx.relu(self.norm(self.conv(x), use_running_average=not train))
        self.seen[...] = x.mean()
        return self.head(self.drop(x, deterministic=not train).mean((1, 2)))


def test_nnx_in_training_mode_is_refused():
    network = Training()
    with pytest.raises(ValueError, match=r"state \(drop/.*, norm/mean.*\).*train=False"):
        score_cam(from_nnx(network), IMAGES, 0)
    from_nnx(network, None, train=False)(IMAGES)


def test_haiku_in_training_mode_is_refused():
    def forward(x, is_training):
        x = hk.BatchNorm(True, True, 0.9)(hk.Conv2D(8, 3)(x), is_training)
        return hk.Linear(3)(jax.nn.relu(x).mean((1, 2)))

    transformed = hk.transform_with_state(forward)
    params, state = transformed.init(jax.random.key(0), IMAGES, True)
    with pytest.raises(ValueError, match=r"batch_norm/.*is_training=False"):
        score_cam(from_haiku(transformed, params, None, state=state, is_training=True), IMAGES, 0)
    from_haiku(transformed, params, None, state=state, is_training=False)(IMAGES)


def test_keras_in_training_mode_is_refused():
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, use_bias=False)]
    network = keras.Sequential([*layers, *head])
    network.build(IMAGES.shape)
    with pytest.raises(ValueError, match=r"moving_mean.*is_training=False"):
        from_keras(network, None, training=True)(IMAGES)
    from_keras(network)(IMAGES)


def test_a_missing_batch_axis_is_named_where_the_network_takes_it():
    class Unbatched(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.relu(nn.Conv(8, (3, 3))(x)).mean((-3, -2)))

    unbatched = from_linen(Unbatched(), Unbatched().init(jax.random.key(0), IMAGES))
    with pytest.raises(ValueError, match=r"\(8, 7, 3\) were read as 8 signals.*inputs\[None\]"):
        score_cam(unbatched, IMAGES[0], 0)


HAIKU = hk.transform(lambda x: x.mean((1, 2)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: from_nnx(Training), r"from_nnx found the class Training.*Training\(\.\.\.\)"),
        (lambda: from_linen(Network, {}), "from_linen found the class Network, wanted an instance"),
        (lambda: from_linen(Training(), {}), r"Flax NNX model, a Training: use from_nnx\(model\)"),
        (lambda: from_nnx(Network()), r"Linen module, a Network: use from_linen\(module, variabl"),
        (lambda: from_equinox(Training()), r"use from_nnx"),
        (lambda: from_haiku(Network(), {}), r"use from_linen"),
        (lambda: from_keras(HAIKU), r"from_haiku\(transformed, params\)"),
        (lambda: score_cam(Training, IMAGES), r"class Training.*from_nnx\(Training\(\.\.\.\)\)"),
        (lambda: check_instance({"w": 1}), r"model is a dict, wanted .*from_linen"),
    ],
)
def test_what_is_no_network_of_the_framework_is_named(wrong, message):
    with pytest.raises(TypeError, match=message):
        wrong()


def test_options_of_other_types_are_refused_with_what_to_write(model):
    with pytest.raises(TypeError, match=r"score is 'softmax', .*jax\.nn\.softmax"):
        score_cam(model, IMAGES, 0, score="softmax")
    with pytest.raises(TypeError, match=r"targets are 'cat', .*labels\.index\(name\)"):
        score_cam(model, IMAGES, "cat")


def test_donated_arrays_are_named(model):
    gone = jnp.ones((2, 8, 7, 3))
    gone.delete()
    with pytest.raises(ValueError, match=r"inputs, of shape \(2, 8, 7, 3\), was deleted.*donate"):
        score_cam(model, gone, 0)
    weights = jax.tree.map(jnp.copy, model)
    jax.tree.leaves(weights)[0].delete()
    with pytest.raises(ValueError, match="an array of the model, of shape"):
        score_cam(weights, IMAGES, 0)


def test_an_edit_of_several_layers_is_one_for_each():
    variables = Network().init(jax.random.key(0), IMAGES)
    model = from_linen(Network(), variables, ["conv", "conv:relu"])
    with pytest.raises(TypeError, match="shows 2 layers, so edit takes a tuple of 2 functions"):
        model(IMAGES, edit=lambda a: a)


def test_a_fusion_without_that_name_is_refused():
    variables = Network().init(jax.random.key(0), IMAGES)
    model = from_linen(Network(), variables, ["conv", "conv:relu"])
    with pytest.raises(ValueError, match="fuse is 'sum', wanted one of 'product', 'geometric'"):
        grad_cam(model, IMAGES, 0, fuse="sum")
