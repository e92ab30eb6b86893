import math

import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.cli import progress, system
from tests.cli.toy import LABELS, colour_network


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Leave the process's settings unchanged, and count every compilation."""
    monkeypatch.setattr(system, "keep_compiled_programs", lambda: None)


@pytest.fixture(autouse=True)
def no_lines_of_progress(monkeypatch):
    """Keep a slow machine from printing more lines than a fast one."""
    monkeypatch.setattr(progress, "LINES", (math.inf, math.inf))


@pytest.fixture
def traces(monkeypatch):
    """Replace `models.load` by a new colour network each time; the list has one entry per trace."""
    traces = []
    preprocess = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3, fit="crop")

    def load(name, weights=None, layer=None, dtype=None):
        return models.Classifier(colour_network(traces), preprocess, LABELS, (16, 16), "grid")

    monkeypatch.setattr(models, "load", load)
    return traces


@pytest.fixture
def photo(here):
    """A black photograph, 48 x 32, with a red square on the left and a small blue one at right."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[8:16, 8:16, 0] = 255
    pixels[16:24, 32:36, 2] = 200
    path = here / "photo.png"
    Image.fromarray(pixels).save(path)
    return path
