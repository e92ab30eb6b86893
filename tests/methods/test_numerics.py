"""Numbers at the edges: unlikely classes, constant and huge values, empty batches, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import (
    Deviation,
    Gradient,
    eigen_cam,
    grad_cam,
    hires_cam,
    layer_cam,
    metrics,
    opti_cam,
    score_cam,
    ss_cam,
    variants,
)
from scorecam_jax.steps.combine import into_range
from scorecam_jax.steps.masks import divide, normalize, value_range
from tests.networks import images, network

EVERY_VARIANT = pytest.mark.parametrize("variant", variants.BY_NAME.values(), ids=variants.BY_NAME)


def behind(gap, scale=1.0):
    """A network whose first class leads by a gap, and whose activations have a scale."""

    def model(x):
        activations = jax.nn.relu(x)
        logits = activations.mean((1, 2)) + jnp.array([[gap, 0.0, 0.0]])
        return logits, activations * scale

    return model


@pytest.fixture(scope="module")
def direction():
    return jax.random.normal(jax.random.key(1), (1, 6, 6))


def gradient(model, direction):
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 3))
    return jax.grad(lambda x: (score_cam(model, x, 1).heatmap * direction).sum())(x)


@pytest.mark.slow
@pytest.mark.parametrize("gap", [20.0, 46.0, 70.0, 85.0])
def test_the_gradient_of_a_heatmap_does_not_depend_on_how_unlikely_its_class_is(gap, direction):
    # Far behind, p is exp(z - gap) whatever else, so that gaps scale all weights alike.
    expected = gradient(behind(15.0), direction)
    np.testing.assert_allclose(gradient(behind(gap), direction), expected, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [-90, -60, 60, 90])
def test_the_gradient_of_a_heatmap_does_not_depend_on_the_scale_of_the_layer(exponent, direction):
    expected = gradient(behind(0.0), direction)
    found = gradient(behind(0.0, 2.0**exponent), direction)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_division_has_the_quotient_rules_derivative_where_squares_overflow():
    for denominator in (1e-30, 1.0, 1e30):
        slopes = jax.grad(divide, (0, 1))(jnp.float32(2 * denominator), jnp.float32(denominator))
        np.testing.assert_allclose(slopes, (1 / denominator, -2 / denominator), rtol=1e-6)
    assert jax.grad(divide, 1)(jnp.float32(1), jnp.float32(0)) == 0


def test_scaling_into_range_is_exact_and_leaves_what_is_in_range():
    values = jnp.array([[3e-30, -1e-31], [0.5, 2.0], [0.0, 0.0], [1e25, 1.0]])
    scaled, factor = into_range(values, axes=[1])
    np.testing.assert_array_equal(scaled * factor, values)
    np.testing.assert_array_equal(factor[1:3], 1)
    assert 2.0**-62 <= float(jnp.abs(scaled[0]).max()) <= 2.0**60


def test_products_come_into_range_even_if_the_type_cannot_hold_them():
    values, factors = jnp.array([[1e-25, 1.0], [1e25, 0.0]]), jnp.array([[1e-25, 0.0], [1e25, 1.0]])
    scaled, size = into_range(values, [1], factors=factors)
    np.testing.assert_array_equal(scaled * size, values)
    largest = np.abs(np.asarray(scaled, float) * np.asarray(factors, float)).max(1)
    assert (largest >= 2.0**-62).all()
    assert (largest <= 2.0**60).all()


def test_a_map_of_an_unlikely_class_does_not_depend_on_the_scale_of_the_layer():
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 3))
    expected = score_cam(behind(40.0), x, 1)
    found = score_cam(behind(40.0, 2.0**-100), x, 1)
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-5)


@pytest.mark.parametrize("method", [grad_cam, hires_cam, layer_cam])
def test_faint_maps_of_small_gradients_do_not_underflow(method):
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 3))

    def explain(size):
        def model(x, edit=None):
            activations = jax.nn.relu(x) * size
            activations = activations if edit is None else edit(activations)
            head = size * jnp.array([[1.0, -1.0], [2.0, 0.0], [-1.0, 3.0]])
            return activations.mean((1, 2)) @ head, activations

        return method(model, x, 0).heatmap

    np.testing.assert_allclose(explain(2.0**-70), explain(1.0), atol=1e-5)
    assert explain(2.0**-70).max() == 1


def test_values_that_differ_by_rounding_share_the_slope_of_their_extreme():
    below = np.nextafter(np.float32(2), np.float32(0))
    values = jnp.array([2.0, below, 1.0, -3.0])
    slope = jax.grad(lambda v: value_range(v, 1)[1][0])(values)
    np.testing.assert_allclose(slope, [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(jax.grad(lambda v: value_range(v, 1)[0][0])(values), [0, 0, 0, 1])


@pytest.mark.slow
def test_opti_cam_of_a_faint_layer():
    def faint(x):
        outputs, activations = network()(x)
        return outputs, activations * 2.0**-90

    def gradient_of(model):
        return jax.grad(lambda x: opti_cam(model, x, 1, steps=2).heatmap[0, 3].sum())(images())

    np.testing.assert_allclose(gradient_of(faint), gradient_of(network()), atol=1e-3)


@EVERY_VARIANT
def test_blank_images_and_constant_channels_give_an_empty_map(variant):
    def constant(x):
        activations = x[:, ::2, ::2] * jnp.array([[[[1.0, 3.3, 7.7]]]])
        return activations.mean((1, 2)), activations

    for value in (1.37, 7.3):
        heatmap = score_cam(constant, jnp.full((1, 10, 14, 1), value), 0, variant=variant).heatmap
        assert np.isfinite(heatmap).all()
        if variant is not variants.TABAYASHI:  # it divides by the maximum alone
            assert not heatmap.any()


def test_a_map_that_varies_by_rounding_alone_is_constant():
    rounded = jnp.full((1, 8), 5.0).at[0, 3].add(5e-6)
    assert not normalize(rounded, 1).any()
    faint = jnp.full((1, 8), 5.0).at[0, 3].add(5e-4)
    assert normalize(faint, 1)[0, 3] == 1


@pytest.mark.parametrize("variant", [variants.YISKW713, variants.TABAYASHI])
def test_a_channel_that_resizing_makes_constant_is_scored_as_it_is(variant):
    def finer(x):
        activations = jnp.zeros((len(x), 9, 9, 2))
        activations = activations.at[:, 3, 0, 0].set(1.0).at[:, :, :4, 1].set(1.0)
        mean = x.mean((1, 2, 3))
        return jnp.stack([mean, -mean], 1), activations

    weights = score_cam(finer, jnp.ones((1, 3, 3, 1)), 0, variant=variant).weights
    # Half-pixel centres miss the first channel's only pixel: its mask is empty.
    np.testing.assert_allclose(weights[0, 0], 0.5)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_a_constant_channel_has_no_slope_in_variants_with_an_epsilon(dtype):
    x = jnp.stack([jnp.arange(-3.0, 6.0), jnp.full(9, 3.0)], -1)[None].astype(dtype)
    weight = (jnp.arange(9.0) - 3)[None]

    def loss(x):
        found = score_cam(lambda x: (5 * jnp.tanh(x).mean(1), x), x, 0, variant=variants.TORCHCAM)
        return (found.heatmap * weight).sum()

    slope = jax.grad(loss)(x)[0, 0]
    assert slope[1] == 0
    assert np.isfinite(np.asarray(slope, float)).all()


def test_eigen_cams_derivative_is_that_of_the_leading_direction_alone():
    kernel = jnp.array([[1.0, -1.0, -2.0, 0.2]])  # two channels are dead where the input is > 0

    def model(x, edit=None):
        activations = jax.nn.relu(x @ kernel)
        return activations.mean(1), activations

    weight = jnp.array([1.0, 2.0, 3.0])

    def loss(x):
        return (eigen_cam(model, x, 0).heatmap[0, :3] * weight).sum()

    def scaled(x, low, high):  # all live channels are multiples of the input
        return ((x[0, :3, 0] - low) / (high - low) * weight).sum()

    x = jnp.array([3.0, 1.0, 2.0, 5.0, 9.0, 4.0]).reshape(1, 6, 1)
    expected, low, high = jax.grad(scaled, (0, 1, 2))(x, 1.0, 9.0)
    expected = expected.at[0, 1, 0].add(low).at[0, 4, 0].add(high)
    np.testing.assert_allclose(jax.grad(loss)(x), expected, atol=1e-5)


def test_eigen_cams_derivative_equals_finite_differences():
    maps = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 4)), jnp.float32) + 1
    weight = jnp.arange(5.0)

    @jax.jit
    def loss(maps):
        return (eigen_cam(lambda x: (x.mean(1), x), maps, 0).heatmap[0] * weight).sum()

    found = np.asarray(jax.grad(loss)(maps))
    step = 3e-3
    for place in np.ndindex(5, 4):
        shift = jnp.zeros_like(maps).at[(0, *place)].set(step)
        slope = (loss(maps + shift) - loss(maps - shift)) / (2 * step)
        np.testing.assert_allclose(found[(0, *place)], slope, atol=2e-2)


@pytest.mark.slow
def test_opti_cams_gradient_on_a_blank_image_is_finite():
    x = jnp.zeros((1, 9, 14, 2))
    slope = jax.grad(lambda x: opti_cam(network(), x, 1, steps=3).heatmap.sum())(x)
    assert np.isfinite(slope).all()


def test_values_that_are_not_finite_give_an_empty_map_and_no_nan():
    def overflowing(x):
        activations = jax.nn.relu(x)
        return (activations.mean((1, 2)) * jnp.float16(6e4)) * jnp.float16(6e4), activations

    x = jnp.ones((1, 6, 6, 3), jnp.float16).at[0, 2].set(3)
    found = score_cam(overflowing, x, 0)
    assert not found.heatmap.any()


@pytest.mark.parametrize("bias", [13.5, 15.0, 15.8, 16.5, 40.0])
def test_gain_and_increase_of_a_sure_network(bias):
    def model(x):
        mean = x.mean((1, 2, 3))
        return jnp.stack([bias + 0.5 - mean * 0.5, 0 * mean], 1), x

    asked = (model, jnp.ones((1, 6, 6, 1)), jnp.full((1, 6, 6), 0.5), 0)
    # Halving the input raises the log-odds from `bias` by a quarter.
    expected = 100 * (1 - (1 + np.exp(bias)) / (1 + np.exp(bias + 0.25)))
    np.testing.assert_allclose(metrics.average_gain(*asked), expected, rtol=2e-3)
    assert metrics.average_increase(*asked) == 100


@pytest.mark.parametrize(("level", "expected"), [(0.1, 0.7297297), (0.25, 0.6923077)])
def test_a_constant_map_has_half_a_coherency(level, expected):
    maps = jnp.full((1, 7, 7), level)
    found = metrics.adcc(
        lambda x: (x.mean((1, 2)), x), jnp.ones((1, 7, 7, 2)), maps, 0, explain=lambda x, t: maps
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("bias", [0.0, 20.0, 100.0])
def test_gradient_finds_the_channels_that_matter_to_a_sure_network(bias):
    reach = jnp.array([[0.0, 0, 0, 1, 1, 1]])

    def model(x, edit=None):
        activations = x if edit is None else edit(x)
        total = (activations.mean((1, 2)) * reach).sum(-1)
        return jnp.stack([total + bias, -total], 1), activations

    x = jax.random.uniform(jax.random.key(0), (1, 8, 8, 6))
    weights = score_cam(model, x, 0, channels=Gradient(3)).weights[0]
    assert np.flatnonzero(weights).tolist() == [3, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_channels_by_deviation_do_not_depend_on_the_scale(scale):
    x = images()
    expected = score_cam(network(), x, 1, channels=Deviation(3)).weights != 0

    def scaled(x):
        outputs, activations = network()(x)
        return outputs, activations * scale

    np.testing.assert_array_equal(
        score_cam(scaled, x, 1, channels=Deviation(3)).weights != 0, expected
    )


def test_an_empty_batch_gives_empty_results():
    none, maps = np.zeros((0, 9, 14, 2), "f"), np.zeros((0, 9, 14), "f")
    assert score_cam(network(), none, 0, channels=Deviation(2)).heatmap.shape == (0, 9, 14)
    for metric in (metrics.deletion, metrics.insertion, metrics.average_gain):
        assert metric(network(), none, maps, 0).shape == (0,)


def test_noise_does_not_depend_on_an_images_place_in_the_batch():
    key = jax.random.key(0)
    both = ss_cam(network(), images(), 1, key=key, samples=2).heatmap
    turned = ss_cam(network(), images()[::-1].copy(), 1, key=key, samples=2).heatmap
    np.testing.assert_allclose(both, turned[::-1], atol=1e-5)


def test_ranks_and_imputation_are_computed_in_float32():
    maps = jax.random.uniform(jax.random.key(1), (1, 64, 64)).astype(jnp.float16)
    np.testing.assert_allclose(metrics.spearman(maps, maps), 1, rtol=1e-6)
    x = jax.random.normal(jax.random.key(0), (1, 12, 12, 1))
    shown = jax.random.bernoulli(jax.random.key(2), 0.5, (1, 12, 12))
    options = {"key": jax.random.key(3), "noise": 0.0}
    half = metrics.impute(x.astype(jnp.float16), shown, **options)
    assert half.dtype == jnp.float16
    np.testing.assert_allclose(half, metrics.impute(x, shown, **options), atol=5e-3)


def test_the_area_under_a_constant_curve_is_that_constant():
    def sure(x):
        return jnp.ones((len(x), 1)), x

    x = jnp.ones((1, 6, 8, 1))
    for metric in (metrics.insertion, metrics.deletion):
        assert metric(sure, x, jnp.zeros((1, 6, 8)), 0, score=lambda outputs: outputs) == 1
