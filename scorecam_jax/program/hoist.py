"""Compute the part of a function that depends on its weights alone ahead of a loop."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import JaxprEqn

from scorecam_jax.program.jaxprs import CALLS, Rule, bind, bodies, evaluate

_LATER: Any = object()


def hoist(function: Callable[..., Any], weights: Any, *operands: Any) -> Callable[..., Any]:
    """Compute now the operations of `function(weights, *operands)` that need its weights alone.

    A loop around the returned function does not repeat them. XLA would, because it moves nothing
    out of the conditional within such a loop. An operation whose results are more than four times
    its operands, such as a bias spread over an image, is left in the function, where it is fused
    with a larger operation and takes no memory.

    Args:
        function: called as `function(weights, *operands)`.
        weights: a pytree of arrays.
        *operands: pytrees of arrays; only their shapes and types are used.

    Returns:
        `run` such that `run(*operands)` equals `function(weights, *operands)`.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(weights, *operands)
    arrays = jax.tree.leaves(weights)
    done: list[list[Any] | None] = []

    def now(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
        if eqn.primitive.name in CALLS:
            return _call(eqn, values, now)
        known = not eqn.effects and not any(value is _LATER for value in values)
        done.append(bind(eqn, values) if known and not _grows(eqn) else None)
        return done[-1] or [_LATER] * len(eqn.outvars)

    later = [_LATER] * (len(traced.jaxpr.invars) - len(arrays))
    evaluate(traced.jaxpr, traced.consts, [*arrays, *later], now)

    def run(*operands: Any) -> Any:
        results = iter(done)

        def rest(eqn: JaxprEqn, values: list[Any]) -> list[Any] | None:
            if eqn.primitive.name in CALLS:
                return _call(eqn, values, rest)
            return next(results)

        arguments = [*arrays, *jax.tree.leaves(operands)]
        outputs = evaluate(traced.jaxpr, traced.consts, arguments, rest)
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return run


def _grows(eqn: Any) -> bool:
    sizes = [
        sum(math.prod(atom.aval.shape) for atom in atoms) for atoms in (eqn.invars, eqn.outvars)
    ]
    return sizes[1] > 4 * sizes[0]


def _call(eqn: JaxprEqn, values: list[Any], rule: Rule) -> list[Any]:
    (body,) = bodies(eqn)
    return evaluate(getattr(body, "jaxpr", body), getattr(body, "consts", ()), values, rule)
