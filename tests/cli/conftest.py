import math

import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.cli import progress, system
from tests.cli.toy import LABELS, colour_network


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Keep the tests' own process as it is, and count every compilation."""
    monkeypatch.setattr(system, "keep_compiled_programs", lambda: None)


@pytest.fixture(autouse=True)
def no_lines_of_progress(monkeypatch):
    """Keep a slow machine from telling more than a fast one."""
    monkeypatch.setattr(progress, "LINES", (math.inf, math.inf))


@pytest.fixture
def traces(monkeypatch):
    """A colour network in place of the real one, a new one each time; how often it is traced."""
    traces = []
    preprocess = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3, fit="crop")

    def load(name, weights=None, layer=None, dtype=None):
        return models.Classifier(colour_network(traces), preprocess, LABELS, (16, 16), "grid")

    monkeypatch.setattr(models, "load", load)
    return traces


@pytest.fixture
def photo(here):
    """Black, 48 x 32, but for a red square left of the middle and a small blue one to the right."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[8:16, 8:16, 0] = 255
    pixels[16:24, 32:36, 2] = 200
    path = here / "photo.png"
    Image.fromarray(pixels).save(path)
    return path
