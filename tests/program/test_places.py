"""Where axes go, compared with what a derivative says of a small operation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.program.places import fates

OPERATIONS = {
    "transpose": lambda x: x.transpose(2, 0, 1),
    "stack": lambda x: jnp.stack([x, jnp.zeros_like(x)], 1),
    "stack in front": lambda x: jnp.stack([jnp.ones_like(x), x]),
    "concatenate": lambda x: jnp.concatenate([x, jnp.ones((2, 1, 4))], 1),
    "tile": lambda x: jnp.tile(x, (1, 2, 1)),
    "reduce_sum": lambda x: x.sum(1),
    "cumsum": lambda x: jax.lax.cumsum(x, 2),
    "dot_general": lambda x: jax.lax.dot_general(x, jnp.ones((4, 5)), (((2,), (0,)), ((), ()))),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_axis_goes_where_a_derivative_finds_it(name):
    """Two entries that differ along one axis alone reach results that differ along its goals."""
    function, x = OPERATIONS[name], jnp.ones((2, 3, 4))
    jaxpr = jax.make_jaxpr(function)(x).jaxpr
    eqn = next(e for e in jaxpr.eqns if e.primitive.name == name.split()[0])
    told = fates(eqn, next(i for i, atom in enumerate(eqn.invars) if atom is jaxpr.invars[0]))
    depends = np.asarray(jax.jacobian(function)(x)) != 0
    result = depends.ndim - x.ndim
    for axis, fate in enumerate(told):
        # Which places of a goal hear of which places of the axis, whatever the others are.
        for goal in range(result):
            rest = tuple(i for i in range(depends.ndim) if i not in (goal, result + axis))
            heard = depends.any(rest)
            apart = all(
                not (heard[:, a] & heard[:, b]).any()
                for a, b in itertools.combinations(range(heard.shape[1]), 2)
            )
            carried = fate is not None and (0, goal) in fate
            assert carried == apart, (axis, goal)


def test_an_array_without_entries_is_reshaped():
    jaxpr = jax.make_jaxpr(lambda x: x.reshape(0, 5))(jnp.ones((0, 3))).jaxpr
    assert fates(jaxpr.eqns[0], 0) == [frozenset(), frozenset()]
