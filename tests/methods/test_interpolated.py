import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from scorecam_jax import Deviation, Gradient, Interpolated, score_cam, variants
from scorecam_jax.methods import interpolated
from scorecam_jax.steps.channels import choice_of, interpolation_of
from tests.networks import CONSTANT, DEAD, images, network

CHANNELS, LIVE = 40, 39


def many(x):
    """A network of 40 channels on 2-channel images, of which the first is dead."""
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 3, 2, CHANNELS)).astype("float32")
    kernel[..., 0] = 0
    head = 3 * random.normal(size=(CHANNELS, 3)).astype("float32")
    shown = jax.lax.conv_general_dilated(
        x, jnp.asarray(kernel), (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu(shown).mean((1, 2)) @ head, jax.nn.relu(shown)


def smooth_images(batch=2):
    return jax.image.resize(images(batch=batch)[:, :3, :3], (batch, 9, 14, 2), "linear")


TARGETS = np.array([[0, 2], [1, 0]])
FEW = 12, Interpolated(12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["OFFICIAL", "PAPER", "YISKW713"])
def test_all_live_channels_give_the_exact_map(name):
    variant = getattr(variants, name)
    expected = score_cam(many, smooth_images(), TARGETS, variant=variant)
    found = score_cam(many, smooth_images(), TARGETS, variant=variant, channels=Interpolated(LIVE))
    for field in ("heatmap", "weights", "scores", "peak"):
        close = np.testing.assert_allclose
        close(getattr(found, field), getattr(expected, field), rtol=1e-5, atol=1e-6)
    assert np.ptp(expected.heatmap) == 1
    assert (found.deviation == 0).all()
    np.testing.assert_array_equal(found.scored, np.arange(CHANNELS)[None] > [[0], [0]])


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_more_than_all_channels_are_all_on_any_grid(rank):
    expected = score_cam(network(rank), images(rank), 1)
    found = score_cam(network(rank), images(rank), 1, channels=Interpolated(99))
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-6)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert not found.scored[:, [DEAD, CONSTANT]].any()


@pytest.mark.slow
def test_channels_first():
    last = score_cam(network(), images(), 1, channels=Interpolated(3))
    first = score_cam(
        network(channels_first=True), np.moveaxis(images(), -1, 1), 1,
        channels=Interpolated(3), channel_axis=1,
    )  # fmt: skip
    np.testing.assert_allclose(first.heatmap, last.heatmap, atol=1e-6)
    np.testing.assert_allclose(first.deviation, last.deviation, atol=1e-5)


def test_the_scored_are_exact_and_the_map_sums_all():
    expected = score_cam(many, smooth_images(), TARGETS)
    found = score_cam(many, smooth_images(), TARGETS, channels=Interpolated(12))
    assert (found.scored.sum(1) == 12).all()
    for image in range(2):
        which = np.asarray(found.scored[image])
        np.testing.assert_allclose(
            found.scores[image][:, which], expected.scores[image][:, which], atol=1e-6
        )
        assert not np.allclose(
            found.scores[image][:, ~which], expected.scores[image][:, ~which], atol=1e-4
        )
    sums = jnp.einsum("bhwk,btk->bthw", found.activations, found.weights, precision="highest")
    shape = found.heatmap.shape
    again = jnp.maximum(jax.image.resize(sums, shape, "linear", antialias=False), 0)
    low, high = again.min((2, 3), keepdims=True), again.max((2, 3), keepdims=True)
    np.testing.assert_allclose(found.heatmap, (again - low) / (high - low), atol=1e-5)
    assert found.deviation.shape == found.heatmap.shape
    assert (found.deviation.max((2, 3)) > 0).all()


@pytest.mark.slow
def test_one_choice_serves_all_targets():
    both = score_cam(many, smooth_images(), TARGETS, channels=Interpolated(12))
    alone = score_cam(many, smooth_images(), TARGETS[:, 1], channels=Interpolated(12))
    np.testing.assert_array_equal(both.scored, alone.scored)
    np.testing.assert_allclose(both.heatmap[:, 1], alone.heatmap, atol=1e-5)
    np.testing.assert_allclose(both.deviation[:, 1], alone.deviation, atol=1e-4)


@pytest.mark.slow
def test_it_runs_under_jit_and_vmap():
    inputs = smooth_images()
    expected = score_cam(many, inputs, 1, channels=Interpolated(12))

    @jax.jit
    def explain(inputs):
        return score_cam(many, inputs, 1, channels=Interpolated(12)).heatmap

    np.testing.assert_allclose(explain(inputs), expected.heatmap, atol=1e-5)
    mapped = jax.vmap(explain)(inputs[:, None])[:, 0]
    np.testing.assert_allclose(mapped, expected.heatmap, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_it_runs_on_a_mesh(kind, cpus):
    inputs = smooth_images(8)
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(AxisType[kind],), devices=cpus)
    for channels in (Interpolated(12), Interpolated(tolerance=0.01)):
        expected = score_cam(many, inputs, 1, channels=channels)
        spread = jax.device_put(
            inputs, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))
        )
        found = score_cam(many, spread, 1, channels=channels, mesh=mesh)
        np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-5)
        np.testing.assert_array_equal(found.scored, expected.scored)


@pytest.mark.slow
def test_its_derivative_is_the_exact_maps_where_all_are_scored():
    def explain(inputs, channels):
        return (score_cam(network(), inputs, 1, channels=channels).heatmap ** 2).sum()

    expected = jax.grad(explain)(images(), None)
    found = jax.grad(explain)(images(), Interpolated(6))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(expected).max() > 0.01


@pytest.mark.slow
def test_its_derivative_is_finite_where_some_are_interpolated():
    def explain(inputs):
        return score_cam(many, inputs, 1, channels=Interpolated(12)).heatmap.sum()

    slope = jax.grad(explain)(smooth_images())
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


@pytest.mark.slow
def test_rounds_go_on_until_the_map_is_sure_enough(monkeypatch):
    monkeypatch.setattr(interpolated, "_ROUND", 7)
    inputs = smooth_images()
    first = score_cam(many, inputs, 1, channels=Interpolated(tolerance=0.999))
    assert (first.scored.sum(1) == 7).all()
    last = score_cam(many, inputs, 1, channels=Interpolated(tolerance=1e-6))
    np.testing.assert_allclose(last.heatmap, score_cam(many, inputs, 1).heatmap, atol=1e-6)
    assert (last.deviation == 0).all()
    least = float(first.deviation.max((1, 2)).min())
    some = score_cam(many, inputs, 1, channels=Interpolated(tolerance=0.9 * least))
    assert (some.deviation <= 0.9 * least).all()
    assert (some.scored.sum(1) > 7).all()
    assert set(np.asarray(some.scored.sum(1))) <= {14, 21, 28, 35, LIVE}


@pytest.mark.slow
def test_rounds_have_no_reverse_mode():
    def explain(inputs):
        return score_cam(many, inputs, 1, channels=Interpolated(tolerance=0.1)).heatmap.sum()

    with pytest.raises(ValueError, match="no reverse-mode derivative: pass a number"):
        jax.grad(explain)(smooth_images())


@pytest.mark.slow
def test_no_live_channel_leaves_nothing_to_score():
    inputs = jnp.zeros((1, 9, 14, 2))
    for channels in (Interpolated(12), Interpolated(tolerance=0.1)):
        found = score_cam(many, inputs, 1, channels=channels)
        assert not found.scored.any()
        assert (found.heatmap == 0).all()
        assert (found.deviation == 0).all()


@pytest.mark.slow
def test_one_score_states_a_deviation_of_the_errors_size():
    exact, one = (score_cam(many, smooth_images(), 1, channels=c) for c in (None, 1))
    error = np.abs(exact.heatmap - one.heatmap).max()
    assert error / 4 < one.deviation.max() < 4 * error


@pytest.mark.slow
def test_what_is_not_finite_deviates_by_the_most():
    def broken(x):
        outputs, activations = many(x)
        return outputs.at[1].set(jnp.nan), activations

    found = score_cam(broken, smooth_images(), 1, channels=1, batch_size=99)
    assert (found.heatmap == 0).all()
    assert (found.deviation == 1).all()


def test_a_plain_number_interpolates_where_that_is_possible():
    assert interpolation_of(12) == (Interpolated(12), None)
    assert interpolation_of(Gradient(12)) == (None, Gradient(12))
    assert choice_of(12) == Deviation(12)
    by_number, by_name = (score_cam(many, smooth_images(), TARGETS, channels=c) for c in FEW)
    np.testing.assert_array_equal(by_number.deviation, by_name.deviation)


def test_other_methods_say_that_they_do_not_interpolate():
    with pytest.raises(TypeError, match="only score_cam interpolates"):
        choice_of(Interpolated(12))
