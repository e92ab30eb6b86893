"""Each variant against the maps that the published implementation itself returned, and its steps
against plain loops.
"""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, special

from scorecam_jax import Deviation, score_cam
from scorecam_jax.methods import variants
from scorecam_jax.steps import combine, weights
from scorecam_jax.steps.masks import resize
from tests.agreement import note

PUBLISHED = Path(__file__).parents[1] / "data" / "published"

ORIGINALS = {
    "haofanwang": ("official", "haofanwang/Score-CAM"),
    "yiskw713": ("yiskw713", "yiskw713/ScoreCAM"),
    "tabayashi_lowres": ("tabayashi", "tabayashi0117/Score-CAM"),
    "tabayashi_top4_lowres": ("tabayashi, Deviation(4)", "tabayashi0117/Score-CAM, max_N=4"),
    "pytorch_grad_cam": ("pytorch-grad-cam", "grad-cam 1.5.7"),
    "torchcam_lowres": ("torchcam", "torchcam 0.5.0"),
    "tf_keras_vis": ("tf-keras-vis", "tf-keras-vis 0.8.7"),
    "tf_keras_vis_top4": ("tf-keras-vis, Deviation(4)", "tf-keras-vis 0.8.7, max_N=4"),
}


def network(arrays, rectify, x):
    def convolve(x, name, stride):
        y = jax.lax.conv_general_dilated(
            x, arrays[f"{name}_hwio"], (stride, stride), [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return y + arrays[f"{name}_bias"].reshape(1, 1, 1, -1)

    signed = convolve(jax.nn.relu(convolve(x, "conv1", 2)), "conv2", 1)
    rectified = jax.nn.relu(signed)
    logits = rectified.mean((1, 2)) @ arrays["dense_io"] + arrays["dense_bias"][None]
    return logits, jnp.where(rectify, rectified, signed)


def published():
    """Name, shape, layer and targets of the maps, those of one compilation side by side."""
    for shape in ("square", "wide"):
        with np.load(PUBLISHED / f"{shape}.npz") as arrays:
            keys = [key.split("/")[::-1] for key in arrays.files if "/" in key]
        keys.sort(key=lambda key: (key[0], key[2]))
        for (name, layer), maps in itertools.groupby(keys, lambda key: (key[0], key[2])):
            targets = [int(target.removeprefix("target")) for _, target, _ in maps]
            yield pytest.param(name, shape, layer, targets, id=f"{name}-{shape}-{layer}")


@pytest.mark.parametrize(("name", "shape", "layer", "targets"), list(published()))
def test_equals_the_published_implementation(name, shape, layer, targets, record_property):
    with np.load(PUBLISHED / f"{shape}.npz") as file:
        arrays = dict(file)
    variant, package = ORIGINALS[name]
    heatmap = score_cam(
        jax.tree_util.Partial(network, arrays, np.array(layer == "relu")),
        arrays["input_nhwc"][None],
        [targets],
        variant=variants.BY_NAME[variant.partition(",")[0]],
        channels=Deviation(4) if "top4" in name else None,
    ).heatmap[0]
    expected = np.stack([arrays[f"{layer}/target{target}/{name}"] for target in targets])
    if name.endswith("_lowres"):
        expected = resize(jnp.asarray(expected), heatmap.shape[1:])
    size = "{} × {}".format(*heatmap.shape[1:])
    difference = np.abs(heatmap - expected).max()
    note(record_property, variant, package, "two convolutions", layer, size, difference)
    assert expected.max() > 0.5
    assert difference <= 2e-5


def toy(x):
    """A layer at half the input's size, its last two channels constant, and four classes."""
    step = (slice(None), *[slice(None, None, 2)] * (x.ndim - 2))
    kernel = np.random.default_rng(1).normal(size=(x.shape[-1], 5)).astype(np.float32)
    signed = jnp.tanh(x[step] @ kernel)
    dead = jnp.zeros_like(signed[..., :1])
    activations = jnp.concatenate([signed, dead, dead + 0.7], -1)
    mixing = np.random.default_rng(2).normal(size=(7, 4)).astype(np.float32)
    return jax.nn.relu(activations).mean(range(1, x.ndim - 1)) @ (10 * mixing), activations


def random_inputs(*shape):
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("spatial", [(9,), (4, 6, 5)], ids=lambda s: f"{len(s)}-d")
@pytest.mark.parametrize("name", variants.BY_NAME)
def test_heatmaps_have_the_inputs_size_and_lie_between_0_and_1(name, spatial):
    explanation = score_cam(
        toy, random_inputs(2, *spatial, 2), [[0, 1, 2], [3, 2, 1]], variant=variants.BY_NAME[name]
    )
    heatmap = np.asarray(explanation.heatmap)
    assert heatmap.shape == (2, 3, *spatial)
    assert np.isfinite(heatmap).all()
    assert heatmap.min() >= 0
    assert 0.5 < heatmap.max() <= 1


def showing(activations, x):
    """A network with these activations, whatever its input."""
    shown = jnp.broadcast_to(activations[None], (len(x), *activations.shape))
    return jnp.stack([x.mean((1, 2, 3)), 0 * x[:, 0, 0, 0]], -1), shown


NEGATIVE = -1 - np.arange(24, dtype=np.float32).reshape(4, 3, 2)


@pytest.mark.parametrize(
    ("name", "activations"),
    [
        ("official", np.full((4, 3, 2), 0.5, np.float32)),  # returned None
        ("official", NEGATIVE),  # returned None
        ("yiskw713", NEGATIVE),  # returned NaN
        ("tabayashi", NEGATIVE),  # returned NaN
        *((name, np.zeros((4, 3, 2), np.float32)) for name in variants.BY_NAME),
    ],
)
def test_where_the_sum_says_nothing_the_heatmap_is_zero(name, activations):
    variant = variants.BY_NAME[name]
    model = jax.tree_util.Partial(showing, activations)
    heatmap = score_cam(model, jnp.ones((1, 8, 6, 3)), 0, variant=variant).heatmap
    np.testing.assert_array_equal(heatmap, np.zeros((1, 8, 6)))


def masks_one_by_one(activations, shape):
    """Upsample, then normalise, each map by itself, with SciPy."""
    for channel in np.moveaxis(np.asarray(activations, np.float64), -1, 0):
        zoom = np.divide(shape, channel.shape)
        up = ndimage.zoom(channel, zoom, order=1, mode="nearest", grid_mode=True)
        spread = np.ptp(channel)
        yield up, (up - up.min()) / np.ptp(up) if spread else np.zeros(shape)


def test_paper_is_algorithm_1():
    image, target = random_inputs(8, 6, 3), 2
    _, activations = toy(image[None])
    base = np.asarray(toy(np.zeros_like(image)[None])[0], np.float64)
    maps, scores = [], []
    for up, mask in masks_one_by_one(activations[0], (8, 6)):
        masked = (image * mask[..., None]).astype(np.float32)
        maps.append(up)
        scores.append(np.asarray(toy(masked[None])[0], np.float64)[0, target] - base[0, target])
    alpha = special.softmax(scores)
    sums = np.maximum(0, sum(a * up for a, up in zip(alpha, maps, strict=True)))

    explanation = score_cam(toy, image[None], target, variant=variants.PAPER)
    np.testing.assert_allclose(explanation.weights[0], alpha, atol=1e-5)
    expected = (sums - sums.min()) / np.ptp(sums)
    np.testing.assert_allclose(explanation.heatmap[0], expected, atol=1e-5)


def test_increase_of_confidence_composes_with_official():
    image, target, baseline = random_inputs(8, 6, 3), 1, np.float32([0.5, -1, 2])
    _, activations = toy(image[None])

    def confidence(x):
        return special.softmax(np.asarray(toy(x[None].astype(np.float32))[0][0]))[target]

    expected = []
    for _, mask in masks_one_by_one(activations[0], (8, 6)):
        mask = mask[..., None]
        shown = image * mask + baseline[None, None] * (1 - mask)
        empty = np.broadcast_to(baseline[None, None], image.shape)
        expected.append(confidence(shown) - confidence(empty))

    relative = variants.OFFICIAL._replace(weigh=weights.increase_of_confidence)
    explanation = score_cam(toy, image[None], target, variant=relative, baseline=baseline)
    np.testing.assert_allclose(explanation.weights[0], expected, atol=1e-5)


def test_yiskw713_sums_the_masks_it_showed():
    maps = jnp.asarray(np.abs(random_inputs(2, 3, 4, 45)))
    weight = jnp.asarray(random_inputs(2, 3, 45))
    render = variants.YISKW713.render
    sums = combine.sum_masks(maps, maps, weight, render, (6, 7))
    shown = render(jnp.moveaxis(maps, -1, 0).reshape(90, 3, 4), (6, 7))
    shown = np.asarray(shown, np.float64).reshape(45, 2, 6, 7)
    expected = np.zeros((2, 3, 6, 7))
    for image, target, channel in np.ndindex(2, 3, 45):
        expected[image, target] += weight[image, target, channel] * shown[channel, image]
    np.testing.assert_allclose(sums, expected, atol=1e-4)


def test_pytorch_grad_cam_can_give_constant_maps_an_empty_mask():
    quiet = variants.PYTORCH_GRAD_CAM._replace(prepare=variants.OFFICIAL.prepare)
    inputs = random_inputs(1, 8, 6, 3)
    scores = score_cam(toy, inputs, 0, variant=quiet).scores[0]
    empty = toy(np.zeros_like(inputs))[0][0, 0]
    np.testing.assert_allclose(scores[-2:], [empty, empty], atol=1e-6)
    original = score_cam(toy, inputs, 0, variant=variants.PYTORCH_GRAD_CAM).scores[0]
    np.testing.assert_allclose(scores[:-1], original[:-1], atol=1e-5)
    assert abs(scores[-1] - original[-1]) > 1e-3


@pytest.mark.slow
def test_pytorch_grad_cams_wider_arithmetic_stays_inside(cpus):
    inputs = random_inputs(2, 8, 6, 3)

    def explain(inputs, **options):
        return score_cam(toy, inputs, [[0], [1]], variant=variants.PYTORCH_GRAD_CAM, **options)

    alone = explain(inputs, batch_size=3)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(alone)} == {"float32", "int32"}
    assert jnp.zeros(1).dtype == jnp.float32
    split = explain(inputs, mesh=jax.make_mesh((2,), ("masks",), devices=cpus[:2]))
    np.testing.assert_allclose(split.heatmap, alone.heatmap, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda x: (explain(x, batch_size=3).heatmap ** 2).sum()))(inputs)
    assert gradient.dtype == np.float32
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1e-3
