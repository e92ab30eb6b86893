"""Networks of several inputs: every method explains the image, which comes first."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from scorecam_jax import from_function, fuse_layers, grad_cam, group_cam, per_input
from scorecam_jax.methods.dff import find_concepts
from scorecam_jax.methods.rounds import score_cam_round
from scorecam_jax.methods.wrappers import eigen_smoothed, noise_smoothed
from tests.fuzz.explainers import EXPLAINERS

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.uniform(size=(2, 8, 6, 3)), jnp.float32)
AGES = jnp.asarray(RNG.normal(size=(2, 4)), jnp.float32)
WEIGHTS = [jnp.asarray(RNG.normal(size=size), jnp.float32) for size in ((3, 5), (5, 4))]

# Those that need the image ahead of what all methods do with their arguments.
BEFORE = {
    "group-cam": functools.partial(group_cam, groups=2),
    "noise-smoothed": noise_smoothed(grad_cam, key=jax.random.key(0), samples=1),
    "score-cam-round": functools.partial(score_cam_round, targets=1, count=3),
}
CASES = {
    **EXPLAINERS,
    **BEFORE,
    "eigen-smoothed": eigen_smoothed(grad_cam),
    "fuse-layers": functools.partial(fuse_layers, method=grad_cam),
}
NAMES = [name if name in BEFORE else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


def network(weights, images, ages):
    first = checkpoint_name(jax.nn.relu(jnp.matmul(images, weights[0])), "first")
    second = checkpoint_name(jax.nn.relu(first - 0.1), "second")
    return jnp.matmul(second.mean((1, 2)), weights[1]) * ages


def of_a_dict(weights, inputs):
    return network(weights, inputs["pixels"], inputs["ages"])


def of_a_tuple(weights, inputs):
    return network(weights, *inputs)


# JAX sorts the keys of a dict that it traces: the ages would be the first.
SEVERAL = {
    "dict": (of_a_dict, {"pixels": IMAGES, "ages": AGES}),
    "tuple": (of_a_tuple, (IMAGES, AGES)),
}


def check_that_both_agree(method, container, layer="second", **options):
    """Compare inputs in a container with an image and further arguments."""
    function, inputs = SEVERAL[container]
    found = method(from_function(function, WEIGHTS, layer), inputs, **options)
    declared = from_function(network, WEIGHTS, layer, per_input(AGES))
    expected = method(declared, IMAGES, **options)
    assert jnp.max(jax.tree.leaves(found)[0]) > 0
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_may_be_a_dict(name):
    layer = ["first", "second"] if name == "fuse-layers" else "second"
    check_that_both_agree(CASES[name], "dict", layer, targets=[1, 3])


@pytest.mark.parametrize("name", ["group-cam", "noise-smoothed"])
def test_inputs_may_be_a_tuple(name):
    check_that_both_agree(CASES[name], "tuple", targets=[1, 3])


FIND = functools.partial(find_concepts, concepts=2, steps=9)


@pytest.mark.slow
def test_concepts_are_found_in_the_image():
    check_that_both_agree(FIND, "dict")


@pytest.mark.parametrize("method", [FIND, BEFORE["score-cam-round"]], ids=["concepts", "round"])
def test_numbers_in_lists_are_one_input(method):
    model = from_function(network, WEIGHTS, "second", per_input(AGES))
    expected, found = method(model, IMAGES), method(model, np.asarray(IMAGES).tolist())
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), found, expected)
