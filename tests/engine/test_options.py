"""The options that methods and metrics share."""

import jax
import pytest

from scorecam_jax import METHODS, metrics, rise, score_cam
from scorecam_jax._internal.signatures import options_of
from scorecam_jax.engine.options import Masking, Passes, Question, Scoring
from tests.networks import images, network

MASKING = {"score-cam", "group-cam", "is-cam", "ss-cam", "opti-cam", "rise"}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_the_question_and_those_that_mask_all_of_masking(name):
    options = set(options_of(METHODS[name]))
    assert set(Question.__annotations__) <= options
    if name in MASKING:
        assert set(Masking.__annotations__) <= options
    if name in ("ablation-cam", "recipro-cam"):
        assert set(Passes.__annotations__) <= options


@pytest.mark.parametrize(
    "name",
    [
        "average_drop",
        "insertion",
        "deletion",
        "road",
        "adcc",
        "arcc",
        "infidelity",
        "sensitivity_n",
    ],
)
def test_metrics_that_mask_take_all_of_scoring_and_have_nothing_to_fuse(name):
    options = set(options_of(getattr(metrics, name)))
    assert set(Scoring.__annotations__) <= options
    assert "fuse" not in options


def test_an_unknown_option_is_an_error_that_names_those_there_are():
    with pytest.raises(TypeError, match=r"score_cam has no option 'chanels'.*channels.*baseline"):
        score_cam(network(), images(), 1, chanels=3)


def test_an_option_of_another_method_is_unknown_too():
    with pytest.raises(TypeError, match="rise has no option 'channels'"):
        rise(network(), images(), 1, key=jax.random.key(0), channels=3)
