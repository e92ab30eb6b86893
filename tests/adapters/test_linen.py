import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import check_model, score_cam
from scorecam_jax.adapters import from_linen, list_layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jnp.float32)


class Block(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(self.width, (3, 3), name="conv")(x))


class Head(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(5)(x.mean((1, 2)))


def model_of(module, layer, **options):
    variables = jax.jit(module.init)(jax.random.key(0), IMAGES)
    return from_linen(module, variables, layer, **options), variables


@pytest.mark.parametrize("transform", [nn.remat, nn.jit])
@pytest.mark.parametrize("layer", ["block", "block/conv"])
def test_layers_inside_remat_and_jit_are_read_and_edited(transform, layer):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Head(name="head")(transform(Block)(name="block")(x))

    model, variables = model_of(Network(), layer)
    expected = Network().apply(variables, IMAGES)  # traced without the adapter, and cached
    outputs, activations = model(IMAGES)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    block = Block() if layer == "block" else nn.Conv(4, (3, 3))
    params = variables["params"]["block"]
    params = params if layer == "block" else params["conv"]
    np.testing.assert_allclose(activations, block.apply({"params": params}, IMAGES), atol=1e-6)
    ablated, _ = model(IMAGES, edit=lambda a: -jnp.abs(a) if layer != "block" else 0 * a)
    bias = variables["params"]["head"]["Dense_0"]["bias"]
    np.testing.assert_allclose(ablated, jnp.tile(bias, (2, 1)), atol=1e-6)


def test_remat_is_still_there_for_the_backward_pass():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Head()(nn.remat(Block)(name="block")(x))

    model, _ = model_of(Network(), "block/conv")
    gradient = jax.make_jaxpr(jax.grad(lambda x: model(x, edit=lambda a: 2 * a)[0].sum()))(IMAGES)
    assert "remat" in str(gradient)


def test_a_layer_called_twice_is_an_error_that_says_so():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            block = Block(3, name="block")
            return Head()(block(block(x)))

    model, _ = model_of(Network(), "block")
    with pytest.raises(ValueError, match=r"'block' is called more than once .* 'block\[-1\]' for"):
        model(IMAGES)


def test_calling_super_is_one_call():
    class Doubled(nn.Conv):
        @nn.compact
        def __call__(self, x):
            return 2 * super().__call__(x)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Head()(Doubled(4, (3, 3), name="conv")(x))

    model, variables = model_of(Network(), "conv")
    plain = nn.Conv(4, (3, 3)).apply({"params": variables["params"]["conv"]}, IMAGES)
    np.testing.assert_allclose(model(IMAGES)[1], 2 * plain, atol=1e-6)


def test_the_first_array_of_a_tuple_is_shown():
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x, {"mean": x.mean()}

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x, _ = Pair(name="pair")(nn.Conv(4, (3, 3), name="conv")(x))
            return Head()(x)

    model, _ = model_of(Network(), "pair")
    conv, _ = model_of(Network(), "conv")
    np.testing.assert_array_equal(model(IMAGES)[1], conv(IMAGES)[1])
    np.testing.assert_allclose(
        model(IMAGES, edit=lambda a: a * 0)[0], conv(IMAGES, edit=lambda a: a * 0)[0], atol=1e-6
    )


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        class Step(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return nn.relu(nn.Conv(3, (3, 3), name="conv")(x)), None

        scan = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = scan(name="steps")(x, None)
        return Head(name="head")(x)


def test_layers_inside_scan_are_named_with_the_run():
    model, variables = model_of(Scanned(), "steps/conv")
    with pytest.raises(
        ValueError, match=r"'steps/conv' runs inside scan .* 'steps\[-1\]/conv' for"
    ):
        model(IMAGES)
    names = [layer.path for layer in list_layers(model, IMAGES)]
    assert "steps/conv" not in names
    assert "steps[-1]/conv" in names
    x, weights = IMAGES, variables["params"]["steps"]["conv"]
    for index in range(3):
        x = nn.Conv(3, (3, 3)).apply({"params": jax.tree.map(lambda w, i=index: w[i], weights)}, x)
        for name in (f"steps[{index}]/conv", f"steps/conv[{index - 3}]"):
            np.testing.assert_allclose(
                from_linen(Scanned(), variables, name)(IMAGES)[1], x, rtol=1e-5, atol=1e-5
            )
        x = nn.relu(x)
        name = f"steps[{index}]/conv:relu"
        np.testing.assert_allclose(
            from_linen(Scanned(), variables, name)(IMAGES)[1], x, rtol=1e-5, atol=1e-5
        )
    last = from_linen(Scanned(), variables)
    np.testing.assert_allclose(last(IMAGES)[1], x, rtol=1e-5, atol=1e-5)
    edited, _ = last(IMAGES, edit=lambda a: 2 * a)
    np.testing.assert_allclose(
        edited, Head().apply({"params": variables["params"]["head"]}, 2 * x), rtol=1e-5, atol=1e-5
    )


def test_arrays_among_the_arguments_are_not_constants():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, scale):
            return Head()(nn.Conv(4, (3, 3), name="conv")(x) * scale)

    variables = Network().init(jax.random.key(0), IMAGES, 1.0)
    run = jax.jit(lambda model, x: model(x)[0])
    one = run(from_linen(Network(), variables, "conv", jnp.array(1.0)), IMAGES)
    three = run(from_linen(Network(), variables, "conv", scale=jnp.array(3.0)), IMAGES)
    bias = variables["params"]["Head_0"]["Dense_0"]["bias"][None]
    np.testing.assert_allclose(three - bias, 3 * (one - bias), rtol=1e-5, atol=1e-6)


def test_outputs_can_be_any_pytree():
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(4, (3, 3), name="conv")(x)
            return {"map": x, "score": (x.mean((1, 2)), None)}

    model, _ = model_of(Network(), "conv")
    outputs, activations = model(IMAGES)
    assert jax.tree.structure(outputs) == jax.tree.structure({"map": 0, "score": (0, None)})
    np.testing.assert_array_equal(outputs["map"], activations)


def test_mutable_is_refused():
    with pytest.raises(TypeError, match="does not take mutable="):
        model_of(Block(), "conv", mutable=["batch_stats"])


class Trained(nn.Module):
    norm: bool

    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Conv(4, (3, 3))(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x).mean((1, 2)))
        return nn.Dense(5)(x)


@pytest.mark.parametrize(
    ("norm", "lacks", "message"),
    [
        (True, (), 'updates its variables, as in training .*"mean" in "/BatchNorm_0".*train=False'),
        (False, (), r"draws random numbers, as in training \(Dropout_0 .*\)\. .*train=False"),
        (True, ("batch_stats",), r"collections \['params'\].*\"batch_stats\" in .*Pass them all"),
    ],
)
@pytest.mark.parametrize("explain", [score_cam, check_model])
def test_a_network_that_cannot_predict_is_refused_with_what_to_pass(norm, lacks, message, explain):
    module = Trained(norm)
    variables = dict(module.init(jax.random.key(0), IMAGES, train=False))
    for name in lacks:
        del variables[name]
    with pytest.raises(ValueError, match=message):
        explain(from_linen(module, variables), IMAGES)
