"""Scores to weights, against NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from scorecam_jax.steps import weights

EVERY = [
    weights.score_itself,
    weights.score_of_live,
    weights.increase_of_confidence,
    weights.softmax_over_channels,
]


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 3, 5)).astype(np.float32)
    live = rng.uniform(size=(2, 1, 5)) < 0.6
    empty = rng.normal(size=(2, 3, 1)).astype(np.float32)
    return tuple(map(jnp.asarray, (scores, live, empty)))


def test_score_itself(case):
    np.testing.assert_array_equal(weights.score_itself(*case), case[0])


def test_score_of_live_gives_empty_masks_nothing(case):
    scores, live = np.array(case[0]), case[1]
    scores[~np.broadcast_to(live, scores.shape)] = 0
    assert (scores == 0).any()
    np.testing.assert_array_equal(weights.score_of_live(*case), scores)


def test_increase_of_confidence_is_relative_to_the_baseline(case):
    scores, live, empty = case
    weight = weights.increase_of_confidence(*case)
    for at in np.ndindex(2, 3, 5):
        assert weight[at] == scores[at] - empty[at[0], at[1], 0]
    same = jnp.broadcast_to(empty, scores.shape)
    np.testing.assert_array_equal(weights.increase_of_confidence(same, live, empty), 0 * scores)


@pytest.mark.parametrize("scale", [1, 1e4])
def test_softmax_runs_over_channels_however_large_the_scores(case, scale):
    scores, live, empty = case
    weight = weights.softmax_over_channels(scale * scores, live, empty)
    expected = special.softmax(scale * np.asarray(scores, np.float64), axis=2)
    np.testing.assert_allclose(weight, expected, atol=1e-6)


def test_the_baselines_score_cancels_in_the_softmax(case):
    scores, live, empty = case
    np.testing.assert_allclose(
        weights.softmax_over_channels(scores - empty, live, empty),
        weights.softmax_over_channels(scores, live, empty),
        atol=1e-6,
    )


@pytest.mark.parametrize("weigh", EVERY)
def test_channels_may_come_in_any_order(case, weigh):
    scores, live, empty = case
    order = np.array([3, 0, 4, 1, 2])
    shuffled = weigh(scores[..., order], live[..., order], empty)
    np.testing.assert_allclose(shuffled, weigh(*case)[..., order], atol=1e-7)


@pytest.mark.parametrize("weigh", EVERY)
def test_gradients_are_finite(case, weigh):
    scores, live, empty = case
    gradient = jax.grad(lambda scores: (weigh(scores, live, empty) ** 2).sum())(1e4 * scores)
    assert np.isfinite(gradient).all()
