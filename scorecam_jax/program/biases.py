"""What a traced program adds to what it knows of the image: its biases.

A bias is an array that does not depend on the image and is added to one that does. A batch norm
subtracts a mean, multiplies and adds: that makes one bias, behind all three. Numbers alone, such as
the 1 in a GELU, are none.
"""

import collections
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal

from scorecam_jax.program.jaxprs import CALLS, CHECKPOINTS, bind, bodies, evaluate


class _Seen(NamedTuple):
    """A value that depends on the image, and what a subtraction before has added to it."""

    value: Any
    bias: Any = None


def run_with_biases(
    jaxpr: Any, consts: Any, args: Sequence[Any], weights: int, taps: Sequence[Any] | None = None
) -> tuple[list[Any], list[Any]]:
    """Run a program, and collect its biases.

    Args:
        jaxpr: takes the weights, then the images.
        consts: its constants.
        args: its arguments.
        weights: how many arrays the weights are.
        taps: added where the biases are, one for each: gradients by them are those of what the
            biases are added to. None adds nothing.

    Returns:
        What the program returns; and its biases in their order, each of the size of what it is
        added to. Those inside loops are not found.
    """
    biases: list[Any] = []

    def settle(seen: _Seen) -> Any:
        if seen.bias is None:
            return seen.value
        biases.append(seen.bias)
        return seen.value if taps is None else seen.value + taps[len(biases) - 1]

    def run(jaxpr: Any, consts: Any, args: Sequence[Any]) -> list[Any]:
        uses = collections.Counter(
            atom for eqn in jaxpr.eqns for atom in eqn.invars if not isinstance(atom, Literal)
        )
        uses.update(2 * [atom for atom in jaxpr.outvars if not isinstance(atom, Literal)])

        def rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
            if not any(isinstance(each, _Seen) for each in operands):
                return None
            if eqn.primitive.name in (*CALLS, *CHECKPOINTS):
                body = next(bodies(eqn))
                return run(getattr(body, "jaxpr", body), getattr(body, "consts", ()), operands)
            found = _affine(eqn, operands)
            if found is None:
                plain = [settle(each) if isinstance(each, _Seen) else each for each in operands]
                return [_Seen(value) for value in bind(eqn, plain)]
            # What follows a subtraction, or multiplies it, may be the rest of a batch norm.
            waits = eqn.primitive.name != "add" and uses[eqn.outvars[0]] == 1
            return [found if waits else _Seen(settle(found))]

        return evaluate(jaxpr, consts, args, rule)

    seen = [*args[:weights], *map(_Seen, args[weights:])]
    results = [
        settle(each) if isinstance(each, _Seen) else each for each in run(jaxpr, consts, seen)
    ]
    return results, biases


def _affine(eqn: JaxprEqn, operands: list[Any]) -> _Seen | None:
    """What an equation does to a value and its bias, if that is a step of an affine layer."""
    name = eqn.primitive.name
    if name not in ("add", "sub", "mul", "div"):
        return None
    first, second = operands
    seen, other = (first, second) if isinstance(first, _Seen) else (second, first)
    if isinstance(other, _Seen) or (name == "div" and seen is second):
        return None
    adds = name in ("add", "sub")
    if not jnp.ndim(other) if adds else seen.bias is None:
        return None

    def apply(value: Any) -> Any:
        (result,) = bind(eqn, [value, other] if seen is first else [other, value])
        return result

    before = jnp.zeros_like(seen.value) if seen.bias is None else seen.bias
    return _Seen(apply(seen.value), apply(before))
