import inspect

import jax
import numpy as np
import pytest

from scorecam_jax import Deviation, Gradient, Interpolated
from scorecam_jax.cli.choice import METHOD_OPTIONS, chosen, flags
from scorecam_jax.cli.main import parser
from scorecam_jax.methods import METHODS, variants
from tests.cli.toy import scorecam
from tests.networks import images, network


def parsed(*arguments):
    return parser().parse_args(["explain", "x", *arguments])


def test_methods_get_the_options_that_they_take():
    options = parsed("--channels", "3", "--variant", "paper", "--batch-size", "2")
    keywords = chosen(options, "score-cam", None).keywords
    assert keywords == {"channels": 3, "variant": variants.PAPER, "batch_size": 2}
    grad_cam = chosen(options, "grad-cam", None)
    assert getattr(grad_cam, "keywords", {}).get("variant") is None
    assert chosen(parsed(), "grad-cam", None) is METHODS["grad-cam"]


def test_random_methods_have_a_key_of_their_own_unless_told_otherwise():
    for name in METHODS:
        random = "key" in inspect.signature(METHODS[name]).parameters
        plain = getattr(chosen(parsed(), name, None), "keywords", {})
        seeded = getattr(chosen(parsed("--seed", "5"), name, None), "keywords", {})
        assert ("key" in plain) == ("key" in seeded) == random
        if random:
            assert plain["key"] == jax.random.key(0)
            assert seeded["key"] == jax.random.key(5)


def test_a_preset_keeps_what_it_sets():
    keywords = chosen(parsed("--channels", "3"), "score-cam-64", None).keywords
    assert keywords["channels"] == Interpolated(64)


def test_a_number_of_channels_is_interpolated_from_unless_told_otherwise():
    def channels(*arguments, name="score-cam"):
        return chosen(parsed(*arguments), name, None).keywords["channels"]

    assert channels("--channels", "3") == 3
    assert channels("--channels", "3", name="paper") == 3
    assert channels("--channels", "3", "--choose", "interpolated") == Interpolated(3)
    assert channels("--channels", "3", name="is-cam") == 3
    assert channels("--channels", "3", "--choose", "deviation") == Deviation(3)
    assert channels("--channels", "3", "--choose", "gradient") == Gradient(3)
    assert channels("--tolerance", "0.05") == Interpolated(tolerance=0.05)


def test_variants_are_score_cams():
    assert chosen(parsed(), "paper", None).keywords["variant"] is variants.PAPER


def test_every_option_is_taken_by_some_method():
    taken = {flag for method in METHODS.values() for flag in flags(method)}
    assert taken == {option.flag for option in METHOD_OPTIONS}


@pytest.mark.usefixtures("traces")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "--method", "grad-cam", "--variant", "paper"], "grad-cam takes no --variant"),
        (
            ["explain", "--seed", "3"],
            "score-cam takes no --seed; it takes --channels, --tolerance, --variant",
        ),
        (
            ["compare", "--methods", "grad-cam,uniform", "--variant", "paper"],
            "none of grad-cam, uniform takes --variant",
        ),
        (["explain", "--method", "occlusion", "--fuse", "mean"], "occlusion takes no --fuse"),
    ],
)
def test_options_of_no_use_are_refused(photo, capsys, arguments, message):
    assert scorecam(arguments[0], photo, *arguments[1:]) == 2
    assert message in capsys.readouterr().err


def test_a_seed_changes_what_is_drawn():
    def drawn(*arguments):
        method = chosen(parsed("--method", "rise", *arguments), "rise", None)
        return np.asarray(method(network(), images(), 0, count=8, cells=3).heatmap)

    np.testing.assert_array_equal(drawn("--seed", "0"), drawn())
    np.testing.assert_array_equal(drawn("--seed", "1"), drawn("--seed", "1"))
    assert np.abs(drawn("--seed", "1") - drawn()).max() > 0.1
