"""Methods made of methods: averages over noise, and components in the place of sums."""

import jax
import numpy as np
import pytest

from scorecam_jax import grad_cam, hires_cam
from scorecam_jax._internal.signatures import options_of
from scorecam_jax.methods.wrappers import eigen_smoothed, noise_smoothed
from tests import reference
from tests.networks import images, network

TARGETS, SHAPE, KEY = (2, 0), (9, 14), jax.random.key(3)


def test_maps_are_averaged_over_noise():
    smoother = noise_smoothed(grad_cam, key=KEY, samples=2, deviation=0.3)
    found = smoother(network(), images(), TARGETS)
    spread = np.ptp(images(), axis=(1, 2, 3), keepdims=True)
    total = 0
    for key in jax.random.split(KEY, 2):
        noise = 0.3 * spread * np.asarray(jax.random.normal(key, (1, *SHAPE, 2)))
        total = total + np.asarray(grad_cam(network(), images() + noise, TARGETS).heatmap)
    largest = total.max((1, 2))
    np.testing.assert_allclose(found.heatmap, total / largest[:, None, None], atol=1e-5)
    np.testing.assert_allclose(found.peak, largest / 2, rtol=1e-5)
    plain = grad_cam(network(), images(), TARGETS)
    np.testing.assert_array_equal(found.weights, plain.weights)
    assert np.abs(found.heatmap - plain.heatmap).max() > 0.01
    assert options_of(smoother) == options_of(grad_cam)
    with pytest.raises(ValueError, match="samples is 0"):
        noise_smoothed(grad_cam, key=KEY, samples=0)


def component(products):
    """The first principal component of one input's products, by the covariance."""
    rows = products.reshape(-1, products.shape[-1])
    rows = rows - rows.mean(0)
    first = rows @ np.linalg.eigh(rows.T @ rows)[1][:, -1]
    return (first * np.sign((first * rows.sum(1)).sum())).reshape(products.shape[:-1])


def test_components_are_of_weighted_maps():
    targets = np.array([[2, 1], [0, 2]])
    found = eigen_smoothed(grad_cam)(network(), images(), targets)
    maps = np.asarray(network()(images())[1], float)
    for row, column in np.ndindex(2, 2):
        products = np.asarray(found.weights, float)[row, column] * maps[row]
        expected = reference.finish(component(products), SHAPE)
        np.testing.assert_allclose(found.heatmap[row, column], expected, atol=1e-4)
    alone = eigen_smoothed(grad_cam)(network(), images(), targets[:, 0])
    np.testing.assert_allclose(alone.heatmap, found.heatmap[:, 0], atol=1e-5)
    with pytest.raises(ValueError, match="hires_cam does not weight whole maps"):
        eigen_smoothed(hires_cam)(network(), images())


@pytest.mark.slow
def test_components_of_several_layers_are_fused():
    def two(x, edit=None):
        edits = edit or (None, None)
        finer = x if edits[0] is None else edits[0](x)
        outputs, layer = network()(finer, edits[1])
        return outputs, (finer, layer)

    found = eigen_smoothed(grad_cam)(two, images(), TARGETS, fuse="mean")
    fine, coarse = found.layers
    for layer, maps in ((fine, images()), (coarse, np.asarray(network()(images())[1]))):
        for row in range(2):
            weights = np.asarray(found.weights[layer is coarse][row], float)
            expected = reference.finish(component(weights * maps[row].astype(float)), SHAPE)
            np.testing.assert_allclose(layer.heatmap[row], expected, atol=1e-4)
    both = [reference.scale(each) for each in np.asarray(fine.heatmap + coarse.heatmap, float)]
    np.testing.assert_allclose(found.heatmap, both, atol=1e-4)
