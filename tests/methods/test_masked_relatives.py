"""gScoreCAM, Poly-CAM, Score-CAM++ and Finer-CAM against their formulas in NumPy."""

import jax
import numpy as np
import pytest
from scipy import ndimage, special

from scorecam_jax import grad_cam, group_cam, score_cam, scores, variants
from scorecam_jax.methods.finer_cam import finer_cam
from scorecam_jax.methods.gscore_cam import gscore_cam
from scorecam_jax.methods.poly_cam import poly_cam
from tests import reference
from tests.networks import CHANNELS, CONSTANT, images, network

TARGETS, SHAPE = (2, 0), (9, 14)


def layer():
    return np.asarray(network()(images())[1], float)


def logits(masked):
    return np.asarray(network()(masked.astype("f"))[0], float)


def slopes(row, target):
    """The gradients of a logit, by hand: the head's weights where activations are positive."""
    head, maps = np.asarray(network().args[2], float), layer()[row]
    return (maps > 0) * head[:, target] / np.prod(maps.shape[:2])


@pytest.mark.parametrize("among", ["all", pytest.param("chosen", marks=pytest.mark.slow)])
def test_gscore_cam_scores_the_maps_of_the_largest_gradient(among):
    targets = np.array([[2, 1], [0, 2]])
    found = gscore_cam(network(), images(), targets, count=3, among=among)
    zoom = np.divide(np.subtract(SHAPE, 1), np.subtract(layer().shape[1:3], 1))
    for row, column in np.ndindex(2, 2):
        target, maps = targets[row, column], layer()[row]
        chosen = np.argsort(-slopes(row, target).mean((0, 1)))[:3]
        each = np.zeros(CHANNELS)
        for k in chosen:
            low, high = maps[..., k].min(), maps[..., k].max()
            up = ndimage.affine_transform(  # the first and last samples stay in place
                maps[..., k], 1 / zoom, output_shape=SHAPE, order=1, mode="nearest"
            )
            mask = reference.scale(up) if high > low else np.zeros(SHAPE)
            each[k] = logits(images()[row][None] * mask[..., None])[0, target]
        if among == "all":
            weights = special.softmax(each)
        else:
            weights = np.zeros(CHANNELS)
            weights[chosen] = special.softmax(each[chosen])
        np.testing.assert_allclose(found.scores[row, column], each, atol=1e-4)
        np.testing.assert_allclose(found.weights[row, column], weights, atol=1e-4)
        expected = reference.finish(maps @ weights, SHAPE)
        np.testing.assert_allclose(found.heatmap[row, column], expected, atol=1e-4)


@pytest.mark.slow
def test_gscore_cam_of_all_maps_is_a_softmax_either_way():
    every = gscore_cam(network(), images(), TARGETS)  # 300 of 6
    chosen = gscore_cam(network(), images(), TARGETS, among="chosen")
    np.testing.assert_allclose(every.weights, chosen.weights, atol=1e-6)
    with pytest.raises(ValueError, match="among is 'some'"):
        gscore_cam(network(), images(), among="some")


def percentile_masks(maps):
    for k in range(maps.shape[-1]):
        low, high = np.percentile(maps[..., k], [0.1, 99.9])
        mask = np.clip((maps[..., k] - low) / max(high, 1e-12), 0, 1)
        yield reference.resize(mask, SHAPE)[..., None]


def poly_weights(row, target, maps, form):
    image = images()[row]

    def probability(shown):
        return reference.softmax(logits(shown[None]))[0, target]

    whole, weights = probability(image), []
    for mask in percentile_masks(maps):
        kept, lost = probability(mask * image), whole - probability((1 - mask) * image)
        both = {"plus": kept, "minus": max(lost, 0), "both": max(kept + lost, 0)}
        weights.append(both[form])
    return np.array(weights)


@pytest.mark.parametrize(
    "form", [*(pytest.param(form, marks=pytest.mark.slow) for form in ("plus", "minus")), "both"]
)
def test_poly_cam_weighs_by_what_masks_show_and_hide(form):
    found = poly_cam(network(), images(), TARGETS, form=form)
    for row, target in enumerate(TARGETS):
        maps = layer()[row]
        weights = poly_weights(row, target, maps, form)
        np.testing.assert_allclose(found.weights[row], weights, atol=1e-5)
        expected = reference.finish(maps @ weights, SHAPE)
        np.testing.assert_allclose(found.heatmap[row], expected, atol=1e-4)


def two_layers(x):
    """The network, with the input itself, smoothed a little, as a finer layer."""
    outputs, coarse = network()(x)
    return outputs, (x * 0.5 + 1, coarse)


def test_poly_cam_refines_the_coarse_layer_by_the_fine_one():
    found = poly_cam(two_layers, images(), TARGETS, form="plus")
    for row, target in enumerate(TARGETS):
        fine, coarse = images()[row] * 0.5 + 1, layer()[row]
        sums = [
            np.maximum(maps @ poly_weights(row, target, maps, "plus"), 0)
            for maps in (np.asarray(fine, float), coarse)
        ]
        local = reference.resize(reference.resize(sums[0], coarse.shape[:2]), SHAPE)
        total = sums[0] / np.maximum(local, 1e-12) * reference.resize(sums[1], SHAPE)
        np.testing.assert_allclose(found.heatmap[row], reference.scale(total), atol=1e-4)


@pytest.mark.slow
def test_poly_cam_of_logits_does_not_see_what_is_added_to_them():
    def moved(x):
        outputs, activations = network()(x)
        return outputs + 10.0, activations

    found, plain = (
        poly_cam(model, images(), TARGETS, score=scores.logits) for model in (moved, network())
    )
    np.testing.assert_allclose(found.weights, plain.weights, atol=1e-4)


def test_score_cam_plus_plus_gates_with_tanh():
    found = score_cam(network(), images(), TARGETS, variant=variants.PLUS_PLUS)
    for row, target in enumerate(TARGETS):
        total = np.zeros(SHAPE)
        for k in range(CHANNELS):
            mask = np.tanh(reference.resize(layer()[row][..., k], SHAPE))
            shown = images()[row][None] * mask[..., None]
            probability = reference.softmax(logits(shown))[0, target]
            np.testing.assert_allclose(found.weights[row, k], probability, atol=1e-5)
            total += probability * mask
        expected = reference.scale(np.maximum(total, 0))
        np.testing.assert_allclose(found.heatmap[row], expected, atol=1e-4)
    assert found.weights[0, CONSTANT] > 0


def test_finer_cam_differentiates_the_contrast_through_the_probabilities():
    weighted = finer_cam(network(), images(), TARGETS)  # of both others
    mean = finer_cam(network(), images(), TARGETS, form="mean")
    for row, target in enumerate(TARGETS):
        y = logits(images()[row][None])[0]
        others = [c for c in range(3) if c != target]
        p = special.softmax(y)

        def derivative(weights, row=row):
            return sum(w * slopes(row, c) for c, w in weights.items()).mean((0, 1))

        share = p[others] / p[others].sum()
        mixed = share @ y[others]
        # ∂ Σ q_d y_d / ∂ y_e = q_e (1 + y_e − Σ q_d y_d)
        pulls = {c: -q * (1 + y[c] - mixed) for c, q in zip(others, share, strict=True)}
        expected = derivative({target: 1.0, **pulls})
        np.testing.assert_allclose(weighted.weights[row], expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(weighted.confidence[row], y[target] - mixed, rtol=1e-4)
        expected = derivative({target: 1.0, **dict.fromkeys(others, -0.3)})
        np.testing.assert_allclose(mean.weights[row], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_contrast_with_the_nearest_is_usable_with_any_method():
    outputs = network()(images()[:1])[0]
    near = scores.nearest(outputs, 2)
    fixed = grad_cam(network(), images()[:1], 2, score=scores.contrast(near, weighted=True))
    found = finer_cam(network(), images()[:1], 2)
    np.testing.assert_allclose(found.weights, fixed.weights, atol=1e-6)
    masked = score_cam(network(), images()[:1], 2, score=scores.contrast(near, share=0.6))
    y = np.asarray(outputs, float)[0]
    np.testing.assert_allclose(masked.confidence, [y[2] - 0.3 * (y[0] + y[1])], rtol=1e-4)


def test_group_cams_latest_formula_sums_maps_that_raise_the_probability():
    found = group_cam(network(), images(), TARGETS, groups=3, commit="ffd807b", baseline=0.0)
    for row, target in enumerate(TARGETS):
        products = slopes(row, target).mean((0, 1)) * layer()[row]
        total = np.zeros(SHAPE)
        empty = reference.softmax(logits(0 * images()[row][None]))[0, target]
        for members in np.split(np.arange(CHANNELS), 3):
            up = reference.resize(np.maximum(products[..., members].sum(-1), 0), SHAPE)
            shown = images()[row][None] * reference.scale(up)[..., None]
            gain = reference.softmax(logits(shown))[0, target] - empty
            total += max(gain, 0) * up
        np.testing.assert_allclose(found.heatmap[row], reference.scale(total), atol=1e-4)


@pytest.mark.slow
def test_several_targets_are_the_single_ones_stacked():
    model = jax.jit(gscore_cam, static_argnames=("count",))
    together = model(network(), images(), np.array([[2, 1], [0, 1]]), count=2)
    alone = gscore_cam(network(), images(), TARGETS, count=2)
    np.testing.assert_allclose(together.heatmap[:, 0], alone.heatmap, atol=1e-4)
