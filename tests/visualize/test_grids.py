"""Maps that are stored small come back as they were."""

import json

import jax
import numpy as np
import pytest

from scorecam_jax.visualize import grids


def resized(values, shape):
    return np.asarray(jax.image.resize(values, shape, "linear", antialias=False), np.float64)


def sums_of(seed, shape=(7, 5)):
    return np.random.default_rng(seed).normal(0.3, 1, shape).astype(np.float32)


def rectified(sums, shape=(96, 64)):
    heatmap = np.maximum(resized(sums, shape), 0)
    return heatmap / heatmap.max()


@pytest.mark.parametrize("shape", [(96, 64), (7, 5), (30, 31)])
def test_enlarges_as_jax_does(shape):
    sums = sums_of(0)
    np.testing.assert_allclose(grids.enlarge(sums, shape), resized(sums, shape), atol=1e-6)


def test_a_window_is_the_part_of_the_whole():
    sums = sums_of(1)
    window = [(0.25, 0.5), (0.125, 0.25)]
    part = grids.enlarge(sums, (48, 16), window)
    np.testing.assert_allclose(part, grids.enlarge(sums, (96, 64))[24:72, 8:24], atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_map_summed_at_the_layer_is_stored_at_its_resolution_exactly(seed):
    sums = sums_of(seed)
    heatmap = rectified(sums)
    packed = grids.pack(grids.coarse(heatmap, 40 * sums - 3))
    assert list(packed.shape) == [7, 5]
    assert np.abs(grids.draw(packed, heatmap.shape) - heatmap).max() < 1e-4


def test_a_signed_map_keeps_its_sign():
    sums = sums_of(5)
    heatmap = resized(sums, (96, 64))
    heatmap /= np.abs(heatmap).max()
    packed = grids.pack(grids.coarse(heatmap, sums), signed=True)
    assert list(packed.shape) == [7, 5]
    assert np.abs(grids.draw(packed, heatmap.shape) - heatmap).max() < 1e-4


def test_sums_that_do_not_give_the_map_are_not_used():
    heatmap = rectified(sums_of(6))
    grid = grids.coarse(heatmap, sums_of(7))
    assert grid.shape == (56, 56)


def test_other_maps_are_fitted_with_little_error():
    rows, columns = np.mgrid[:224, :224]
    heatmap = np.exp(-((rows - 80) ** 2 + (columns - 150) ** 2) / 40**2)
    packed = grids.pack(grids.coarse(heatmap))
    assert np.abs(grids.draw(packed, heatmap.shape) - heatmap).max() < 1.5 / 255
    # The kinks that rectifying leaves are what coarse grids are worst at.
    heatmap = rectified(sums_of(8, (7, 7)), (224, 224))
    error = np.abs(grids.draw(grids.pack(grids.coarse(heatmap)), heatmap.shape) - heatmap)
    assert error.mean() < 1 / 255
    assert error.max() < 0.08


def test_the_least_squares_fit_is_numpys():
    heatmap = rectified(sums_of(9), (20, 12))
    matrix = np.kron(grids.linear(20, 8), grids.linear(12, 8))
    fit = np.linalg.lstsq(matrix, heatmap.ravel(), rcond=None)[0].reshape(8, 8)
    np.testing.assert_allclose(grids.coarse(heatmap, cells=8), fit.clip(0, 1), atol=1e-9)


@pytest.mark.parametrize("heatmap", [np.zeros((9, 9)), np.ones((9, 9))])
def test_constant_maps_come_back(heatmap):
    packed = grids.pack(grids.coarse(heatmap, np.full((3, 3), 2.0)))
    np.testing.assert_allclose(grids.draw(packed, (9, 9)), heatmap, atol=1e-9)


@pytest.mark.parametrize("side", [16, 17])
def test_codes_are_a_byte_each_in_large_grids(side):
    values = np.random.default_rng(0).uniform(-2, 3, (side, side))
    packed = grids.Grid(*json.loads(json.dumps(grids.pack(values))))
    error = 0.5 * np.ptp(values) / (65535 if side == 16 else 255)
    np.testing.assert_allclose(grids.unpack(packed), values, atol=error + 1e-5)


def test_volumes_are_fitted_too():
    sums = sums_of(10, (3, 4, 5))
    heatmap = rectified(sums, (12, 16, 20))
    grid = grids.coarse(heatmap, sums)
    assert grid.shape == (3, 4, 5)
    np.testing.assert_allclose(grids.draw(grids.pack(grid), heatmap.shape), heatmap, atol=1e-4)
