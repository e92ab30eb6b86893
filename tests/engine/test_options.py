"""The options that methods and metrics share."""

import jax
import pytest

from scorecam_jax import METHODS, metrics, rise, score_cam
from scorecam_jax._internal.signatures import options_of
from scorecam_jax.engine.options import Output, Running, Scoring
from scorecam_jax.methods.controls import uniform
from tests.networks import images, network

SCORING = {
    "score-cam", "group-cam", "gscore-cam", "is-cam", "poly-cam", "ss-cam", "opti-cam", "rise",
    "occlusion",
}  # fmt: skip
RUNNING = {"ablation-cam", "recipro-cam", "vit-recipro-cam", "dff"}
NO_LAYER = {"rise", "occlusion"} | {
    name for name in METHODS if METHODS.entries[name].group in ("attention", "input", "controls")
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_what_its_kind_takes_and_fuses_if_it_reads_layers(name):
    options = set(options_of(METHODS[name]))
    assert set(Output.__annotations__) <= options
    if name in SCORING:
        assert set(Scoring.__annotations__) <= options
    if name in RUNNING:
        assert set(Running.__annotations__) <= options
    assert ("fuse" in options) == (name not in NO_LAYER)


def test_a_method_that_reads_no_layer_refuses_to_fuse():
    with pytest.raises(TypeError, match="uniform has no option 'fuse'; it takes score"):
        uniform(network(), images(), 1, fuse="mean")


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
