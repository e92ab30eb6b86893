"""All methods and variants, with options small enough for many compilations."""

import dataclasses
import functools

import jax
import numpy as np

from scorecam_jax import Deviation, Gradient, Interpolated, score_cam
from scorecam_jax._internal.signatures import options_of
from scorecam_jax.methods import METHODS, variants
from tests.fuzz.cases import CHANNELS, SHAPE, network

KEY = jax.random.key(0)
_SMALL = {
    "is-cam": {"steps": 2},
    "ss-cam": {"samples": 2},
    "group-cam": {"groups": 2, "baseline": 0.0},
    "opti-cam": {"steps": 2},
    "rise": {"count": 6, "cells": 3},
    "occlusion": {"steps": 3},
    "gscore-cam": {"count": 3},
    "dff": {"concepts": 2, "steps": 20},
    "integrated-gradients": {"steps": 4},
    "smooth-grad": {"samples": 2},
    "smooth-grad-cam++": {"samples": 2},
}
_RANDOM = {name for name in METHODS if "key" in options_of(METHODS[name])}
_VARIANTS = {**variants.BY_NAME, "signed": variants.SIGNED}
_CHOICES = {"deviation": Deviation(3), "gradient": Gradient(3), "interpolated": Interpolated(3)}

EXPLAINERS = {
    **{
        name: functools.partial(
            METHODS[name], **_SMALL.get(name, {}), **({"key": KEY} if name in _RANDOM else {})
        )
        for name in METHODS.of_any_network()
    },
    **{
        f"{name} variant": functools.partial(score_cam, variant=variant)
        for name, variant in _VARIANTS.items()
    },
    **{
        f"{name} channels": functools.partial(score_cam, channels=choice)
        for name, choice in _CHOICES.items()
    },
}

# Formulas that depend on the unit: with an epsilon, a tanh, or a constant map used as a mask.
_BY_SIZE = {
    "poly-cam",
    "kpca-cam",
    *(f"{name} variant" for name in set(_VARIANTS) - {"official", "increase", "paper", "signed"}),
}
FINISHED_OTHERWISE = {*_BY_SIZE, "opti-cam"} - {"poly-cam"}
"""Methods with weights whose sums are not simply rectified and scaled. All other sums are."""

_CHOOSES = {f"{name} channels" for name in _CHOICES}
MINDS = {
    "batch order": set(),
    # Noise and groups depend on a channel's number, and the first of equal channels is chosen.
    "channel order": {
        "group-cam",
        "gscore-cam",
        "ss-cam",
        "smooth-grad",
        "smooth-grad-cam++",
        *_CHOOSES,
    },
    # Random masks and noise depend on the place. A group's threshold is one of its own values. Of
    # channels or places that are equal up to rounding, any may be chosen.
    "flip": {*_RANDOM, "dff", "group-cam", "gscore-cam", "pytorch-grad-cam variant", *_CHOOSES},
    "size": {"ss-cam", *_BY_SIZE},
}
"""The methods whose results a change affects."""

OF_ONE_SIZE = {"yiskw713 variant", "tabayashi variant", "kpca-cam"}
"""Methods that cannot take all sizes. A constant map of 1e30 is itself a mask, and too large when
multiplied by the input. A kernel of products of 1e27 is flat, except where its slope is 1e54."""


def suited(name, dtype, recipe):
    """Adapt a recipe to the values that a method's formula can take."""
    if name in OF_ONE_SIZE:
        recipe = dataclasses.replace(recipe, size=1.0, shares=(1.0,) * CHANNELS)
    if (name, dtype) == ("opti-cam", "float16"):
        # Adam divides by the gradient. Where that is 0, the slope is 1e8, too much for float16.
        recipe = dataclasses.replace(recipe, gain=recipe.gain or 1.0)
    if name == "occlusion":
        # Its heatmap shows drops of the score. For an unlikely class, these are only rounding.
        recipe = dataclasses.replace(recipe, gap=min(recipe.gap, 20.0))
    return recipe


DIRECTION = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype("float32")


def takes(name, option):
    explainer = EXPLAINERS[name]
    return option in options_of(explainer.func)


def explanation(name, case, **options):
    """The explanation of a case, whose arrays may be traced."""
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
    """An explanation, and the gradients of a sum over its heatmap by parameters and inputs."""

    def loss(parameters, inputs):
        found = explanation(name, case._replace(parameters=parameters, inputs=inputs), **options)
        return (found["heatmap"] * DIRECTION).sum() * case.unit, found

    slopes, found = jax.grad(loss, (0, 1), has_aux=True)(case.parameters, case.inputs)
    return {**found, "slopes": slopes[0], "slope": slopes[1]}


def compiled(function, name, **options):
    return jax.jit(lambda case: function(name, case, **options))


def in_numpy(tree):
    """Convert arrays to float64, to compare and sum them without further rounding."""
    return jax.tree.map(lambda array: np.asarray(array).astype(np.float64), tree)
