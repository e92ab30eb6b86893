import functools

import pytest

from scorecam_jax import Interpolated, group_cam, rise, score_cam, ss_cam
from scorecam_jax.study.cost import advice, passes

KNOWN = {"live": 1000, "targets": 2, "photographs": 1}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (score_cam, 1002),
        (functools.partial(score_cam, channels=Interpolated(64)), 66),
        (functools.partial(score_cam, channels=2000), 1002),
        (functools.partial(score_cam, channels=Interpolated(tolerance=0.1)), 1002),
        (ss_cam, 35 * 1002),
        (group_cam, 3 + 33 * 2),
        (rise, 4001),
        (lambda model, inputs, targets: ..., 1),
    ],
)
def test_passes_are_those_of_the_table(method, expected):
    assert passes(method, 1000, 2) == expected


def test_a_long_wait_names_what_takes_it():
    assert advice({"score-cam": score_cam}, seconds=0.005, **KNOWN) is None
    text = advice({"score-cam": score_cam}, seconds=0.02, **KNOWN)
    assert "takes 1000 passes of this network, about 20 s per photograph." in text
    assert "--channels 64" in text
    several = {"score-cam": score_cam, "ss-cam": ss_cam, "rise": rise}
    text = advice(several, seconds=0.01, **{**KNOWN, "photographs": 30})
    assert "40,073 passes of the network per photograph" in text
    assert "(ss-cam 35,070, rise 4,001, score-cam 1,002), about 7 minutes, 3.3 hours in all" in text
    text = advice({"ss-cam": ss_cam}, seconds=0.01, **KNOWN)
    assert "--channels" not in text
