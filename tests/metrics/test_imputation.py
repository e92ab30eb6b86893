import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse.linalg

from scorecam_jax import metrics
from scorecam_jax.steps.filters import gaussian_window


def solve(values, shown):
    """One equation for each unknown pixel, written out and solved directly."""
    rank, numbers = shown.ndim, np.full(shown.shape, -1)
    unknown = np.argwhere(~shown)
    numbers[~shown] = np.arange(len(unknown))
    matrix, right = np.zeros((len(unknown),) * 2), np.zeros((len(unknown), values.shape[-1]))
    for row, place in enumerate(unknown):
        for offset in itertools.product((-1, 0, 1), repeat=rank):
            other = tuple(place + offset)
            inside = all(0 <= at < size for at, size in zip(other, shown.shape, strict=True))
            if not any(offset) or not inside:
                continue
            weight = 2.0 ** -np.abs(offset).sum()
            matrix[row, row] += weight
            if shown[other]:
                right[row] += weight * values[other]
            else:
                matrix[row, numbers[other]] -= weight
    filled = values.copy()
    filled[~shown] = np.linalg.solve(matrix, right)
    return filled


@pytest.mark.parametrize("shape", [(30,), (14, 18), (5, 6, 7)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_unknown_pixels_are_the_weighted_means_of_their_neighbours(shape, share):
    generator = np.random.default_rng(0)
    values = generator.normal(size=(2, *shape, 3)).astype(np.float32)
    shown = generator.random((2, *shape)) > share
    filled = metrics.impute(jnp.asarray(values), jnp.asarray(shown), key=jax.random.key(0), noise=0)
    for got, image, known in zip(filled, values, shown, strict=True):
        np.testing.assert_allclose(got, solve(image.astype(float), known), atol=1e-3)


def test_a_large_hole_in_a_ramp_is_filled_with_the_ramp():
    """A linear function is the mean of its neighbours: the solution is known in closed form."""
    rows, columns = np.mgrid[:96, :80]
    ramp = (2 * rows - columns)[None, ..., None].astype(np.float32) / 96
    shown = np.ones((1, 96, 80), bool)
    shown[:, 8:88, 8:72] = False
    filled = metrics.impute(jnp.asarray(ramp), jnp.asarray(shown), key=jax.random.key(0), noise=0)
    np.testing.assert_allclose(filled, ramp, atol=2e-3)


def test_noise_is_added_to_what_is_filled_in_alone():
    inputs = jnp.zeros((1, 40, 40, 3))
    shown = jnp.arange(40)[None, :, None] < jnp.full((1, 40, 40), 10)
    filled = metrics.impute(inputs, shown, key=jax.random.key(0), noise=0.05)
    np.testing.assert_array_equal(filled[0, :10], 0)
    assert abs(filled[0, 10:].std() - 0.05) < 0.002


def test_channels_first_is_the_same():
    generator = np.random.default_rng(0)
    inputs = jnp.asarray(generator.normal(size=(1, 6, 7, 3)), jnp.float32)
    shown = jnp.asarray(generator.random((1, 6, 7)) > 0.4)
    expected = metrics.impute(inputs, shown, key=jax.random.key(2))
    turned = metrics.impute(
        jnp.moveaxis(inputs, -1, 1), shown, key=jax.random.key(2), channel_axis=1
    )
    np.testing.assert_allclose(jnp.moveaxis(turned, 1, -1), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(20,), (9, 13), (4, 5, 6)])
def test_blur_is_scipys_correlation_with_the_window(shape):
    inputs = np.random.default_rng(0).normal(size=(2, *shape, 2)).astype(np.float32)
    expected = inputs.astype(float)
    for axis in range(1, len(shape) + 1):
        expected = scipy.ndimage.correlate1d(
            expected, gaussian_window(11, 5.0), axis=axis, mode="nearest"
        )
    np.testing.assert_allclose(metrics.blur(jnp.asarray(inputs)), expected, atol=1e-5)


def test_the_window_is_the_normal_density():
    from scipy.stats import norm

    density = norm.pdf(np.arange(-5, 6), scale=1.5)
    np.testing.assert_allclose(gaussian_window(11, 1.5), density / density.sum(), rtol=1e-12)
