"""Occlusion sensitivity against its definition in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import occlusion, scores
from tests import reference
from tests.networks import images, network


def square(place, steps, size, shape):
    """1 outside a square centred in a cell of a grid, 0 inside, one pixel at a time."""
    shown = np.ones(shape)
    centre = [(index + 0.5) / steps for index in place]
    for pixel in reference.places(shape):
        middle = [(index + 0.5) / side for index, side in zip(pixel, shape, strict=True)]
        distance = max(abs(a - b) for a, b in zip(middle, centre, strict=True))
        shown[pixel] = distance > size / 2
    return shown


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_it_maps_what_the_score_loses(rank):
    steps, size, target = 3, 0.45, 1
    image = images(rank)[0]
    shape = image.shape[:-1]
    found = occlusion(network(rank), image[None], target, steps=steps, size=size, baseline=0.5)

    def score(inputs):
        outputs = np.asarray(network(rank)(inputs.astype("f"))[0], float)
        return reference.softmax(outputs)[:, target]

    lost = np.zeros([steps] * rank)
    for place in reference.places(lost.shape):
        shown = square(place, steps, size, shape)[..., None]
        lost[place] = (score(image[None]) - score((image * shown + 0.5 * (1 - shown))[None]))[0]
    np.testing.assert_allclose(found.heatmap[0], reference.finish(lost, shape), atol=2e-5)
    np.testing.assert_allclose(found.peak[0], max(lost.max(), 0), atol=1e-6)
    assert found.weights is None


def test_it_points_at_the_only_pixels_that_matter():
    def model(x):
        return 50 * x[:, 2:5, 10:13].mean((1, 2)), x

    image = jnp.ones((1, 16, 16, 2))
    found = occlusion(model, image, 0, steps=16, size=0.2, score=scores.values)
    heatmap = np.asarray(found.heatmap[0])
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert 2 <= row < 5
    assert 10 <= column < 13
    assert heatmap[10:].max() == 0


def test_more_places_compile_anew_and_another_size_does_not():
    traces = []

    def model(x):
        traces.append(x.shape)
        return x.mean((1, 2)), x

    occlusion(model, images(), 0, steps=4, size=0.2)
    before = len(traces)
    occlusion(model, images(), 0, steps=4, size=0.5)
    assert len(traces) == before
