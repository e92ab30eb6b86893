import itertools

import numpy as np
import pytest

from scorecam_jax import Interpolated, score_cam
from scorecam_jax.methods.rounds import score_cam_round
from tests.methods.test_interpolated import LIVE, TARGETS, many, smooth_images

FIELDS = "heatmap", "weights", "scores", "peak", "empty"


@pytest.fixture(scope="module")
def rounds():
    """Two interpolated rounds, and the last of the plain ones that score the rest."""
    found = [score_cam_round(many, smooth_images(), TARGETS, count=6, most=12)]
    found.append(score_cam_round(many, smooth_images(), TARGETS, found[0], count=6, most=12))
    last = found[-1]
    for _ in range(2):
        last = score_cam_round(many, smooth_images(), TARGETS, last, count=15)
    return [*found, last]


def close(found, expected, **tolerance):
    for field in FIELDS:
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), **tolerance)


def test_rounds_score_what_one_call_does_and_end_in_the_exact_map(rounds):
    first, second, last = rounds
    at_once = score_cam(many, smooth_images(), TARGETS, channels=Interpolated(12))
    np.testing.assert_array_equal(second.scored, at_once.scored)
    close(second, at_once, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(second.deviation, at_once.deviation, atol=1e-4)
    close(last, score_cam(many, smooth_images(), TARGETS), rtol=1e-5, atol=1e-6)
    assert first.scored.sum(1).tolist() == [6, 6]
    assert last.scored.sum(1).tolist() == [LIVE, LIVE]


def test_no_mask_is_scored_twice(rounds):
    for earlier, later in itertools.pairwise(rounds):
        assert not (earlier.scored & ~later.scored).any()
        kept = np.broadcast_to(np.asarray(earlier.scored)[:, None], earlier.scores.shape)
        # To the bit: a score that is computed among others differs in the last one.
        np.testing.assert_array_equal(later.scores[kept], earlier.scores[kept])


def test_an_explanation_without_scores_is_refused(rounds):
    with pytest.raises(ValueError, match="has no scores"):
        score_cam_round(many, smooth_images(), TARGETS, rounds[0]._replace(scored=None))
