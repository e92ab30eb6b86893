"""Networks of 100 channels for the app, with scores of classes, of places or of boxes; photographs.

`--model tests.app.toy:classifier` loads the first.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from scorecam_jax.app.engine import Networks
from scorecam_jax.models import Classifier, Preprocess

LABELS = ("red panda, lesser panda", "tiger, Panthera tigris", "crane", "crane", "blue jay")
CHANNELS = 100
SIZE = (16, 24)


def _activations(mix, x, edit):
    found = jax.nn.relu(x.reshape(-1, 4, 4, 6, 4, 3).mean((2, 4)) @ mix)
    return edit(found) if edit else found


def _classes(weights, x, edit=None):
    found = _activations(weights[0], x, edit)
    return found.mean((1, 2)) @ weights[1], found


def _places(weights, x, edit=None):
    found = _activations(weights[0], x, edit)
    return found @ weights[1], found


def _boxes(weights, x, edit=None):
    found = _activations(weights[0], x, edit)
    scores = jax.nn.sigmoid(found.mean((1, 2)) @ weights[1])[:, None]
    # Two boxes: the left half of the input is sure, the right one is not.
    boxes = jnp.array([[0.0, 0.0, 12.0, 16.0], [12.0, 0.0, 24.0, 16.0]])
    boxes = jnp.broadcast_to(boxes[None], (len(found), 2, 4))
    return (boxes, jnp.concatenate([scores, scores / 4], 1)), found


@functools.cache
def _classifier(kind):
    random = np.random.default_rng(0)
    mix = jnp.asarray(random.normal(size=(3, CHANNELS)), jnp.float32)
    head = jnp.asarray(0.2 * random.normal(size=(CHANNELS, len(LABELS))), jnp.float32)
    model = jax.tree_util.Partial(kind, (mix, head))
    preprocess = Preprocess(SIZE, (127.0,) * 3, (64.0,) * 3)
    return Classifier(model, preprocess, LABELS, SIZE, "grid")


def classifier():
    return _classifier(_classes)


def networks(kind=_classes, **source):
    return Networks(lambda **how: _classifier(kind), **source)


def of_places():
    return networks(_places)


def of_boxes():
    return networks(_boxes)


def save_photo(path, size=(48, 40), seed=0):
    """Save blocks of colour. The network sees the middle 32 pixels of the height."""
    colours = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    Image.fromarray(colours).resize(size, Image.Resampling.NEAREST).save(path)
    return path
