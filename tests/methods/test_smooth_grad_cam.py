"""Smooth Grad-CAM++ against its formulas in NumPy."""

import jax
import numpy as np
import pytest

from scorecam_jax import grad_cam_plus_plus
from scorecam_jax.methods.smooth_grad_cam_plus_plus import smooth_grad_cam_plus_plus
from tests import reference
from tests.networks import images, network

TARGETS, SHAPE, KEY = (2, 0), (9, 14), jax.random.key(3)


def slopes(inputs):
    """The gradients of a logit, by hand: its head's weights where the activations are positive."""
    head, maps = np.asarray(network().args[2], float), np.asarray(network()(inputs)[1], float)
    return (maps > 0) * head[:, list(TARGETS)].T[:, None, None] / np.prod(maps.shape[1:3])


@pytest.mark.parametrize("form", ["paper", pytest.param("torchcam", marks=pytest.mark.slow)])
def test_weights_are_of_gradients_averaged_over_noise(form):
    found = smooth_grad_cam_plus_plus(
        network(), images(), TARGETS, key=KEY, samples=3, deviation=0.2, form=form
    )
    spread = np.ptp(images(), axis=(1, 2, 3), keepdims=True)
    drawn = []
    for key in jax.random.split(KEY, 3):
        noise = 0.2 * spread * np.asarray(jax.random.normal(key, (1, *SHAPE, 2)))
        drawn.append(slopes((images() + noise).astype("float32")))
    first, second, third = (np.mean(np.power(drawn, p), 0) for p in (1, 2, 3))
    maps = np.asarray(network()(images())[1], float)
    below = 2 * second + maps.sum((1, 2), keepdims=True) * third
    above, last = (first, first) if form == "paper" else (second, drawn[-1])
    alpha = np.divide(above, below, out=np.zeros_like(below), where=below != 0)
    weights = (alpha * np.maximum(last, 0)).sum((1, 2))
    np.testing.assert_allclose(found.weights, weights, rtol=1e-3, atol=1e-5)
    for row in range(2):
        expected = reference.finish(maps[row] @ weights[row], SHAPE)
        np.testing.assert_allclose(found.heatmap[row], expected, atol=1e-3)


@pytest.mark.slow
def test_torchcams_form_without_noise_is_grad_cam_plus_plus():
    found = smooth_grad_cam_plus_plus(
        network(), images(), TARGETS, key=KEY, samples=1, deviation=0.0, form="torchcam"
    )
    expected = grad_cam_plus_plus(network(), images(), TARGETS)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-4, atol=1e-6)
