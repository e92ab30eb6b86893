"""Several layers at the command line."""

import json
import re

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from scorecam_jax import from_nnx, grad_cam, models
from tests.cli.toy import LABELS, scorecam

PREPROCESS = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3, fit="crop")


class Network(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.fine = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.coarse = nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(6, len(LABELS), rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.coarse(nnx.relu(self.fine(x)))).mean((1, 2)))


@pytest.fixture
def network(monkeypatch):
    network = Network()

    def load(name, weights=None, layer=None, dtype=None):
        model = from_nnx(network, layer)
        return models.Classifier(model, PREPROCESS, LABELS, (16, 16), layer or "coarse")

    monkeypatch.setattr(models, "load", load)
    return network


def test_layers_are_explained_together(network, photo, capsys):
    command = ["explain", photo, "--method", "grad-cam", "--target", "0", "--json"]
    assert scorecam(*command, "--layers", "2", "--fuse", "mean", "--save-map", "map.npy") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["layers"], document["fuse"]) == (2, "mean")
    inputs = np.asarray(PREPROCESS(Image.open(photo)))[None]
    explain = jax.jit(lambda inputs: grad_cam(from_nnx(network, layers=2), inputs, 0, fuse="mean"))
    (expected,) = explain(inputs).heatmap
    (saved,) = np.load("map.npy")
    np.testing.assert_allclose(saved, PREPROCESS.restore(expected, (48, 32)), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fuse", "mean"], "fuses the maps of several layers"),
        (["--layers", "3"], "layers=3, but .* only 2 grids"),
        (["--layers", "2", "--pixels"], "--layers 1"),
    ],
)
def test_what_does_not_fit_is_refused(network, photo, capsys, options, words):
    assert scorecam("explain", photo, "--method", "grad-cam", *options) == 2
    assert re.search(words, capsys.readouterr().err)
