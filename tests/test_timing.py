import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.methods.base import Explanation
from scorecam_jax.timing import _much_faster, bench, blobs, compare_with_exact, take_turns

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
    default = found["batch_size"]
    assert list(found["passes_per_second_at"]) == [default // 2, default, 2 * default]
    assert min(found["passes_per_second_at"].values()) > 0


def test_a_batch_size_is_named_if_it_is_much_faster_than_the_default():
    assert _much_faster({2: 9.0, 4: 10.0, 8: 12.0}, 4) is None
    assert _much_faster({2: 14.0, 4: 10.0, 8: 13.5}, 4) == 2
    assert _much_faster({64: 10.0}, 128) == 64  # there is too little memory for the default
    assert _much_faster({}, 4) is None


@pytest.mark.slow
@pytest.mark.usefixtures("cpus")
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
    ramps = jnp.linspace(0, 1, 9).reshape(1, 1, 3, 3) ** jnp.arange(1, 4).reshape(1, 3, 1, 1)
    asked = []

    def explainer(seconds, change):
        def explain(image, targets):
            asked.append(targets.tolist())
            time.sleep(seconds)
            maps = change(ramps, image)
            return Explanation(maps, None, None, None, None, targets, jnp.ones((1, 3)))

        return explain

    def model(image):  # of three classes, the likeliest first
        return jnp.array([[0.1, 0.7, 0.2]]), None

    found = compare_with_exact(
        model,
        {
            "exact": explainer(0.01, lambda ramps, image: ramps),
            "other way round": explainer(0.05, lambda ramps, image: 1 - ramps),
            "dark on one image": explainer(
                0, lambda ramps, image: ramps.at[:, 1:].multiply(image[0, 0, 0, 0])
            ),
        },
        [jnp.full((1, 2, 2, 3), value) for value in (0.25, 1.0)],
    )
    exact, inverse, dark = found.values()
    for classes in ("first", "next"):
        alike = exact[classes]["correlation"], exact[classes]["least_correlation"]
        assert alike == pytest.approx((1, 1))
        assert exact[classes]["largest_difference"] == 0
        assert inverse[classes]["correlation"] == pytest.approx(-1)
        assert inverse[classes]["largest_difference"] == 1
        assert dark[classes]["correlation"] == pytest.approx(1)
    assert dark["first"]["largest_difference"] == 0
    assert dark["next"]["largest_difference"] == pytest.approx(0.75)
    assert exact["seconds"] < inverse["seconds"]
    assert asked == [[[1, 2, 0]]] * 9


def test_blobs_are_smooth_and_the_same_each_time():
    pixels = np.asarray(blobs(), float)
    np.testing.assert_array_equal(pixels, np.asarray(blobs()))
    assert np.abs(np.diff(pixels, axis=1)).mean() < 5 < pixels.std()
    assert (np.asarray(blobs(1)) != pixels).any()
