"""However it is computed, an explanation is the same."""

import hypothesis
import jax
import numpy as np
import pytest

from tests.fuzz.cases import recipes
from tests.fuzz.changes import nudged
from tests.fuzz.explainers import (
    EXPLAINERS,
    compiled,
    explanation,
    in_numpy,
    suited,
    takes,
    with_gradients,
)
from tests.fuzz.fuzzing import check_same, fuzz

SOME, MANY = 30, 250


def _each_alone(name, case):
    def explain(inputs, target):
        return explanation(name, case._replace(inputs=inputs[None], targets=target[None]))

    return jax.tree.map(lambda found: found[:, 0], jax.vmap(explain)(case.inputs, case.targets))


def _over_devices(name, case):
    mesh = jax.make_mesh((8,), ("devices",), devices=jax.devices("cpu"))
    return explanation(name, case, mesh=mesh)


ROUTES = {
    "small batches": (explanation, lambda name, case: explanation(name, case, batch_size=3)),
    "default batches": (explanation, lambda name, case: explanation(name, case, batch_size=None)),
    "recomputed": (with_gradients, lambda name, case: with_gradients(name, case, remat=True)),
    "over devices": (explanation, _over_devices),
    "vmap": (explanation, _each_alone),
    "eager": (explanation, explanation),
}
OPTIONS = {
    "small batches": "batch_size",
    "default batches": "batch_size",
    "recomputed": "remat",
    "over devices": "mesh",
}


def cases():
    for name in EXPLAINERS:
        for route in ROUTES:
            if route in OPTIONS and not takes(name, OPTIONS[route]):
                continue
            if name == "score-cam":
                yield pytest.param(name, route, SOME, id=f"{name}-{route}")
            marks = pytest.mark.fuzz
            yield pytest.param(name, route, MANY, id=f"{name}-{route}-many", marks=marks)


@pytest.mark.parametrize(("name", "route", "count"), [*cases()])
def test_routes(name, route, count, request):
    if route == "over devices":
        request.getfixturevalue("cpus")
    plainly, otherwise = ROUTES[route]
    program = compiled(plainly, name)
    other = (lambda case: otherwise(name, case)) if route == "eager" else compiled(otherwise, name)

    @fuzz(count, f"{name} {route}")
    @hypothesis.given(recipes)
    def check(recipe):
        case = suited(name, "float32", recipe).make("float32")
        random = np.random.default_rng(recipe.seed)
        found = in_numpy(program(case))
        again = in_numpy(other(case))
        nearby = [in_numpy(program(nudged(case, random))) for _ in range(2)]
        for fields in (found, again, *nearby):
            fields.pop("slopes", None)
        check_same("float32", found, again, nearby)

    check()
