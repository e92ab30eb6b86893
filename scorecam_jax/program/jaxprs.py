"""Run traced programs equation by equation."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

Rule = Callable[[JaxprEqn, list[Any]], list[Any] | None]

# The names that versions of JAX give to a call of a jitted function.
CALLS = ("jit", "pjit", "closed_call", "core_call")
CHECKPOINTS = ("checkpoint", "remat", "remat2")
# Calls that run one body once, with a custom derivative.
_DERIVATIVES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin")


def evaluate(jaxpr: Any, consts: Any, args: Any, rule: Rule) -> list[Any]:
    """Run a jaxpr. `rule` computes each equation; where it returns None, the equation is bound."""
    values: dict[Any, Any] = dict(
        zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True)
    )

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        results = rule(eqn, operands)
        if results is None:
            results = bind(eqn, operands)
        values.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def bind(eqn: JaxprEqn, operands: list[Any]) -> list[Any]:
    """Apply an equation to operands."""
    results = eqn.primitive.bind(*operands, **eqn.primitive.get_bind_params(eqn.params))
    return list(results) if eqn.primitive.multiple_results else [results]


def bodies(eqn: JaxprEqn) -> Iterator[Any]:
    """The jaxprs among an equation's parameters."""
    for value in eqn.params.values():
        for body in value if isinstance(value, tuple) else (value,):
            if isinstance(body, Jaxpr | ClosedJaxpr):
                yield body


def scan_parts(eqn: JaxprEqn) -> tuple[Any, Any, int, int]:
    """A scan's body and its constants, and how many of its inputs are fixed and how many carried.

    They are counted by rank, because the parameters' names differ between versions of JAX: an
    array of which the body takes or returns slices has one axis more outside.
    """
    (body,) = bodies(eqn)
    jaxpr = getattr(body, "jaxpr", body)
    kept = sum(map(_same_rank, eqn.invars, jaxpr.invars))
    carried = sum(map(_same_rank, eqn.outvars, jaxpr.outvars))
    return jaxpr, getattr(body, "consts", ()), kept - carried, carried


def _same_rank(outside: Any, inside: Any) -> bool:
    return len(outside.aval.shape) == len(inside.aval.shape)


class Node(NamedTuple):
    """An equation of a flat program. Values are numbers; None stands for a literal."""

    eqn: JaxprEqn
    operands: list[int | None]
    results: list[int]


class Program(NamedTuple):
    """A jaxpr with its calls inlined.

    Attributes:
        nodes: the equations in order, including those of called functions. A loop or conditional is
            a single equation.
        inputs: the values of the constants, then those of the arguments.
        outputs: the returned values.
        numbers: each variable's value.
    """

    nodes: list[Node]
    inputs: list[int]
    outputs: list[int | None]
    numbers: dict[Any, int | None]


def flatten(jaxpr: Any) -> Program:
    """Inline the calls and checkpoints of a jaxpr."""
    nodes: list[Node] = []
    numbers: dict[Any, int | None] = {}
    fresh = itertools.count()

    def run(jaxpr: Any, inputs: list[int | None]) -> list[int | None]:
        numbers.update(zip(jaxpr.invars, inputs, strict=True))
        numbers.update((variable, next(fresh)) for variable in jaxpr.constvars)

        def read(atom: Any) -> int | None:
            return None if isinstance(atom, Literal) else numbers[atom]

        for eqn in jaxpr.eqns:
            operands = [read(atom) for atom in eqn.invars]
            body = entered(eqn)
            if body is None:
                made: list[int] = [next(fresh) for _ in eqn.outvars]
                nodes.append(Node(eqn, operands, made))
                numbers.update(zip(eqn.outvars, made, strict=True))
            else:
                numbers.update(zip(eqn.outvars, run(body, operands), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    arguments: list[int | None] = [next(fresh) for _ in jaxpr.invars]
    outputs = run(jaxpr, arguments)
    inputs = [numbers[variable] for variable in (*jaxpr.constvars, *jaxpr.invars)]
    return Program(nodes, [value for value in inputs if value is not None], outputs, numbers)


def entered(eqn: JaxprEqn) -> Any | None:
    """The body of an equation that does nothing but run it once; None for other equations."""
    if eqn.primitive.name not in (*CALLS, *CHECKPOINTS, *_DERIVATIVES):
        return None
    body = next(bodies(eqn), None)
    return getattr(body, "jaxpr", body)
