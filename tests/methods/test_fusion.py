"""Heatmaps of several layers, fused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

from scorecam_jax import Deviation, Interpolated, from_nnx, grad_cam, rise, score_cam, variants
from scorecam_jax.methods.fusion import fuse_layers


class Network(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.second = nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.second(nnx.relu(self.first(x)))).mean((1, 2)))


IMAGES = jax.random.uniform(jax.random.key(1), (2, 16, 24, 3))
TARGETS = np.array([[0, 2], [1, 0]])
FINE, COARSE, HEAD = (
    jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)
    for seed, shape in enumerate([(3, 7), (7, 9), (9, 4)])
)


@pytest.mark.parametrize("method", [score_cam, grad_cam])
@pytest.mark.parametrize(("fuse", "expected"), [(jnp.mean, np.mean), (jnp.prod, np.prod)])
def test_heatmaps_are_those_of_each_layer_fused(method, fuse, expected):
    network = Network()
    both = fuse_layers(
        from_nnx(network, ["first", "second"]), IMAGES, [1, 3], fuse=fuse, method=method
    )
    each = [method(from_nnx(network, layer), IMAGES, [1, 3]) for layer in ("first", "second")]
    fused = expected(np.stack([e.heatmap for e in each]), axis=0)
    low, high = fused.min((1, 2), keepdims=True), fused.max((1, 2), keepdims=True)
    np.testing.assert_allclose(both.heatmap, (fused - low) / (high - low), atol=1e-5)
    assert [weights.shape for weights in both.weights] == [(2, 4), (2, 6)]


@pytest.mark.slow
def test_all_layers_explain_the_same_best_class():
    model = from_nnx(Network(), ["first", "second"])
    explanation = fuse_layers(model, IMAGES, channels=Deviation(3))
    np.testing.assert_array_equal(explanation.targets, model(IMAGES)[0].argmax(1))


@pytest.mark.slow
def test_layers_share_the_masks_that_are_scored_and_the_fused_map_has_a_deviation():
    model = from_nnx(Network(), ["first", "second"])
    fused = score_cam(model, IMAGES, [1, 3], channels=3)
    assert sum(scored.sum(1) for scored in fused.scored).tolist() == [3, 3]
    assert fused.deviation.shape == fused.heatmap.shape
    assert (fused.deviation.max((1, 2)) > 0).all()
    assert (fused.layers[0].deviation.max((1, 2)) > 0).all()


def test_a_model_of_one_layer_is_refused():
    with pytest.raises(TypeError, match="several layers"):
        fuse_layers(from_nnx(Network(), "first"), IMAGES)


def two(x, edit=None):
    """A network of two layers, 8 x 12 and 4 x 6, whose first two channels are dead and constant."""
    first, second = edit or (None, None)
    fine = jax.nn.relu(x[:, ::2, ::2] @ FINE).at[..., 0].set(0).at[..., 1].set(1)
    fine = first(fine) if first else fine
    coarse = jax.nn.relu((fine[:, ::2, ::2] + fine[:, 1::2, 1::2]) @ COARSE)
    coarse = second(coarse) if second else coarse
    return 3 * coarse.mean((1, 2)) @ HEAD, (fine, coarse)


def of(index):
    """One of its layers."""

    def model(x, edit=None):
        edits = tuple(edit if place == index else None for place in range(2))
        outputs, layers = two(x, edits)
        return outputs, layers[index]

    return model


def scaled(maps):
    low, high = maps.min((-2, -1), keepdims=True), maps.max((-2, -1), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


EACH = {
    "product": lambda a, b: a * b,
    "geometric": lambda a, b: np.sqrt(a * b),
    "mean": lambda a, b: (a + b) / 2,
    "maximum": np.maximum,
}


@pytest.mark.parametrize("fuse", EACH)
def test_one_call_fuses_the_maps_of_each_layer(fuse):
    found = grad_cam(two, IMAGES, TARGETS, fuse=fuse)
    each = [grad_cam(of(index), IMAGES, TARGETS) for index in range(2)]
    maps = [np.asarray(one.heatmap) for one in each]
    np.testing.assert_allclose(found.heatmap, scaled(EACH[fuse](*maps)), atol=1e-5)
    for index, one in enumerate(each):
        np.testing.assert_allclose(found.layers[index].heatmap, one.heatmap, atol=1e-6)
        np.testing.assert_allclose(found.weights[index], one.weights, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.layers[index].peak, one.peak, rtol=1e-5)
    fused = EACH[fuse](*maps).max((2, 3))
    peaks = np.sqrt(np.asarray(each[0].peak) * np.asarray(each[1].peak))
    np.testing.assert_allclose(found.peak, fused * peaks, rtol=1e-5)


def test_the_product_is_the_default_and_one_target_has_no_axis():
    found = score_cam(two, IMAGES, 1)
    maps = [np.asarray(layer.heatmap) for layer in found.layers]
    assert found.heatmap.shape == maps[0].shape == IMAGES.shape[:3]
    np.testing.assert_allclose(found.heatmap, scaled(maps[0] * maps[1]), atol=1e-5)
    each = [score_cam(of(index), IMAGES, 1) for index in range(2)]
    for index, one in enumerate(each):
        np.testing.assert_allclose(found.scores[index], one.scores, atol=1e-6)


def test_layers_of_one_grid_are_averaged_by_default():
    def alike(x):
        outputs, (_, coarse) = two(x)
        return outputs, (jnp.flip(coarse, 1), coarse)

    found = score_cam(alike, IMAGES, 1)
    maps = [np.asarray(layer.heatmap) for layer in found.layers]
    assert np.abs(maps[0] - maps[1]).max() > 0.1
    np.testing.assert_allclose(found.heatmap, scaled((maps[0] + maps[1]) / 2), atol=1e-5)


def test_poly_cam_is_the_authors_formula():
    found = grad_cam(two, IMAGES, TARGETS, fuse="poly-cam")
    sums = [
        np.maximum(np.einsum("bhwk,btk->bthw", *pair), 0)
        for pair in zip(found.activations, found.weights, strict=True)
    ]
    fine, coarse = (total.astype(np.float64) for total in sums)
    local = enlarge(enlarge(fine, (4, 6)), (8, 12))
    expected = fine / np.maximum(local, 1e-12) * enlarge(coarse, (8, 12))
    np.testing.assert_allclose(
        found.heatmap, scaled(enlarge(expected, IMAGES.shape[1:3])), atol=1e-4
    )


def enlarge(maps, shape):
    """Linear resizing at half-pixel centres, as PyTorch's `interpolate` does it."""
    for axis, new in zip((-2, -1), shape, strict=True):
        old = maps.shape[axis]
        at = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = np.expand_dims(at - low, tuple(range(1, -axis)))
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
    return maps


def test_signed_maps_are_fused_on_either_side():
    found = score_cam(two, IMAGES, TARGETS, variant=variants.SIGNED)
    first, second = (np.asarray(layer.heatmap) for layer in found.layers)
    parts = [np.maximum(sign * first, 0) * np.maximum(sign * second, 0) for sign in (1, -1)]
    fused = parts[0] - parts[1]
    assert fused.min() < 0 < fused.max()
    largest = np.abs(fused).max((2, 3), keepdims=True)
    np.testing.assert_allclose(found.heatmap, fused / largest, atol=1e-5)


@pytest.mark.slow
def test_a_method_that_looks_at_no_layer_is_run_once():
    key = jax.random.key(0)
    found = rise(two, IMAGES, 1, key=key, count=20)
    expected = rise(of(1), IMAGES, 1, key=key, count=20)
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-6)
    assert found.layers is None


@pytest.mark.parametrize("channels", [None, pytest.param(Interpolated(4), marks=pytest.mark.slow)])
def test_several_layers_are_one_compilation_for_each_shape(channels):
    traces = []

    def counted(x):
        traces.append(x.shape)
        return two(x)

    score_cam(counted, IMAGES, 1, channels=channels)
    first = len(traces)
    score_cam(counted, IMAGES + 0.1, 2, channels=channels)
    assert len(traces) == first


@pytest.mark.slow
def test_all_masks_scored_give_the_exact_fused_map():
    expected = score_cam(two, IMAGES, TARGETS)
    found = score_cam(two, IMAGES, TARGETS, channels=Interpolated(99))
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-5)
    np.testing.assert_allclose(found.peak, expected.peak, rtol=1e-4)
    for index in range(2):
        np.testing.assert_allclose(found.scores[index], expected.scores[index], atol=1e-6)
    assert (found.deviation == 0).all()


@pytest.mark.slow
def test_what_is_scored_of_any_layer_is_exact():
    exact = score_cam(two, IMAGES, TARGETS)
    found = score_cam(two, IMAGES, TARGETS, channels=Interpolated(6))
    for index in range(2):
        which = np.asarray(found.scored[index])[:, None] & np.ones((1, 2, 1), bool)
        np.testing.assert_allclose(
            np.asarray(found.scores[index])[which],
            np.asarray(exact.scores[index])[which],
            atol=1e-6,
        )
    assert sum(scored.sum(1) for scored in found.scored).tolist() == [6, 6]
    assert found.deviation.shape == found.heatmap.shape


@pytest.mark.slow
def test_a_tolerance_is_that_of_the_fused_map():
    found = score_cam(two, IMAGES, 1, channels=Interpolated(tolerance=0.02))
    assert found.deviation.max() <= 0.02
    exact = score_cam(two, IMAGES, 1)
    assert np.abs(found.heatmap - exact.heatmap).max() < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("channels", [None, Interpolated(6)])
def test_it_runs_under_jit_and_vmap(channels):
    expected = score_cam(two, IMAGES, 1, channels=channels).heatmap

    @jax.jit
    def explain(inputs):
        return score_cam(two, inputs, 1, channels=channels).heatmap

    np.testing.assert_allclose(explain(IMAGES), expected, atol=1e-5)
    mapped = jax.vmap(explain)(IMAGES[:, None])[:, 0]
    np.testing.assert_allclose(mapped, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("fuse", ["product", "geometric", "poly-cam"])
def test_its_derivative_is_that_of_finite_differences(fuse):
    def explain(inputs):
        return (score_cam(two, inputs, 1, fuse=fuse).heatmap ** 2).sum()

    with jax.enable_x64(True):
        inputs = jnp.asarray(np.asarray(IMAGES), jnp.float64)
        slope = jax.grad(explain)(inputs)
        direction = np.random.default_rng(3).normal(size=inputs.shape)
        step = 1e-6
        difference = explain(inputs + step * direction) - explain(inputs - step * direction)
        expected = difference / (2 * step)
        np.testing.assert_allclose((slope * direction).sum(), expected, rtol=1e-3)


@pytest.mark.slow
def test_its_derivative_is_the_exact_maps_where_all_masks_are_scored():
    def explain(inputs, channels):
        return (score_cam(two, inputs, 1, channels=channels).heatmap ** 2).sum()

    expected = jax.grad(explain)(IMAGES, None)
    found = jax.grad(explain)(IMAGES, Interpolated(99))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(expected).max() > 0.01


def test_layers_of_a_network_run_under_jit_and_vmap_with_its_weights_as_arguments():
    model = from_nnx(Network(), layers=2)
    expected = grad_cam(model, IMAGES, 1).heatmap

    @jax.jit
    def explain(model, inputs):
        return jax.vmap(lambda x: grad_cam(model, x[None], 1).heatmap[0])(inputs)

    np.testing.assert_allclose(explain(model, IMAGES), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("channels", [None, Interpolated(6), Interpolated(tolerance=0.05)])
def test_it_runs_on_a_mesh(kind, channels, cpus):
    inputs = jnp.concatenate([IMAGES] * 4)
    mesh = jax.make_mesh((8,), ("devices",), axis_types=(AxisType[kind],), devices=cpus)
    expected = score_cam(two, inputs, 1, channels=channels)
    spread = jax.device_put(
        inputs, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("devices"))
    )
    found = score_cam(two, spread, 1, channels=channels, mesh=mesh)
    np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-5)
