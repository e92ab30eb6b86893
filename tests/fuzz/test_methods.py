"""Every method on values of every kind: finite, in range, and the same whatever must not matter."""

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest

from tests import reference
from tests.fuzz.cases import DTYPES, SHAPE, recipes
from tests.fuzz.changes import CHANGES, nudged
from tests.fuzz.explainers import (
    EXPLAINERS,
    FINISHED_OTHERWISE,
    MINDS,
    compiled,
    in_numpy,
    suited,
    with_gradients,
)
from tests.fuzz.fuzzing import check_same, fuzz
from tests.networks import ON_THE_SAME_PATHS

SOME, MANY = 46, 600
COMPILES_LONG = {
    "is-cam", "ss-cam", "interpolated channels", "plus-plus variant", "integrated-gradients",
}  # fmt: skip
HALVES = {("score-cam", "float16"), ("score-cam", "bfloat16"), ("xgrad-cam", "float16")}


def cases():
    for name in EXPLAINERS:
        for dtype in DTYPES:
            quick = name not in COMPILES_LONG | ON_THE_SAME_PATHS
            if (dtype == "float32" and quick) or (name, dtype) in HALVES:
                yield pytest.param(name, dtype, SOME, id=f"{name}-{dtype}")
            marks = pytest.mark.fuzz
            yield pytest.param(name, dtype, MANY, id=f"{name}-{dtype}-many", marks=marks)


def check_ranges(name, found):
    for field, values in found.items():
        for part in values if field == "slopes" else [values]:
            assert np.isfinite(part).all(), f"{field} is not finite"
    low = -1 if name == "signed variant" else 0
    assert low <= found["heatmap"].min()
    assert found["heatmap"].max() <= 1


def check_sum(name, found):
    """The heatmap is the sum of the maps by the weights, as float64 has it.

    Returns what rounding of the sum may do to a heatmap.
    """
    rounding = 0.0
    for heatmap, weights, maps in zip(
        found["heatmap"], found["weights"], found["activations"], strict=True
    ):
        sums = reference.resize(maps @ weights, SHAPE)
        magnitude = np.abs(maps).max((0, 1)) @ np.abs(weights)
        if name == "signed variant":
            span, expected = np.abs(sums).max(), sums
        else:
            sums = np.maximum(sums, 0)
            span, expected = sums.max() - sums.min(), sums - sums.min()
        atol = 64 * float(jnp.finfo(jnp.float32).eps) * magnitude + 1e-5 * span
        np.testing.assert_allclose(heatmap * span, expected, rtol=0, atol=atol)
        rounding = max(rounding, atol / span if span else 0)
    return rounding


@pytest.mark.parametrize(("name", "dtype", "count"), [*cases()])
def test_methods(name, dtype, count):
    program = compiled(with_gradients, name)

    @fuzz(count, f"{name} {dtype}")
    @hypothesis.given(recipes, hypothesis.strategies.sampled_from(list(CHANGES)))
    def check(recipe, change):
        case = suited(name, dtype, recipe).make(dtype)
        found = in_numpy(program(case))
        check_ranges(name, found)
        is_sum = "weights" in found and name not in FINISHED_OTHERWISE
        rounding = check_sum(name, found) if is_sum else 0
        if name in MINDS[change]:
            return
        random = np.random.default_rng(recipe.seed)
        changed, restore = CHANGES[change](case, random)
        again = restore(in_numpy(program(changed)))
        nearby = [in_numpy(program(nudged(case, random))) for _ in range(2)]
        for one in nearby:
            check_ranges(name, one)
        check_same(dtype, found, again, nearby, rounding)

    check()
