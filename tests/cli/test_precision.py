"""Rounded products at the command line."""

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from scorecam_jax import from_nnx, grad_cam, models
from scorecam_jax.adapters import with_bfloat16_products
from tests.cli.toy import LABELS, scorecam

PREPROCESS = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3, fit="crop")


class Network(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.grid = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(4, len(LABELS), rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.grid(x)).mean((1, 2)))


def test_products_are_rounded_on_request(photo, monkeypatch):
    model = from_nnx(Network())
    classifier = models.Classifier(model, PREPROCESS, LABELS, (16, 16), "grid")
    monkeypatch.setattr(models, "load", lambda *_, **__: classifier)
    command = ["explain", photo, "--method", "grad-cam", "--target", "0", "--force"]
    inputs = np.asarray(PREPROCESS(Image.open(photo)))[None]
    maps = []
    for network, options in (
        (model, []),
        (with_bfloat16_products(model), ["--precision", "bfloat16"]),
    ):
        assert scorecam(*command, *options, "--save-map", "map.npy") == 0
        (expected,) = jax.jit(grad_cam)(network, inputs, 0).heatmap
        maps.append(np.load("map.npy")[0])
        np.testing.assert_allclose(maps[-1], PREPROCESS.restore(expected, (48, 32)), atol=1e-6)
    assert np.abs(maps[1] - maps[0]).max() > 1e-4


@pytest.mark.usefixtures("traces")
def test_a_network_that_no_adapter_made_is_refused(photo, capsys):
    assert scorecam("explain", photo, "--precision", "bfloat16") == 2
    assert "cannot round the products of a Partial" in capsys.readouterr().err


@pytest.mark.usefixtures("traces")
def test_shortcuts_are_compared_in_float32(photo, capsys):
    assert scorecam("bench", "--precision", "bfloat16", "--shortcuts", photo) == 2
    assert "leave out --precision" in capsys.readouterr().err
