import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import metrics
from scorecam_jax.metrics.subsets import _random_cells, _random_squares

KEY = jax.random.key(0)
SHAPE = (7, 9)
SETS = 8


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


INPUTS, HEATMAPS = normal(2, *SHAPE, 3), jnp.abs(normal(2, *SHAPE, seed=1))
BASELINE = np.array([0.5, -0.5, 1.0], np.float32)
TARGETS = np.array([2, 0])


def values(outputs):
    return outputs


@functools.cache
def network():
    place, mix = normal(1, *SHAPE, 4, seed=2), normal(3, 4, seed=3)

    def model(x):
        activations = jax.nn.relu(x @ mix + place)
        return activations.mean((1, 2)) * 9, activations

    return model


def linear(x):
    """A score to which every pixel contributes by itself."""
    return jnp.stack([(x * WEIGHTS).sum((1, 2, 3)), x.sum((1, 2, 3))], 1), x


WEIGHTS = normal(1, *SHAPE, 3, seed=4)
CONTRIBUTIONS = (INPUTS * WEIGHTS).sum(-1)


def falls(removed):
    """What each subset's removal costs, one masked input at a time, in NumPy."""
    rows = []
    for subset in np.concatenate([np.zeros_like(removed[:1]), removed]):
        shown = np.where(subset[None, ..., None], BASELINE, INPUTS)
        logits = np.asarray(network()(jnp.asarray(shown))[0], np.float64)
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        rows.append((exponentials / exponentials.sum(1, keepdims=True))[np.arange(2), TARGETS])
    return (rows[0] - np.stack(rows[1:])).T


def sums(removed):
    return np.einsum("bhw,khw->bk", np.asarray(HEATMAPS, np.float64), np.asarray(removed))


@pytest.mark.parametrize(("size", "cells", "count"), [(5, None, 5), (0.2, None, 13), (0.5, 3, 4)])
def test_subsets_have_the_size_that_was_asked_for_and_are_of_whole_cells(size, cells, count):
    removed = np.asarray(_random_cells(KEY, [size, 1], SETS, cells, SHAPE))
    assert removed.shape == (2 * SETS, *(SHAPE if cells is None else (cells,) * 2))
    np.testing.assert_array_equal(removed.sum((1, 2)), [count] * SETS + [1] * SETS)
    assert len(np.unique(removed[:SETS], axis=0)) > SETS / 2


def test_every_pixel_is_removed_as_often_as_any_other():
    often = np.asarray(_random_cells(KEY, [0.3], 4000, None, (4, 5))).mean(0)
    np.testing.assert_allclose(often, 0.3, atol=0.04)


@pytest.mark.parametrize("shape", [(40,), (8, 10, 12)])
def test_squares_are_whole_and_lie_anywhere_within_the_image(shape):
    squares = np.asarray(_random_squares(KEY, 0.25, 400, shape))
    width = min(shape) // 4
    assert (squares.sum(tuple(range(1, squares.ndim))) == width ** len(shape)).all()
    for square in squares[:9]:
        for axis in range(len(shape)):
            where = np.flatnonzero(square.any(tuple(a for a in range(len(shape)) if a != axis)))
            assert where[-1] - where[0] + 1 == len(where) == width
    for axis in range(len(shape)):
        others = tuple(a for a in range(len(shape) + 1) if a != axis + 1)
        assert squares.any(others).all()


def test_the_correlation_is_that_of_sums_with_falls_built_one_by_one():
    got = metrics.faithfulness_correlation(
        network(), INPUTS, HEATMAPS, TARGETS, key=KEY, size=9, subsets=SETS, baseline=BASELINE
    )
    removed = np.asarray(_random_cells(KEY, [9], SETS, None, SHAPE))
    pairs = zip(sums(removed), falls(removed), strict=True)
    np.testing.assert_allclose(got, [np.corrcoef(*pair)[0, 1] for pair in pairs], atol=1e-4)


def test_a_cells_pixels_go_together():
    got = metrics.faithfulness_correlation(
        network(), INPUTS, HEATMAPS, TARGETS, key=KEY, size=2, cells=2, subsets=6, baseline=BASELINE
    )
    coarse = np.asarray(_random_cells(KEY, [2], 6, 2, SHAPE))
    rows, columns = np.arange(7) >= 3.5, np.arange(9) >= 4.5
    removed = coarse[:, rows.astype(int)][:, :, columns.astype(int)]
    pairs = zip(sums(removed), falls(removed), strict=True)
    np.testing.assert_allclose(got, [np.corrcoef(*pair)[0, 1] for pair in pairs], atol=1e-4)


def test_contributions_to_a_linear_score_have_sensitivity_n_at_every_n():
    plain = {"key": KEY, "subsets": 20, "score": values, "sizes": (1, 0.1, 0.5)}
    counts, found = metrics.sensitivity_n(linear, INPUTS, CONTRIBUTIONS, 0, **plain)
    np.testing.assert_array_equal(counts, [1, 6, 32])
    np.testing.assert_allclose(found, np.ones((2, 3)), atol=1e-4)
    _, turned = metrics.sensitivity_n(linear, INPUTS, -3 * CONTRIBUTIONS, 0, **plain)
    np.testing.assert_allclose(turned, -np.ones((2, 3)), atol=1e-4)
    _, other = metrics.sensitivity_n(linear, INPUTS, CONTRIBUTIONS, 1, **plain)
    assert (other < 0.99).all()


def test_a_flat_map_correlates_with_nothing():
    found = metrics.faithfulness_correlation(
        linear, INPUTS, jnp.full_like(HEATMAPS, 0.3), 0, key=KEY, subsets=SETS, score=values
    )
    np.testing.assert_array_equal(found, 0)


def test_infidelity_is_the_least_squared_error_of_any_scale():
    plain = {"key": KEY, "squares": SETS, "baseline": BASELINE}
    got = metrics.infidelity(network(), INPUTS, HEATMAPS, TARGETS, **plain)
    unscaled = metrics.infidelity(network(), INPUTS, HEATMAPS, TARGETS, scaled=False, **plain)
    removed = np.asarray(_random_squares(KEY, 0.25, SETS, SHAPE))
    for row, (total, fall) in enumerate(zip(sums(removed), falls(removed), strict=True)):
        (least,) = np.linalg.lstsq(total[:, None], fall, rcond=None)[1] / SETS
        np.testing.assert_allclose(got[row], least, rtol=1e-3)
        np.testing.assert_allclose(unscaled[row], ((total - fall) ** 2).mean(), rtol=1e-3)


def test_contributions_to_a_linear_score_have_no_infidelity_whatever_their_unit():
    plain = {"key": KEY, "squares": SETS, "score": values}
    for scale in (1, -0.01, 1e30):
        found = metrics.infidelity(linear, INPUTS, scale * CONTRIBUTIONS, 0, **plain)
        np.testing.assert_allclose(found, 0, atol=1e-6)
    nothing = metrics.infidelity(linear, INPUTS, 0 * CONTRIBUTIONS, 0, **plain)
    assert (nothing > 0.1).all()


def test_what_makes_no_sense_is_refused():
    ask = functools.partial(
        metrics.faithfulness_correlation, linear, INPUTS, HEATMAPS, 0, key=KEY, score=values
    )
    for size in (0, 63, 1.0, 0.0):
        with pytest.raises(ValueError, match="the size of subsets is"):
            ask(size=size)
    with pytest.raises(ValueError, match="cells is 1"):
        ask(cells=1)
    with pytest.raises(ValueError, match="subsets is 1"):
        ask(subsets=1)
    with pytest.raises(ValueError, match="side is 1"):
        metrics.infidelity(linear, INPUTS, HEATMAPS, 0, key=KEY, side=1.0)
