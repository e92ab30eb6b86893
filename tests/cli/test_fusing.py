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


def test_layers_stand_side_by_side_under_their_names(network, photo, here, capsys):
    command = ["compare", photo, "--methods", "grad-cam", "--target", "0", "--json"]
    assert scorecam(*command, "--layers", "all", "--save-map", "map.npy") == 0
    (told,) = json.loads(capsys.readouterr().out)["photos"][0]["targets"]
    assert [one["method"] for one in told["maps"]] == ["coarse:relu", "fine:relu"]
    inputs = np.asarray(PREPROCESS(Image.open(photo)))[None]
    for layer, saved in zip(("coarse:relu", "fine:relu"), np.load("map.npy")[:, 0], strict=True):
        expected = jax.jit(grad_cam)(from_nnx(network, layer), inputs, 0).heatmap[0]
        np.testing.assert_allclose(saved, PREPROCESS.restore(expected, (48, 32)), atol=1e-5)
    with Image.open("photo-compared.png") as picture:
        assert (picture.text["Method"], picture.text["Layer"]) == (
            "grad-cam",
            "coarse:relu, fine:relu",
        )


def test_a_report_of_several_layers_tells_methods_and_layers_apart(network, photo, here):
    options = ["--methods", "grad-cam,uniform", "--layers", "fine,coarse", "--target", "0"]
    assert scorecam("report", photo, *options) == 0
    page = (here / "report.html").read_text("utf-8")
    assert "1 photograph, grad-cam and uniform at 2 layers" in page
    assert '"named":[["grad-cam","fine"],["grad-cam","coarse"],["uniform","fine"]' in page


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
