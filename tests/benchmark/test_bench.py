import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.benchmark.bench import bench, blobs, compare_with_exact, take_turns
from scorecam_jax.methods.base import Explanation

WIDTH = 64


@pytest.fixture(scope="module")
def classifier():
    """Four channels: the mean, nothing, the mean's negative part, and the mean of the left half."""
    kernel = jnp.ones((3, WIDTH)) / 3
    square = jnp.eye(WIDTH)

    def run(weights, inputs):
        kernel, square = weights
        features = inputs[:, ::4, ::4] @ kernel
        features = features @ square
        grey = features.mean(-1, keepdims=True)
        left = grey.at[:, :, 2:].set(0)
        activations = jnp.concatenate([grey, 0 * grey, jax.nn.relu(-grey), left], -1)
        return activations.mean((1, 2)), activations

    model = jax.tree_util.Partial(run, (kernel, square))
    preprocess = models.Preprocess((16, 16), (0.0,) * 3, (255.0,) * 3, fit="stretch")
    return models.Classifier(model, preprocess, ("a", "b", "c", "d"), (16, 16), "grid")


def test_figures_agree_with_one_another(classifier):
    found = bench(classifier, blobs(), batch_sizes=[1, 4], repeats=2)
    rates = found["forward_images_per_second"]
    assert list(rates) == [1, 4]
    assert found["channels"] == 4
    assert found["live_channels"] == 2
    assert found["passes"] == 3
    assert found["passes_per_second"] == pytest.approx(3 / found["seconds"])
    assert found["share_of_forward"] == pytest.approx(
        found["passes_per_second"] / max(rates.values())
    )
    assert 0 < found["seconds"] < 5
    assert found["compile_seconds"] > 0
    assert 0 < found["five_targets"] < 100


def test_operations_are_those_of_the_network(classifier):
    found = bench(classifier, blobs(), batch_sizes=[2], repeats=1)
    products = 2 * 16 * (3 * WIDTH + WIDTH * WIDTH)
    assert products <= found["flops_per_pass"] < 1.2 * products
    share = found["flops_per_pass"] * found["passes_per_second"] / found["peak_flops"]
    assert found["share_of_peak_flops"] == pytest.approx(share)
    matrix = np.ones((512, 512), np.float32)
    began = time.perf_counter()
    matrix @ matrix
    numpy_flops = 2 * 512**3 / (time.perf_counter() - began)
    assert numpy_flops / 100 < found["peak_flops"] < 100 * numpy_flops


def test_channels_that_are_not_chosen_are_not_counted(classifier):
    found = bench(classifier, blobs(), batch_sizes=[1], channels=1, repeats=1)
    assert found["live_channels"] == 2
    assert found["passes"] == 2
    dark = bench(classifier, Image.new("RGB", (8, 8)), batch_sizes=[1], channels=1, repeats=1)
    assert dark["passes"] == 1


def test_runs_take_turns_and_the_first_does_not_count():
    calls = []

    def run(name, first, later):
        calls.append(name)
        time.sleep(first if calls.count(name) == 1 else later)

    told = []
    seconds = take_turns(
        {"a": lambda: run("a", 0.3, 0.01), 2: lambda: run(2, 0.3, 0.05)}, 3, told.append
    )
    assert calls == ["a", 2] * 4
    assert 0.01 <= seconds["a"] < seconds[2] < 0.3
    assert told[1] == "batches of 2, warming up"
    assert told[-2:] == ["a, run 3 of 3", "batches of 2, run 3 of 3"]


def test_maps_are_compared_with_the_first():
    ramp = jnp.linspace(0, 1, 9).reshape(1, 3, 3)
    asked = []

    def explainer(seconds, change):
        def explain(image, targets):
            asked.append(targets)
            time.sleep(seconds)
            return Explanation(change(ramp, image), None, None, None, None, jnp.array([7]))

        return explain

    found = compare_with_exact(
        {
            "exact": explainer(0.01, lambda ramp, image: ramp),
            "other way round": explainer(0.05, lambda ramp, image: 1 - ramp),
            "dark on one image": explainer(0, lambda ramp, image: ramp * image[0, 0, 0, 0]),
        },
        [jnp.full((1, 2, 2, 3), value) for value in (0.25, 1.0)],
    )
    exact, inverse, dark = found.values()
    assert exact["correlation"] == exact["least_correlation"] == pytest.approx(1)
    assert exact["largest_difference"] == 0
    assert inverse["correlation"] == pytest.approx(-1)
    assert inverse["largest_difference"] == 1
    assert dark["correlation"] == pytest.approx(1)
    assert dark["largest_difference"] == pytest.approx(0.75)
    assert dark["seconds"] < exact["seconds"] < inverse["seconds"] < 0.2
    # All but the exact one, which chooses the targets, are told them.
    assert [targets is None for targets in asked] == ([True] + [False] * 2) * 3
    assert asked[1].tolist() == [7]


def test_blobs_are_smooth_and_the_same_each_time():
    pixels = np.asarray(blobs(), float)
    np.testing.assert_array_equal(pixels, np.asarray(blobs()))
    assert np.abs(np.diff(pixels, axis=1)).mean() < 5 < pixels.std()
    assert (np.asarray(blobs(1)) != pixels).any()
