"""What a map costs: images put through the network, and compilations."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import METHODS, Gradient, metrics, score_cam
from scorecam_jax._internal.signatures import options_of
from tests.networks import CHANNELS, EVERY, images, network

KEY = jax.random.key(0)
SETTINGS = {"count": 20, "samples": 3, "steps": 4, "cells": 3}
LIVE = CHANNELS - 2  # the network has a dead channel and a constant one
PLACES = 5 * 7


def settings(method):
    """Small settings, and a key, for those a method takes."""
    found = {name: SETTINGS[name] for name in options_of(method) if name in SETTINGS}
    return found | ({"key": KEY} if "key" in options_of(method) else {})


class Counter:
    """A model that counts the inputs it is run on and the times it is traced."""

    def __init__(self):
        self.inputs, self.traces = 0, 0

    def model(self):
        inner = network()

        def count(x):
            self.inputs += len(x)

        def model(x, edit=None):
            self.traces += 1
            jax.debug.callback(count, x)
            return inner(x) if edit is None else inner(x, edit=edit)

        return model


# Of one image: what is read, and what is masked or edited, in batches of one.
PASSES = {
    "score-cam": 1 + LIVE + 1,
    "is-cam": 1 + 4 * (LIVE + 1),
    "ss-cam": 1 + 3 * (LIVE + 1),
    "rise": 1 + 20,
    "occlusion": 1 + 4**2,
    "opti-cam": 1 + 4,
    "group-cam": 1 + LIVE + 1,  # six channels make six groups of one
    "gscore-cam": 1 + LIVE + 1,
    "poly-cam": 1 + 2 * (LIVE + 1),
    "ablation-cam": 1 + CHANNELS,
    "recipro-cam": 1 + PLACES,
    "shapley-cam": 1 + 1,
    "smooth-grad-cam++": 1 + 3,
    "dff": 1 + 5,
    "full-grad": 1 + 1,
    "gradient": 1 + 1,
    "gradient-times-input": 1 + 1,
    "integrated-gradients": 1 + 4 + 1,
    "smooth-grad": 1 + 3,
}


@pytest.mark.parametrize("name", EVERY)
def test_passes_of_the_network_for_a_map(name):
    counter, method = Counter(), METHODS[name]
    one = {"batch_size": 1} if "batch_size" in options_of(method) else {}
    jax.block_until_ready(method(counter.model(), images(batch=1), 1, **settings(method), **one))
    jax.effects_barrier()
    assert counter.inputs == PASSES.get(name, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_second_call_traces_nothing_whatever_the_values(name):
    counter, method = Counter(), METHODS[name]
    model, options = counter.model(), settings(method)
    baseline = "baseline" in options_of(method)
    method(model, images(seed=0), [1, 0], **options, **({"baseline": 0.25} if baseline else {}))
    traces = counter.traces
    floats = {
        parameter.name: parameter.default / 2
        for parameter in inspect.signature(method).parameters.values()
        if isinstance(parameter.default, float)
    }
    if baseline:
        floats["baseline"] = 0.5
    method(model, images(seed=1), [2, 1], **options, **floats)
    assert counter.traces == traces


def test_a_float_that_is_given_changes_the_result():
    halves = [
        METHODS["ss-cam"](network(), images(), 1, key=KEY, samples=2, deviation=deviation).weights
        for deviation in (0.1, 2.0)
    ]
    assert np.abs(halves[0] - halves[1]).max() > 1e-3


@pytest.mark.parametrize("channels", [2, Gradient(2)])
def test_fewer_channels_take_fewer_passes(channels):
    counter = Counter()
    score_cam(counter.model(), images(batch=1), 1, channels=channels, batch_size=1)
    jax.effects_barrier()
    extra = isinstance(channels, Gradient)  # its backward pass needs a forward pass
    assert counter.inputs == 1 + extra + 2 + 1


def test_metrics_take_one_pass_for_each_masked_input():
    counter = Counter()
    maps = jnp.ones((1, 9, 14))
    metrics.average_drop(counter.model(), images(batch=1), maps, 1, batch_size=1)
    jax.effects_barrier()
    assert counter.inputs == 1 + 2


def test_partials_have_the_options_of_what_they_wrap():
    assert options_of(functools.partial(score_cam, channels=3)) == options_of(score_cam)
