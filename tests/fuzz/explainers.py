"""All methods and variants, small enough to be compiled many times."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from scorecam_jax import Deviation, Gradient, Interpolated, score_cam
from scorecam_jax._internal.signatures import options_of
from scorecam_jax.methods import METHODS, variants
from tests.fuzz.cases import SHAPE, network

KEY = jax.random.key(0)
_SMALL = {
    "is-cam": {"steps": 2},
    "ss-cam": {"key": KEY, "samples": 2},
    "group-cam": {"groups": 2, "baseline": 0.0},
    "opti-cam": {"steps": 2},
    "rise": {"key": KEY, "count": 6, "cells": 3},
    "occlusion": {"steps": 3},
}
_VARIANTS = {**variants.BY_NAME, "signed": variants.SIGNED}
_CHOICES = {"deviation": Deviation(3), "gradient": Gradient(3), "interpolated": Interpolated(3)}

EXPLAINERS = {
    **{name: functools.partial(METHODS[name], **_SMALL.get(name, {})) for name in METHODS},
    **{f"{name} variant": functools.partial(score_cam, variant=_VARIANTS[name]) for name in _VARIANTS},
    **{f"{name} channels": functools.partial(score_cam, channels=_CHOICES[name]) for name in _CHOICES},
}  # fmt: skip

# What makes the methods' maps: the sum of the maps by the weights, or something else.
_OTHER_SUMS = {
    "hires-cam", "layer-cam", "recipro-cam", "group-cam", "opti-cam", "rise", "occlusion", "uniform",
    "center", *(f"{name} variant" for name in (
        "yiskw713", "tabayashi", "pytorch-grad-cam", "torchcam", "tf-keras-vis"
    )),
}  # fmt: skip
SUMS = [name for name in EXPLAINERS if name not in _OTHER_SUMS]

# Draws at random for each channel or place, or takes the first of equals.
_IN_ORDER = {"ss-cam", "group-cam"} | {f"{name} channels" for name in _CHOICES}
_IN_PLACE = {"ss-cam", "group-cam", "rise", "pytorch-grad-cam variant", "interpolated channels"}
# Knows sizes: of an epsilon, of noise, or of a map that is taken as it is.
_OF_A_SIZE = {"ss-cam"} | {
    f"{name} variant"
    for name in ("yiskw713", "tabayashi", "pytorch-grad-cam", "torchcam", "tf-keras-vis")
}

DIRECTION = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype("float32")


def takes(name, option):
    explainer = EXPLAINERS[name]
    return option in options_of(explainer.func)


def explanation(name, case, **options):
    """An explanation of a case, whose arrays may be traced."""
    if takes(name, "batch_size"):
        options = {"batch_size": 64, **options}
    model = jax.tree_util.Partial(network, case.parameters)
    found = EXPLAINERS[name](model, case.inputs, case.targets, **options)
    return {
        field: getattr(found, field)
        for field in ("heatmap", "weights", "scores", "activations", "peak")
        if getattr(found, field) is not None
    }


def with_gradients(name, case, **options):
    """An explanation, and the gradients of a sum over its heatmap by all that may vary."""

    def loss(parameters, inputs):
        found = explanation(name, case._replace(parameters=parameters, inputs=inputs), **options)
        return (found["heatmap"] * DIRECTION).sum(), found

    slopes, found = jax.grad(loss, (0, 1), has_aux=True)(case.parameters, case.inputs)
    return {**found, "slopes": slopes[0], "slope": slopes[1]}


def compiled(function, name, **options):
    return jax.jit(lambda case: function(name, case, **options))


def in_numpy(tree):
    """Arrays in float64, to compare and to sum without further rounding."""
    return jax.tree.map(lambda array: np.asarray(array).astype(np.float64), tree)
