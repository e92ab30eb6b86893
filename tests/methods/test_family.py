"""Score-CAM's relatives against their definitions in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scorecam_jax as family
from scorecam_jax import score_cam
from scorecam_jax.methods import rise
from tests import reference
from tests.networks import CHANNELS, CONSTANT, DEAD, images, network

TARGETS, SHAPE, KEY = (2, 0), (9, 14), jax.random.key(3)
METHODS = (
    functools.partial(family.rise, key=KEY, count=20),
    functools.partial(family.is_cam, steps=2),
    functools.partial(family.ss_cam, key=KEY, samples=2),
    functools.partial(family.opti_cam, steps=3),
    family.ablation_cam,
    family.recipro_cam,
)
every = pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: getattr(method, "func", method).__name__
)


def probabilities(masked):
    return reference.softmax(np.asarray(network()(masked.astype("f"))[0], float))


def layer():
    return np.asarray(network()(images())[1], float)


def head(activations):
    """The logits for one input's activations."""
    return np.maximum(activations, 0).mean((0, 1)) @ np.asarray(network().args[2], float)


@pytest.mark.slow
def test_rise_sums_its_masks_by_their_scores():
    explanation = family.rise(network(), images(), TARGETS, key=KEY, count=50, cells=3)
    numbers = jnp.arange(1.0, 51)[:, None]
    masks = np.asarray(rise._draw(KEY, jnp.asarray(0.5), 3, numbers, SHAPE), float)
    for row, target in enumerate(TARGETS):
        scores = probabilities(images()[row] * masks[..., None])[:, target]
        np.testing.assert_allclose(explanation.scores[row], scores, atol=1e-6)
        total = np.tensordot(scores, masks, 1)
        np.testing.assert_allclose(explanation.heatmap[row], reference.scale(total), atol=1e-5)


def test_rise_draws_smooth_masks_that_show_each_place_alike():
    numbers = jnp.arange(1.0, 2001)[:, None]
    masks = np.asarray(rise._draw(KEY, jnp.asarray(0.3), 4, numbers, (11, 16)))
    assert masks.min() == 0
    assert masks.max() == 1
    # Five standard deviations of the mean of 2000 draws of variance .3 · .7.
    assert np.abs(masks.mean(0) - 0.3).max() < 5 * (0.21 / 2000) ** 0.5
    # A cell is 3 by 4 places, so a step to the side changes a mask by at most 1/3, or 1/4.
    assert np.abs(np.diff(masks, axis=1)).max() <= 1 / 3 + 1e-6
    assert np.abs(np.diff(masks, axis=2)).max() <= 1 / 4 + 1e-6


def full_masks(maps):
    """One input's masks (K, *spatial) of OFFICIAL."""
    constant = maps.max((0, 1)) == maps.min((0, 1))
    scaled = [reference.scale(reference.resize(maps[..., k], SHAPE)) for k in range(CHANNELS)]
    return np.where(constant[:, None, None], 0, scaled), constant


def weighted(maps, weights):
    return reference.finish(maps @ weights, SHAPE)


def test_is_cam_averages_over_the_fading_in():
    explanation = family.is_cam(network(), images(), TARGETS, steps=4, batch_size=3)
    for row, target in enumerate(TARGETS):
        masks, constant = full_masks(layer()[row])
        weights = np.zeros(CHANNELS)
        for share in (0.25, 0.5, 0.75, 1):
            masked = images()[row] * share * masks[..., None]
            weights += np.where(constant, 0, probabilities(masked)[:, target]) / 4
        np.testing.assert_allclose(explanation.weights[row], weights, atol=1e-5)
        np.testing.assert_allclose(
            explanation.heatmap[row], weighted(layer()[row], weights), atol=1e-5
        )


def test_ss_cam_averages_over_noise():
    explanation = family.ss_cam(network(), images(), TARGETS, key=KEY, samples=3, deviation=0.5)
    weights = np.zeros((2, CHANNELS))
    for key in jax.random.split(KEY, 3):
        noise = 0.5 * np.asarray(jax.random.normal(key, (1, *layer().shape[1:])), float)
        for row, target in enumerate(TARGETS):
            masks, _ = full_masks((layer() + noise)[row])
            masked = images()[row] * masks[..., None]
            weights[row] += probabilities(masked)[:, target] / 3
    weights[:, [DEAD, CONSTANT]] = 0
    np.testing.assert_allclose(explanation.weights, weights, atol=1e-5)


def test_noise_may_be_a_share_of_each_maps_range():
    spread = np.ptp(layer(), axis=(1, 2), keepdims=True)
    (key,) = jax.random.split(KEY, 1)
    found = family.ss_cam(
        network(), images(), TARGETS, key=KEY, samples=1, deviation=0.5, relative=True
    )
    noise = np.asarray(jax.random.normal(key, (1, *layer().shape[1:])), float)
    for row, target in enumerate(TARGETS):
        masks, _ = full_masks(layer()[row] + 0.5 * spread[row] * noise[0])
        weights = probabilities(images()[row] * masks[..., None])[:, target]
        weights[[DEAD, CONSTANT]] = 0
        np.testing.assert_allclose(found.weights[row], weights, atol=1e-5)


def test_torchcams_is_cam_lets_factors_accumulate():
    found = family.is_cam(network(), images(), TARGETS, steps=3, form="torchcam")
    for row, target in enumerate(TARGETS):
        masks = [
            reference.resize(reference.scale(layer()[row][..., k]), SHAPE) for k in range(CHANNELS)
        ]
        means = np.zeros(CHANNELS)
        for factor in (1 / 3, 3 / 3, 6 / 3):
            masked = images()[row] * factor * np.array(masks)[..., None]
            means += np.asarray(network()(masked.astype("f"))[0], float)[:, target] / 3
        weights = reference.softmax(means)
        np.testing.assert_allclose(found.weights[row], weights, atol=1e-5)
        sums = np.maximum(layer()[row] @ weights, 0)
        expected = reference.resize(reference.scale(sums), SHAPE)
        np.testing.assert_allclose(found.heatmap[row], expected, atol=1e-4)
    with pytest.raises(ValueError, match="form is 'paper'"):
        family.is_cam(network(), images(), form="paper")


def test_without_noise_or_steps_they_are_score_cam():
    expected = score_cam(network(), images(), TARGETS)
    for found in (
        family.is_cam(network(), images(), TARGETS, steps=1),
        family.ss_cam(network(), images(), TARGETS, key=KEY, samples=2, deviation=0.0),
    ):
        np.testing.assert_allclose(found.weights, expected.weights, atol=1e-6)
        np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-5)


def mixed(row, mixture):
    maps = layer()[row] @ reference.softmax(mixture)
    return reference.scale(reference.resize(maps, SHAPE))


def mixed_logit(row, target, mixture):
    masked = (images()[row] * mixed(row, mixture)[..., None]).astype("f")
    return float(network()(masked[None])[0][0, target])


@pytest.mark.slow
def test_opti_cam_starts_uphill_and_ends_higher():
    # Adam's first step has the length of the learning rate in each coordinate, and its sign.
    first = family.opti_cam(network(), images(), TARGETS, steps=1, learning_rate=0.1)
    last = family.opti_cam(network(), images(), TARGETS, steps=60)
    live, width = np.setdiff1d(range(CHANNELS), [DEAD, CONSTANT]), 1e-2
    for row, target in enumerate(TARGETS):
        logit = functools.partial(mixed_logit, row, target)
        slope = np.array([logit(width * e) - logit(-width * e) for e in np.eye(CHANNELS)])
        uphill = 0.1 * np.sign(slope)
        # Constant channels change no mask, so theirs are signs of rounding errors.
        odds = np.asarray(first.weights[row][live] / first.weights[row][live].sum())
        np.testing.assert_allclose(odds, reference.softmax(uphill[live]), rtol=1e-4)
        np.testing.assert_allclose(first.heatmap[row], mixed(row, uphill), atol=1e-4)
        found = np.log(np.asarray(last.weights[row], float))
        assert logit(found) > logit(uphill) > logit(np.zeros(CHANNELS))


def test_ablation_cam_weights_by_what_is_lost():
    explanation = family.ablation_cam(network(), images(), TARGETS)
    for row, target in enumerate(TARGETS):
        maps, lost = layer()[row], []
        for channel in range(CHANNELS):
            without = maps.copy()
            without[..., channel] = 0
            lost.append(head(without)[target])
        weights = (head(maps)[target] - np.array(lost)) / head(maps)[target]
        np.testing.assert_allclose(explanation.scores[row], lost, atol=1e-5)
        np.testing.assert_allclose(explanation.weights[row], weights, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(explanation.heatmap[row], weighted(maps, weights), atol=1e-4)


def test_recipro_cam_scores_each_place_alone():
    explanation = family.recipro_cam(network(), images(), TARGETS)
    for row, target in enumerate(TARGETS):
        maps = layer()[row]
        scores = np.zeros(maps.shape[:2])
        for place in reference.places(scores.shape):
            only = np.zeros_like(maps)
            only[place] = maps[place]
            scores[place] = reference.softmax(head(only))[target]
        np.testing.assert_allclose(explanation.scores[row], scores.ravel(), atol=1e-6)
        np.testing.assert_allclose(
            explanation.heatmap[row],
            reference.scale(reference.resize(scores, SHAPE)),
            atol=1e-4,
        )


@pytest.mark.slow
@every
def test_several_targets_are_the_single_ones_stacked(method):
    together = method(network(), images(), np.array([[2, 1], [0, 1]]))
    for column, targets in enumerate((TARGETS, (1, 1))):
        alone = method(network(), images(), targets)
        np.testing.assert_allclose(together.heatmap[:, column], alone.heatmap, atol=1e-5)


@every
def test_nothing_active_and_no_inputs_give_no_nan(method):
    kernel, bias, weights = network().args
    dead = jax.tree_util.Partial(network().func, kernel * 0, bias * 0, weights)
    for batch in (0, 1):
        explanation = method(dead, images(batch=batch))
        assert explanation.heatmap.shape == (batch, *SHAPE)
        assert all(np.isfinite(value).all() for value in jax.tree.leaves(explanation))


@pytest.mark.slow
@every
def test_under_jit_and_not_traced_again(method):
    traced = []

    def model(x, edit=None):
        traced.append(x.shape)
        return network()(x, edit)

    eager = method(model, images(), 1)
    traces = len(traced)
    method(model, images(seed=1), 2)
    assert len(traced) == traces
    jitted = jax.jit(method)(network(), images(), jnp.array([1, 1]))
    np.testing.assert_allclose(jitted.heatmap, eager.heatmap, atol=1e-5)


@pytest.mark.parametrize("method", [family.ablation_cam, family.recipro_cam])
def test_chunks_change_nothing_and_edit_is_needed(method):
    expected = method(network(), images(), 1)
    for batch_size in (1, 8, 1000):
        found = method(network(), images(), 1, batch_size=batch_size)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    with pytest.raises(TypeError, match="edit"):
        method(lambda x: network()(x), images())
