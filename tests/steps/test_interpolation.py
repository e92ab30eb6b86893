import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from scorecam_jax import Interpolated
from scorecam_jax.steps import interpolation
from scorecam_jax.steps.interpolation import matern, squared_distances

MASKS, CELLS = 20, 6


def interpolate(points, chosen, values, scored, draws):
    return interpolation.interpolate(*map(jnp.asarray, (points, chosen, values, scored)), draws)


def choose(points, shares, free, count, *given, kinds=None):
    arrays = map(jnp.asarray, (points, shares, free))
    return interpolation.choose(*arrays, count, *map(jnp.asarray, given), kinds=kinds)


def masks(seed=0):
    return np.random.default_rng(seed).random((MASKS, CELLS)).astype("float32")


def scores(points):
    """Two smooth functions of masks, one that leaves [0, 1] and one that does not."""
    return np.stack([5 * points.sum(1), 1 / (1 + np.exp(-2 * points[:, 0] + points[:, 1]))])


def covariance(a, b, length=1.0):
    return Matern(length * CELLS**0.5, nu=2.5)(np.asarray(a, float), np.asarray(b, float))


@pytest.fixture
def one_setting(monkeypatch):
    """A length of 0.5 and a noise of 0.01, whatever the evidence."""
    monkeypatch.setattr(interpolation, "_LENGTHS", (0.5,))
    monkeypatch.setattr(interpolation, "_NOISES", (0.01,))


def process(points, values, length, noise):
    """scikit-learn's process around the mean and with the scale that generalised least squares
    gives.
    """
    inverse = np.linalg.inv(covariance(points, points, length) + noise * np.eye(len(points)))
    mean = inverse.sum(0) @ values / inverse.sum()
    scale = (values - mean) @ inverse @ (values - mean) / (len(points) - 1)
    found = GaussianProcessRegressor(
        Matern(length * CELLS**0.5, nu=2.5), alpha=noise, optimizer=None
    ).fit(points, values - mean)
    return found, mean, scale


def test_kernel_is_scikit_learns():
    a, b = jnp.asarray(masks()), jnp.asarray(masks(1))
    found = matern(squared_distances(a, b), 0.7)
    np.testing.assert_allclose(found, covariance(a, b, 0.7), atol=1e-5)


def test_kernel_has_a_derivative_where_two_masks_are_alike():
    slope = jax.grad(lambda a: matern(squared_distances(a, a), 0.7).sum())(jnp.asarray(masks()))
    assert np.isfinite(slope).all()


@pytest.mark.slow
def test_a_score_that_is_no_probability_is_what_scikit_learn_predicts(one_setting):
    points, chosen = masks(), np.arange(8)
    values = scores(points)[:1, chosen].astype("float32")
    found = interpolate(points, chosen, values, np.ones(8, bool), 1).scores[0]
    expected, mean, _ = process(points[chosen], values[0].astype(float), 0.5, 0.01)
    np.testing.assert_allclose(found[8:], mean + expected.predict(points[8:]), rtol=1e-4)
    np.testing.assert_array_equal(found[:8], values[0])


def test_a_probability_is_the_mean_over_its_odds_posterior(one_setting):
    points, chosen = masks(), np.arange(8)
    values = scores(points)[1:, chosen].astype("float32")
    found = interpolate(points, chosen, values, np.ones(8, bool), 1).scores[0]
    odds = np.log(values[0] / (1 - values[0]))
    expected, mean, scale = process(points[chosen], odds.astype(float), 0.5, 0.01)
    predicted, deviation = expected.predict(points[8:], return_std=True)
    deviation = np.sqrt(scale * (deviation**2 + 0.01))
    z = np.linspace(-8, 8, 4001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    for number, (centre, width) in enumerate(zip(predicted, deviation, strict=True)):
        mean_score = density @ (1 / (1 + np.exp(-(mean + centre + width * z))))
        assert found[8 + number] == pytest.approx(mean_score, abs=1e-4)


@pytest.mark.slow
def test_draws_scatter_as_scikit_learn_says(one_setting):
    points, chosen = masks(), np.arange(8)
    values = scores(points)[:1, chosen].astype("float32")
    draws = interpolate(points, chosen, values, np.ones(8, bool), 4000).draws[:, 0]
    expected, mean, scale = process(points[chosen], values[0].astype(float), 0.5, 0.01)
    centre, cov = expected.predict(points[8:], return_cov=True)
    cov = scale * (cov + 0.01 * np.eye(len(cov)))
    np.testing.assert_allclose(np.cov(draws[:, 8:].T), cov, atol=0.12 * cov.max())
    error = np.abs(draws[:, 8:].mean(0) - mean - centre)
    assert (error < 0.1 * np.sqrt(np.diag(cov))).all()
    np.testing.assert_array_equal(draws[:, :8], np.tile(values[0], (4000, 1)))


@pytest.mark.slow
def test_length_and_noise_are_the_mean_by_evidence():
    points, chosen = masks(), np.arange(12)
    values = scores(points)[:1, chosen].astype("float32")
    found = interpolate(points, chosen, values, np.ones(12, bool), 1).scores[0]
    settings, evidence = [], []
    for length in interpolation._LENGTHS:
        for noise in interpolation._NOISES:
            _, mean, scale = process(points[chosen], values[0].astype(float), length, noise)
            gram = covariance(points[chosen], points[chosen], length) + noise * np.eye(12)
            settings.append(np.log([length, noise]))
            evidence.append(-6 * np.log(scale) - np.linalg.slogdet(gram)[1] / 2)
    shares = np.exp(np.array(evidence) - max(evidence))
    length, noise = np.exp(shares @ np.array(settings) / shares.sum())
    expected, mean, _ = process(points[chosen], values[0].astype(float), length, noise)
    np.testing.assert_allclose(found[12:], mean + expected.predict(points[12:]), rtol=2e-3)


@pytest.mark.slow
def test_what_is_not_scored_is_passed_over():
    points, chosen = masks(), np.array([3, 5, 7, 9, 11])
    values = scores(points)[:, chosen].astype("float32")
    expected = interpolate(points, chosen, values, np.ones(5, bool), 3)
    padded = np.r_[chosen, 0, 0], np.c_[values, [[9.0, 7.0], [9.0, np.nan]]].astype("float32")
    found = interpolate(points, *padded, np.array([True] * 5 + [False] * 2), 3)
    for name in ("scores", "draws", "slopes"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4)


def test_equal_scores_are_the_score_of_all():
    found = interpolate(
        masks(), np.arange(4), np.full((1, 4), 0.25, "float32"), np.ones(4, bool), 3
    )
    np.testing.assert_allclose(found.scores, 0.25, atol=1e-4)
    np.testing.assert_allclose(found.draws, 0.25, atol=1e-4)


@pytest.mark.slow
def test_a_single_scores_scale_is_its_distance_from_other_scores():
    given = jnp.array([[5.0]]), jnp.ones(1, bool)
    bounds = jnp.array([[3.0, 5.5]])
    found = interpolation.interpolate(jnp.asarray(masks()), jnp.arange(1), *given, 64, bounds)
    number = int(((masks() - masks()[0]) ** 2).mean(1).argmax())  # hardly correlated with it
    assert 2 < found.draws[:, 0, number].std() < 6
    np.testing.assert_array_equal(found.draws[:, 0, 0], 5)


def test_a_common_factor_of_the_scores_changes_nothing_else():
    points, chosen = masks(), np.arange(8)
    values = -7 * scores(points)[:1, chosen].astype("float32")
    expected = interpolate(points, chosen, values, np.ones(8, bool), 3)
    for factor in (2.0**66, 2.0**-66):
        found = interpolate(points, chosen, np.float32(factor) * values, np.ones(8, bool), 3)
        for name in ("scores", "draws", "slopes"):
            scaled = getattr(found, name) / np.float32(factor)
            np.testing.assert_allclose(scaled, getattr(expected, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3])
def test_each_choice_lowers_the_variance_of_the_sum_most(count):
    points, kinds = masks(), np.arange(MASKS) % count
    shares = np.random.default_rng(2).normal(size=(MASKS, 5)).astype("float32")
    gram = covariance(points, points, interpolation._CHOICE_LENGTH)
    gram *= kinds[:, None] == kinds  # masks of different kinds tell nothing about each other
    gram += interpolation._CHOICE_NOISE * np.eye(MASKS)

    def left(chosen):
        known = gram[:, chosen]
        posterior = gram - known @ np.linalg.solve(gram[np.ix_(chosen, chosen)], known.T)
        return np.trace(shares.T @ posterior @ shares)

    expected = []
    for _ in range(6):
        others = [number for number in range(MASKS) if number not in expected]
        expected.append(min(others, key=lambda number: left([*expected, number])))
    given = jnp.asarray(kinds) if count > 1 else None
    found = choose(points, shares, np.ones(MASKS, bool), 6, kinds=given)
    np.testing.assert_array_equal(found, expected)


def test_a_choice_goes_on_from_what_is_known():
    points, free = masks(), np.ones(MASKS, bool)
    shares = np.random.default_rng(2).normal(size=(MASKS, 5)).astype("float32")
    whole = np.asarray(choose(points, shares, free, 8))
    given = np.r_[whole[:5], 0], np.array([True] * 5 + [False])
    free[whole[:5]] = False
    np.testing.assert_array_equal(choose(points, shares, free, 3, *given), whole[5:])


def test_masks_that_are_not_free_come_last():
    free = np.arange(MASKS) % 2 == 1
    found = np.asarray(choose(masks(), np.ones((MASKS, 1), "float32"), free, MASKS))
    assert free[found[: MASKS // 2]].all()
    assert sorted(found) == list(range(MASKS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "wanted one of the two"),
        ({"count": 3, "tolerance": 0.1}, "wanted one of the two"),
        ({"count": 0}, "at least 1 mask"),
        ({"tolerance": 1.5}, "between 0 and 1"),
    ],
)
def test_what_it_is_told_makes_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        Interpolated(**arguments)


@pytest.mark.slow
def test_scores_have_derivatives():
    points, chosen = jnp.asarray(masks()), jnp.arange(8)
    values = jnp.asarray(scores(masks())[1:, :8], "float32")

    def total(values):
        return interpolate(points, chosen, values, jnp.ones(8, bool), 1).scores.sum()

    slope, step = jax.grad(total)(values), 1e-2
    for number in range(8):
        moved = [values.at[0, number].add(sign * step) for sign in (1, -1)]
        numeric = (total(moved[0]) - total(moved[1])) / (2 * step)
        assert float(slope[0, number]) == pytest.approx(float(numeric), rel=0.05, abs=0.05)
