import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from scorecam_jax import metrics

MAPS = np.random.default_rng(0).normal(size=(3, 6, 7)).astype(np.float32)


def test_gini_is_half_the_mean_difference_of_all_pairs_over_the_mean():
    for found, heatmap in zip(metrics.gini(jnp.asarray(MAPS)), abs(MAPS), strict=True):
        flat = heatmap.ravel().astype(float)
        expected = abs(flat[:, None] - flat).mean() / (2 * flat.mean())
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_entropy_is_scipys():
    for found, heatmap in zip(metrics.entropy(jnp.asarray(MAPS)), abs(MAPS), strict=True):
        np.testing.assert_allclose(found, scipy.stats.entropy(heatmap.ravel()), rtol=1e-5)


@pytest.mark.parametrize("bins", [4, 100])
def test_histogram_entropy_is_scipys_of_numpys_histogram(bins):
    found = metrics.histogram_entropy(jnp.asarray(MAPS), bins)
    expected = [scipy.stats.entropy(np.histogram(heatmap, bins)[0]) for heatmap in MAPS]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_one_pixel_is_simplest_and_a_flat_map_least_simple():
    flat, one = np.full((5, 8), 0.3, np.float32), np.zeros((5, 8), np.float32)
    one[2, 3] = 1e-30
    maps = jnp.asarray(np.stack([flat, one, 0 * one]))
    np.testing.assert_allclose(metrics.gini(maps), [0, 1 - 1 / 40, 0], atol=1e-6)
    np.testing.assert_allclose(metrics.entropy(maps), [np.log(40), 0, 0], atol=1e-5)
    np.testing.assert_allclose(metrics.histogram_entropy(maps)[0], 0, atol=1e-6)
