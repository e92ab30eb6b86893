"""The biases of a traced program.

A bias is an array that does not depend on the image and is added to one that does. A batch norm
subtracts a mean, multiplies and adds: this counts as one bias, added after all three. Scalars, such
as the 1 in a GELU, are not biases.
"""

import collections
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal

from scorecam_jax.program.jaxprs import CALLS, CHECKPOINTS, bind, bodies, evaluate


class _Seen(NamedTuple):
    """A value that depends on the image, and a bias in it that is not yet recorded."""

    value: Any
    bias: Any = None


def run_with_biases(
    jaxpr: Any, consts: Any, args: Sequence[Any], weights: int, taps: Sequence[Any] | None = None
) -> tuple[list[Any], list[Any]]:
    """Run a program and collect its biases.

    Args:
        jaxpr: the program; its arguments are the weights, then the images.
        consts: its constants.
        args: its arguments.
        weights: the number of weight arrays.
        taps: one array per bias, added where the bias is: its gradient is that of the value which
            the bias is added to. None adds nothing.

    Returns:
        The program's results; and its biases in order, each with the shape of the value to which it
        is added. Biases inside loops are not found.
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
            # After a subtraction, the next operation may belong to the same batch norm.
            waits = eqn.primitive.name != "add" and uses[eqn.outvars[0]] == 1
            return [found if waits else _Seen(settle(found))]

        return evaluate(jaxpr, consts, args, rule)

    seen = [*args[:weights], *map(_Seen, args[weights:])]
    results = [
        settle(each) if isinstance(each, _Seen) else each for each in run(jaxpr, consts, seen)
    ]
    return results, biases


def _affine(eqn: JaxprEqn, operands: list[Any]) -> _Seen | None:
    """Apply an equation to a value and its bias; None if it is no step of an affine layer."""
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
