"""Matrix products whose factors are rounded to bfloat16, and summed in float32."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn

from scorecam_jax.program.jaxprs import CALLS, CHECKPOINTS, bind, bodies, evaluate, scan_parts
from scorecam_jax.program.marks import equations, rerun, rerun_scan

_HIGHEST = lax.Precision.HIGHEST
_PRODUCTS = ("dot_general", "conv_general_dilated")


class _OfImage(NamedTuple):
    """A value that depends on the image."""

    value: Any


def round_factors(jaxpr: Any, consts: Any, args: Sequence[Any], weights: int) -> list[Any]:
    """Run a program with the factors of its float32 products rounded to bfloat16.

    A product of weights alone stays as it is, since it runs once, and one of the highest precision,
    since that was asked for. So do products inside `while` loops, and those inside functions with a
    derivative of their own.

    Args:
        jaxpr: takes the weights, then the images.
        consts: its constants.
        args: its arguments.
        weights: how many arrays the weights are.

    Returns:
        The program's outputs, of the same types.
    """
    marked = [*args[:weights], *map(_OfImage, args[weights:])]
    return list(map(_plain, _run(jaxpr, consts, marked)))


def _run(jaxpr: Any, consts: Any, args: Sequence[Any]) -> list[Any]:
    return evaluate(jaxpr, consts, args, _rule)


def _rule(eqn: JaxprEqn, operands: list[Any]) -> list[Any] | None:
    if not any(isinstance(each, _OfImage) for each in operands):
        return None
    name, plain = eqn.primitive.name, list(map(_plain, operands))
    if name in _PRODUCTS:
        results = _product(eqn, plain)
    elif name in _ENTERED and any(map(_has_products, bodies(eqn))):
        results = _ENTERED[name](eqn, operands)
    else:
        results = bind(eqn, plain)
    return [_OfImage(_plain(each)) for each in results]


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, _OfImage) else value


def _has_products(body: Any) -> bool:
    inner = equations(getattr(body, "jaxpr", body))
    return any(eqn.primitive.name in _PRODUCTS for eqn, _ in inner)


def _product(eqn: JaxprEqn, factors: list[Any]) -> list[Any]:
    precise = eqn.params["precision"] in (_HIGHEST, (_HIGHEST, _HIGHEST))
    if precise or any(factor.dtype != jnp.float32 for factor in factors):
        return bind(eqn, factors)
    params = eqn.params | {"preferred_element_type": np.dtype(np.float32)}
    return [eqn.primitive.bind(*(factor.astype(jnp.bfloat16) for factor in factors), **params)]


def _call(eqn: JaxprEqn, operands: list[Any]) -> list[Any]:
    return rerun(_run, eqn, next(bodies(eqn)), operands)


def _scan(eqn: JaxprEqn, operands: list[Any]) -> list[Any]:
    _, _, kept, _ = scan_parts(eqn)

    def run(body: Any, consts: Any, values: list[Any]) -> list[Any]:
        marked = [*values[:kept], *map(_OfImage, values[kept:])]
        return list(map(_plain, _run(body, consts, marked)))

    return rerun_scan(run, eqn, [*operands[:kept], *map(_plain, operands[kept:])])


def _cond(eqn: JaxprEqn, operands: list[Any]) -> list[Any]:
    """Both kinds: by an index, and by the platform that a program is compiled for."""
    _, *values = operands

    def rounded(branch: Any) -> Any:
        def run(*arrays: Any) -> list[Any]:
            pairs = zip(values, arrays, strict=True)
            given = [_OfImage(x) if isinstance(value, _OfImage) else x for value, x in pairs]
            return list(map(_plain, _run(branch.jaxpr, branch.consts, given)))

        return jax.make_jaxpr(run)(*(variable.aval for variable in branch.jaxpr.invars))

    branches = tuple(map(rounded, eqn.params["branches"]))
    return eqn.primitive.bind(*map(_plain, operands), **(eqn.params | {"branches": branches}))


_ENTERED: dict[str, Callable[[JaxprEqn, list[Any]], list[Any]]] = {
    **dict.fromkeys((*CALLS, *CHECKPOINTS), _call),
    "scan": _scan,
    "cond": _cond,
}
