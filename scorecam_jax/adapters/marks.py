"""Marks in a traced network: where each layer's activations arise, and running on from there.

A framework's adapter calls `mark` on what each layer returns. Once the network is traced, the
marks are equations of its jaxpr, wherever the layer ran: under `jit`, `vmap` or `checkpoint`.
`find_marks` lists them and `replay` runs the jaxpr, reading and editing some of them. So one
mechanism serves every framework, and no framework's own hooks have to.
"""

import copyreg
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Primitive
from jax.interpreters import ad, batching, mlir

from scorecam_jax.adapters.layout import convolve, is_channels_first
from scorecam_jax.engine.jaxprs import CALLS, bodies, evaluate

Path: TypeAlias = tuple[str, ...]
Edit: TypeAlias = Callable[[jax.Array], jax.Array]

# What `replay` runs into: jit and checkpoint, under the names that versions of JAX give them.
_ENTERED = (*CALLS, "checkpoint", "remat", "remat2")

# The identity, with a name; only what passes forward is marked, and vmap's axes go to the front.
_mark = Primitive("layer")
_mark.def_impl(lambda x, **_: x)
_mark.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(_mark, lambda ctx, x, **_: [x])
ad.primitive_jvps[_mark] = lambda primals, tangents, **at: (_mark.bind(*primals, **at), *tangents)
batching.primitive_batchers[_mark] = lambda args, dims, **at: (
    _mark.bind(jnp.moveaxis(args[0], dims[0], 0), **at),
    0,
)


class Mark(NamedTuple):
    """One run of a layer. `inside` names the loop that keeps its activations in, or is ""."""

    path: Path
    kind: str
    shape: tuple[int, ...]
    inside: str


def mark(output: Any, path: Path, kind: str) -> Any:
    """What a layer returned, its first array marked with the layer's path and class name."""
    leaves, tree = jax.tree.flatten(output)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, jax.Array):
            leaves[i] = _mark.bind(leaf, path=path, kind=kind)
            return jax.tree.unflatten(tree, leaves)
    return output


@functools.cache
def marked_class(kind: Any, path: Path) -> type:
    """A subclass of `kind` whose calls are marked; the same one for the same arguments."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return mark(kind.__call__(self, *args, **kwargs), path, kind.__name__)

    body = {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__}
    body["_marked_from"] = (kind, path)
    metaclass: Any = type(kind)
    return _picklable(metaclass)(kind.__name__, (kind,), body)


@functools.cache
def _picklable(metaclass: Any) -> Any:
    """A subclass of a metaclass whose classes pickle as calls of `marked_class`."""
    made: Any = type(metaclass.__name__, (metaclass,), {"__module__": metaclass.__module__})

    def reduce(kind: Any) -> tuple[Any, ...]:
        return marked_class, kind._marked_from

    copyreg.pickle(made, reduce)
    return made


def find_marks(jaxpr: Any) -> list[Mark]:
    """The marks in a jaxpr, in the order in which the layers finish."""
    return [
        Mark(eqn.params["path"], eqn.params["kind"], eqn.outvars[0].aval.shape, inside)
        for eqn, inside in _equations(jaxpr)
        if eqn.primitive is _mark
    ]


def replay(
    jaxpr: Any, consts: Any, args: Any, edits: dict[Path, Edit | None]
) -> tuple[list[Any], dict[Path, jax.Array]]:
    """Run a jaxpr with the marked activations at some paths edited.

    Returns:
        Its outputs, and the edited activations.
    """
    seen: dict[Path, jax.Array] = {}

    def concerns(eqn: JaxprEqn) -> bool:
        return is_channels_first(eqn) or (eqn.primitive is _mark and eqn.params["path"] in edits)

    def rule(eqn: JaxprEqn, values: list[Any]) -> list[Any] | None:
        if eqn.primitive is _mark:
            edit = edits.get(eqn.params["path"])
            activations = values[0] if edit is None else edit(values[0])
            if eqn.params["path"] in edits:
                seen[eqn.params["path"]] = activations
            return [activations]
        if is_channels_first(eqn):
            return convolve(eqn, values)
        if eqn.primitive.name not in _ENTERED:
            return None
        (body,) = bodies(eqn)
        if not any(concerns(inner) and not inside for inner, inside in _equations(body)):
            return None
        run: Callable[..., Any] = functools.partial(
            replay, getattr(body, "jaxpr", body), edits=edits
        )
        if "policy" in eqn.params:
            keep = {name: eqn.params[name] for name in ("policy", "prevent_cse")}
            run = jax.checkpoint(run, **keep)
        outputs, inner = run(getattr(body, "consts", ()), values)
        seen.update(inner)
        return outputs

    return evaluate(jaxpr, consts, args, rule), seen


def _equations(jaxpr: Any, inside: str = "") -> Iterator[tuple[Any, str]]:
    for eqn in jaxpr.eqns:
        yield eqn, inside
        entered = eqn.primitive.name in _ENTERED
        for body in bodies(eqn):
            yield from _equations(body, inside or ("" if entered else eqn.primitive.name))
