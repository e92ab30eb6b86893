import functools

import jax
import jax.numpy as jnp
import pytest

from scorecam_jax import Deviation, Gradient, Interpolated, grad_cam, rise, score_cam, variants
from scorecam_jax.study.sameness import same_methods

INPUTS = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")


def model(x):
    """Three channels."""
    return x.mean((1, 2)), jax.nn.relu(x)


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"channels": Interpolated(64)}, True),
        ({"channels": Interpolated(3)}, True),
        ({"channels": Interpolated(2)}, False),
        ({"channels": Interpolated(tolerance=0.05)}, False),
        ({"channels": Deviation(3)}, True),
        ({"channels": Deviation(2)}, False),
        ({"channels": Gradient(3)}, True),
        ({"channels": None}, True),
        ({"variant": variants.OFFICIAL}, True),
        ({"variant": variants.PAPER}, False),
        ({"batch_size": 2}, False),
    ],
)
def test_all_channels_and_defaults_are_no_options(options, same):
    methods = {"plain": score_cam, "other": functools.partial(score_cam, **options)}
    assert same_methods(methods, model, INPUTS) == ({"other": "plain"} if same else {})


def test_other_functions_keys_and_scores_are_other_methods():
    key = jax.random.key(0)
    methods = {
        "grad": grad_cam,
        "score": score_cam,
        "rise": functools.partial(rise, key=key),
        "again": functools.partial(rise, key=key),
        "seeded": functools.partial(rise, key=jax.random.key(1)),
        "contrast": functools.partial(score_cam, score=lambda outputs: outputs),
    }
    assert same_methods(methods, model, INPUTS) == {"again": "rise"}


def test_of_several_layers_the_one_with_most_channels_counts():
    def layers(x):
        return x.mean((1, 2)), (x, jnp.concatenate([x, x], -1))

    few = functools.partial(score_cam, channels=Interpolated(4))
    # Four channels are all of the first layer and not all of the second.
    assert same_methods({"all": score_cam, "few": few}, layers, INPUTS) == {}
