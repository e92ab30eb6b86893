"""What every adapter promises, tried on the same network in every framework."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import score_cam
from scorecam_jax.adapters import list_layers
from scorecam_jax.adapters.model import with_layers
from scorecam_jax.adapters.precision import with_bfloat16_products
from tests.adapters.networks import (
    BIAS,
    CLASSES,
    HEAD,
    NETWORKS,
    WIDTHS,
    reference_activations,
    reference_head,
)

HEIGHT, WIDTH = 6, 5
IMAGES = np.random.default_rng(1).normal(size=(2, HEIGHT, WIDTH, WIDTHS[0])).astype(np.float32)


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def network(request):
    # Keras's own layers broadcast vectors against batches.
    with jax.numpy_rank_promotion("allow" if request.param == "keras" else "raise"):
        yield NETWORKS[request.param]()


def test_outputs_are_the_networks_own(network):
    x = network.native(IMAGES)
    outputs, _ = network.adapt("last")(x)
    np.testing.assert_allclose(outputs, network.predict(x), atol=1e-6)
    expected = reference_head(reference_activations(IMAGES))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


def test_activations_are_the_layers_output(network):
    _, activations = network.adapt("last")(network.native(IMAGES))
    expected = reference_activations(IMAGES)
    np.testing.assert_allclose(network.channels_last(activations), expected, rtol=1e-5, atol=1e-5)


def test_a_path_can_be_a_tuple(network):
    x = network.native(IMAGES)
    _, by_string = network.adapt("last/conv")(x)
    _, by_tuple = network.adapt(("last", "conv"))(x)
    np.testing.assert_array_equal(by_string, by_tuple)
    assert (np.asarray(by_string) < 0).any()  # it is before the ReLU


@pytest.mark.parametrize("layer", ["first/conv", "last"])
def test_the_identity_edit_changes_nothing(network, layer):
    x, model = network.native(IMAGES), network.adapt(layer)
    edited = jax.jit(lambda x: model(x, edit=lambda a: a))(x)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), model(x), edited
    )


def test_a_tap_gives_the_gradient_by_the_activations(network):
    x, model = network.native(IMAGES), network.adapt("last")
    shape = model(x)[1].shape

    @jax.jit
    @jax.grad
    def gradient(tap):
        return model(x, edit=lambda a: a + tap)[0][:, 3].sum()

    # The logit is the mean over space times the dense weights.
    expected = np.broadcast_to(HEAD[:, 3] / (HEIGHT * WIDTH), (2, HEIGHT, WIDTH, WIDTHS[-1]))
    np.testing.assert_allclose(
        network.channels_last(gradient(jnp.zeros(shape))), expected, rtol=1e-5
    )


def test_a_tap_early_in_the_network_agrees_with_finite_differences(network):
    x, model = network.native(IMAGES), network.adapt("first/conv")
    direction = np.random.default_rng(3).normal(size=(2, HEIGHT, WIDTH, WIDTHS[1]))
    along = network.native(direction)

    @jax.jit
    @jax.grad
    def slope(step):
        return model(x, edit=lambda a: a + step * along)[0].sum()

    def reference(step):
        return reference_head(reference_activations(IMAGES, step * direction)).sum()

    expected = (reference(1e-6) - reference(-1e-6)) / 2e-6
    np.testing.assert_allclose(slope(0.0), expected, rtol=1e-4)


def test_ablation_runs_the_rest_without_a_channel(network):
    x = network.native(IMAGES)

    def ablate(a):
        return a.at[:, 2].set(0) if network.channel_axis == 1 else a.at[..., 2].set(0)

    outputs, activations = jax.jit(lambda x: network.adapt("last")(x, edit=ablate))(x)
    expected = reference_activations(IMAGES)
    expected[..., 2] = 0
    np.testing.assert_allclose(network.channels_last(activations), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs, reference_head(expected), rtol=1e-5, atol=1e-5)


def test_a_replacement_alone_decides_the_outputs(network):
    model = network.adapt("last")
    replacement = np.random.default_rng(2).normal(size=(2, HEIGHT, WIDTH, WIDTHS[-1]))
    expected = reference_head(replacement)
    resume = jax.jit(lambda x: model(x, edit=lambda _: network.native(replacement))[0])
    for images in (IMAGES, -IMAGES):
        outputs = resume(network.native(images))
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("cpus")
def test_resuming_drops_what_is_before_the_layer(network):
    x, model = network.native(IMAGES), network.adapt("last")
    activations = model(x)[1]

    def flops(function, *arguments):
        return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]

    whole = flops(lambda model, x: model(x)[0], model, x)
    head = flops(lambda model, x, a: model(x, edit=lambda _: a)[0], model, x, activations)
    assert head < whole / 20


def test_an_edit_of_another_shape_is_refused(network):
    with pytest.raises(ValueError, match=r"edit returned shape \(\), wanted the activations'"):
        network.adapt("last")(network.native(IMAGES), edit=lambda a: a.sum())


def test_an_edit_may_compute_in_a_wider_type(network):
    x, model = network.native(IMAGES), network.adapt("last", dtype=jnp.bfloat16)
    outputs, activations = jax.eval_shape(lambda x: model(x, edit=lambda a: a + jnp.float32(1)), x)
    assert outputs.dtype == activations.dtype == jnp.bfloat16


def test_it_is_an_argument_of_jit_and_compiles_once(network):
    x = network.native(IMAGES)
    traces = []

    @jax.jit
    def run(model, x):
        traces.append(x)
        return model(x)

    first, second = network.adapt("last"), network.adapt("last")
    outputs, _ = run(first, x)
    run(first, -x)
    run(second, x)
    assert len(traces) == 1
    np.testing.assert_allclose(outputs, first(x)[0], atol=1e-5)
    run(network.adapt("first"), x)
    assert len(traces) == 2


def test_vmap_over_inputs(network):
    x, model = network.native(IMAGES), network.adapt("last")
    outputs, activations = jax.vmap(lambda x: model(x[None]))(x)
    np.testing.assert_allclose(outputs[:, 0], model(x)[0], atol=1e-5)
    np.testing.assert_allclose(activations[:, 0], model(x)[1], atol=1e-5)


def test_vmap_over_edits(network):
    x, model = network.native(IMAGES), network.adapt("last")
    scales = jnp.array([0.0, 1.0])
    outputs = jax.jit(jax.vmap(lambda scale: model(x, edit=lambda a: a * scale)[0]))(scales)
    np.testing.assert_allclose(outputs[0], np.broadcast_to(BIAS, (2, CLASSES)), atol=1e-6)
    np.testing.assert_allclose(outputs[1], model(x)[0], atol=1e-5)


def test_gradients_by_the_weights(network):
    x, model = network.native(IMAGES), network.adapt("last")
    gradient = jax.jit(jax.grad(lambda model: model(x)[0].sum(), allow_int=True))(model)
    (dense,) = [
        leaf for leaf in jax.tree.leaves(gradient) if sorted(leaf.shape) == sorted(HEAD.shape)
    ]
    dense = dense if dense.shape == HEAD.shape else dense.T
    means = reference_activations(IMAGES).mean((1, 2)).sum(0)
    np.testing.assert_allclose(dense, np.tile(means[:, None], CLASSES), rtol=1e-4)


def test_it_runs_inside_scan(network):
    x, model = network.native(IMAGES), network.adapt("last")
    _, outputs = jax.lax.scan(lambda carry, x: (carry, model(x[None])[0][0]), None, x)
    np.testing.assert_allclose(outputs, model(x)[0], atol=1e-5)


def test_the_users_model_is_left_as_it_was(network):
    def snapshot():
        rest, leaves = jax.tree.flatten(network.state())[::-1]
        arrays = [np.asarray(leaf).tobytes() for leaf in leaves if hasattr(leaf, "dtype")]
        return rest, arrays, [leaf for leaf in leaves if not hasattr(leaf, "dtype")]

    before, x = snapshot(), network.native(IMAGES)
    outputs = network.predict(x)
    model = network.adapt("last")
    model(x)
    jax.eval_shape(lambda x: model(x, edit=jnp.zeros_like), x)
    list_layers(model, x)
    with pytest.raises(ValueError, match="no layer"):
        network.adapt("nothing")(x)
    with pytest.raises(ZeroDivisionError):
        model(x, edit=lambda a: a / (0 // 0))
    assert snapshot() == before
    np.testing.assert_array_equal(network.predict(x), outputs)


def test_layers_are_listed_in_the_order_in_which_they_finish(network):
    x = network.native(IMAGES)
    layers = {layer.path: layer for layer in list_layers(network.adapt(None), x)}
    expected = ["first/conv", "first/norm", "first", "last/conv", "last/norm", "last", "head"]
    assert [path for path in layers if path in expected] == expected
    assert layers["last"].shape == network.native(np.zeros((2, HEIGHT, WIDTH, WIDTHS[-1]))).shape
    assert layers["head"].shape == (2, CLASSES)
    assert layers["first/conv"].kind.lower().startswith("conv")
    shapes_only = jax.ShapeDtypeStruct(x.shape, x.dtype)
    assert list_layers(network.adapt("last"), shapes_only) == list(layers.values())


def test_no_layer_means_the_last_with_a_spatial_grid(network):
    x = network.native(IMAGES)
    np.testing.assert_array_equal(network.adapt(None)(x)[1], network.adapt("last")(x)[1])


def test_without_any_grid_the_error_lists_the_layers(network):
    with pytest.raises(ValueError, match=r"no layer returns .*grid=.*'head' \(2, 5\): no grid"):
        network.adapt(None)(network.native(IMAGES[:, :1, :1]))


def test_an_unknown_layer_names_the_nearest(network):
    with pytest.raises(ValueError, match=r"no layer 'last/cnv' .* Nearest: 'last/conv'"):
        network.adapt("last/cnv")(network.native(IMAGES))


def test_bfloat16(network):
    outputs, activations = network.adapt("last", dtype=jnp.bfloat16)(network.native(IMAGES))
    assert outputs.dtype == activations.dtype == jnp.bfloat16
    expected = reference_head(reference_activations(IMAGES))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs.astype(jnp.float32), expected, atol=0.03 * scale)


def test_several_layers_in_one_pass(network):
    x, model = network.native(IMAGES), network.adapt(["first/conv", "last"])
    outputs, (early, late) = model(x)
    np.testing.assert_array_equal(early, network.adapt("first/conv")(x)[1])
    np.testing.assert_allclose(late, network.adapt("last")(x)[1], atol=1e-6)
    edited, _ = jax.jit(lambda x: model(x, edit=(jnp.zeros_like, None)))(x)
    alone = network.adapt("first/conv")
    expected, _ = jax.jit(lambda x: alone(x, edit=jnp.zeros_like))(x)
    np.testing.assert_allclose(edited, expected, atol=1e-6)
    assert np.abs(edited - outputs).max() > 0.1
    with pytest.raises(TypeError, match="edit takes a tuple of 2 functions"):
        model(x, edit=lambda a: a)


@pytest.fixture(scope="module")
def expected_heatmap():
    network = NETWORKS["linen"]()
    return score_cam(network.adapt("last"), network.native(IMAGES), batch_size=4).heatmap


def test_heatmaps_do_not_depend_on_the_framework(network, expected_heatmap):
    explanation = score_cam(
        network.adapt("last"),
        network.native(IMAGES),
        batch_size=4,
        channel_axis=network.channel_axis,
    )
    assert expected_heatmap.max() == 1
    np.testing.assert_allclose(explanation.heatmap, expected_heatmap, atol=1e-5)


def test_only_models_from_adapters_list_their_layers():
    with pytest.raises(TypeError, match="cannot list the layers of a function"):
        list_layers(lambda x: (x, x), IMAGES)


def test_layers_are_listed_or_chosen_by_rule_and_not_both(network):
    images = network.native(np.zeros((1, 12, 16, 3)))
    with pytest.raises(ValueError, match="leave out one of the two"):
        network.adapt(["first", "last"], layers=2)
    alone, default = (
        jax.eval_shape(network.adapt(None, **options), images)[1] for options in ({"layers": 1}, {})
    )
    assert alone == default
    # Its grid lasts throughout, so the two layers are its blocks.
    for model in (network.adapt("last", layers=2), with_layers(network.adapt(None), 2)):
        _, activations = jax.eval_shape(model, images)
        assert [layer.shape[network.channel_axis] for layer in activations] == [4, 6]


def test_rounded_products_change_the_outputs_a_little_and_the_layer_stays(network):
    images = network.native(IMAGES)
    model = network.adapt(None)
    rounded = with_bfloat16_products(model)
    (outputs, activations), (near, same) = model(images), rounded(images)
    assert [layer.path for layer in list_layers(rounded, images)] == [
        layer.path for layer in list_layers(model, images)
    ]
    assert activations.shape == same.shape
    assert near.dtype == outputs.dtype
    difference = np.abs(near - outputs).max()
    assert 0 < difference < 2**-6 * np.abs(outputs).max()


def test_only_models_from_adapters_round_their_products():
    with pytest.raises(TypeError, match="cannot round the products of a function"):
        with_bfloat16_products(lambda x: (x, x))
