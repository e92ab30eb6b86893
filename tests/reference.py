"""Score-CAM's steps in plain NumPy, one map at a time, to test against."""

import itertools

import numpy as np


def resize(image, shape):
    """Interpolate linearly between pixel centres; beyond the outermost ones, take the nearest."""
    for axis, new in enumerate(shape):
        old = image.shape[axis]
        positions = (np.arange(new) + 0.5) * old / new - 0.5
        image = np.apply_along_axis(
            lambda line, at: np.interp(at, np.arange(len(line)), line), axis, image, positions
        )
    return image


def scale(image):
    """Scale to [0, 1]; a constant image becomes 0."""
    span = image.max() - image.min()
    return (image - image.min()) / span if span else np.zeros_like(image)


def finish(total, shape):
    return scale(np.maximum(resize(total, shape), 0))


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def score_cam(network, image, target, score=softmax, baseline=0.0):
    """OFFICIAL on one image; `network` maps a batch to (outputs, activations).

    Returns the heatmap, the weights, and each channel's score.
    """
    shape = image.shape[:-1]
    activations = np.asarray(network(image[None])[1], np.float64)[0]
    weights, scores = [], []
    for channel in np.moveaxis(activations, -1, 0):
        constant = channel.max() == channel.min()
        mask = scale(resize(channel, shape))[..., None] * (not constant)
        masked = image * mask + np.broadcast_to(baseline, image.shape) * (1 - mask)
        outputs = network(masked.astype(image.dtype)[None])[0]
        scores.append(score(np.asarray(outputs, np.float64))[0, target])
        weights.append(0.0 if constant else scores[-1])
    total = sum(w * a for w, a in zip(weights, np.moveaxis(activations, -1, 0), strict=True))
    return finish(total, shape), np.array(weights), np.array(scores)


def places(shape):
    return itertools.product(*map(range, shape))
