import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from scorecam_jax import group_cam
from tests import reference
from tests.networks import CHANNELS, images, network


def blurred(image):
    """Two passes of a Gaussian of 51 pixels, the last values repeated beyond the edges."""
    for axis in (0, 1):
        image = gaussian_filter1d(image, 50.0, axis, mode="nearest", radius=25)
    return image


def by_hand(image, target, groups):
    model = network()
    _, activations = model(image[None])
    slope = jax.grad(lambda tap: model(image[None], edit=lambda a: a + tap)[0][0, target])
    weights = np.asarray(slope(jnp.zeros_like(activations))).mean((0, 1, 2))
    maps, background = np.asarray(activations[0]), blurred(image)

    def probability(shown):
        return reference.softmax(np.asarray(model(shown[None].astype("float32"))[0]))[0, target]

    total = np.zeros(image.shape[:2])
    for members in np.array_split(np.arange(CHANNELS), groups):
        mask = np.maximum((weights * maps)[..., members].sum(-1), 0)
        mask = np.where(mask > np.percentile(mask, 70), mask, 0)
        mask = reference.scale(reference.resize(mask, image.shape[:2]))
        shown = image * mask[..., None] + background * (1 - mask[..., None])
        total += (probability(shown) - probability(background)) * mask
    return reference.scale(np.maximum(total, 0))


@pytest.mark.parametrize("groups", [3, 6])
def test_equals_the_formula_one_group_at_a_time(groups):
    targets = np.array([[0, 2], [1, 0]])
    found = group_cam(network(), images(), targets, groups=groups).heatmap
    assert np.ptp(found) == 1
    for image in range(2):
        for number, target in enumerate(targets[image]):
            expected = by_hand(images()[image], target, groups)
            np.testing.assert_allclose(found[image, number], expected, atol=1e-4)


def test_the_last_group_may_be_smaller_and_there_are_no_empty_ones():
    assert group_cam(network(), images(), 1, groups=4).scores.shape == (2, 3)  # 2, 2 and 2
    assert group_cam(network(), images(), 1).scores.shape == (2, CHANNELS)
    with pytest.raises(ValueError, match="groups=0, wanted at least 1"):
        group_cam(network(), images(), 1, groups=0)
