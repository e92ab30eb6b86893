"""Mark each layer's output in a traced network, to read and edit it.

A framework's adapter calls `mark` on each layer's output. `jax.ad_checkpoint.checkpoint_name` marks
too. Once the network is traced, the marks are equations of its jaxpr, wherever the layer ran: under
`jit`, `vmap` or `checkpoint`. `expose` moves them out of calls and loops, and `replay` runs the
jaxpr, reading and editing some values. This mechanism serves every framework, without the
framework's hooks.
"""

import copyreg
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Primitive
from jax.interpreters import ad, batching, mlir

from scorecam_jax.program.jaxprs import CALLS, CHECKPOINTS, bind, bodies, evaluate, scan_parts
from scorecam_jax.program.layout import convolve, is_channels_first

Path: TypeAlias = tuple[str, ...]
Edit: TypeAlias = Callable[[jax.Array], jax.Array]

_ENTERED = (*CALLS, *CHECKPOINTS)

# The identity, with a name. Tangents are not marked, and vmap's axes move to the front.
_mark = Primitive("layer")
_mark.def_impl(lambda x, **_: x)
_mark.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(_mark, lambda ctx, x, **_: [x])
ad.primitive_jvps[_mark] = lambda primals, tangents, **at: (_mark.bind(*primals, **at), *tangents)
batching.primitive_batchers[_mark] = lambda args, dims, **at: (
    _mark.bind(jnp.moveaxis(args[0], dims[0], 0), **at),
    0,
)


class Run(NamedTuple):
    """The number of a layer's run, from 0, and the total number of its runs."""

    which: int
    total: int


class Chosen(NamedTuple):
    """A layer, and the runs of the loops around it, as the user wrote them."""

    path: Path
    runs: tuple[int, ...]

    @property
    def layer(self) -> Path:
        """The path without the function that follows the layer."""
        return (*self.path[:-1], self.path[-1].partition(":")[0])


class Mark(NamedTuple):
    """The layer that an equation marks.

    Attributes:
        path: the layer's path, with the runs of the loops around it in brackets.
        kind: the name of the layer's class.
        runs: the runs of these loops.
    """

    path: Path
    kind: str
    runs: tuple[Run, ...]


def mark(output: Any, path: Path, kind: str) -> Any:
    """Mark the first array of a layer's output with the layer's path and class name."""
    leaves, tree = jax.tree.flatten(output)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, jax.Array):
            leaves[i] = mark_array(leaf, path, kind)
            return jax.tree.unflatten(tree, leaves)
    return output


def mark_array(array: Any, path: Path, kind: str) -> Any:
    """Mark an array with a path and a kind, such as a layer's class name."""
    return _mark.bind(array, path=path, kind=kind, runs=())


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


def mark_of(eqn: JaxprEqn) -> Mark | None:
    """The layer that an equation marks; None if it marks none."""
    if eqn.primitive is _mark:
        return Mark(eqn.params["path"], eqn.params["kind"], eqn.params["runs"])
    if eqn.primitive.name == "name":
        return Mark(tuple(eqn.params["name"].split("/")), "checkpoint_name", ())
    return None


def equations(jaxpr: Any, inside: str = "") -> Iterator[tuple[JaxprEqn, str]]:
    """Yield all equations of a jaxpr, each with the name of the loop or conditional around it.

    The name is "" outside of loops and conditionals.
    """
    for eqn in jaxpr.eqns:
        yield eqn, inside
        within = inside or ("" if eqn.primitive.name in _ENTERED else eqn.primitive.name)
        for body in bodies(eqn):
            yield from equations(getattr(body, "jaxpr", body), within)


def is_exposed(jaxpr: Any) -> bool:
    """Whether `expose` would change nothing: all marks are where they can be read and edited."""
    top = {id(eqn) for eqn in jaxpr.eqns}
    return all(
        eqn.primitive.name != "name" and (eqn.primitive is not _mark or id(eqn) in top)
        for eqn, _ in equations(jaxpr)
    )


def expose(
    jaxpr: Any,
    consts: Any,
    args: Any,
    chosen: tuple[Chosen, ...],
    loops: tuple[tuple[int, Run], ...] = (),
) -> list[Any]:
    """Run a jaxpr so that its trace has the marks outside of calls and loops.

    Calls with marks are inlined. Of a `scan` with marks, the chosen runs are written out, and the
    others remain scans between them. If no run of its layers is chosen, the last run is written
    out.

    Args:
        jaxpr: the program.
        consts: its constants.
        args: its arguments.
        chosen: the layers with the runs to write out.
        loops: for each scan around this program, the number of names that its layers share, and its
            current run.
    """

    def rule(eqn: JaxprEqn, values: list[Any]) -> list[Any] | None:
        if found := mark_of(eqn):
            path, runs = _within(found.path, loops), tuple(run for _, run in loops)
            # The names stay, because policies of `checkpoint` read them.
            (value,) = values if eqn.primitive is _mark else bind(eqn, values)
            return [_mark.bind(value, path=path, kind=found.kind, runs=runs)]
        if not any(map(_has_marks, bodies(eqn))):
            return None
        if eqn.primitive.name == "scan":
            return _expose_scan(eqn, values, chosen, loops)
        if eqn.primitive.name not in _ENTERED:
            return None
        (body,) = bodies(eqn)
        return rerun(functools.partial(expose, chosen=chosen, loops=loops), eqn, body, values)

    return evaluate(jaxpr, consts, args, rule)


def rerun(run: Callable[..., Any], eqn: JaxprEqn, body: Any, values: list[Any]) -> Any:
    """Run a call's body, under `checkpoint` if the call is one."""
    inner: Callable[..., Any] = functools.partial(run, getattr(body, "jaxpr", body))
    if "policy" in eqn.params:
        keep = {name: eqn.params[name] for name in ("policy", "prevent_cse")}
        inner = jax.checkpoint(inner, **keep)
    return inner(getattr(body, "consts", ()), values)


def rerun_scan(run: Callable[..., Any], eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    """Run a scan, with `run` in place of its body."""
    body, constants, kept, carried = scan_parts(eqn)
    fixed, start, stacked = (
        values[:kept], values[kept : kept + carried], values[kept + carried :],
    )  # fmt: skip

    def step(carry: Any, slices: Any) -> Any:
        results = run(body, constants, [*fixed, *carry, *slices])
        return results[:carried], results[carried:]

    length, reverse = eqn.params["length"], eqn.params["reverse"]
    carry, made = lax.scan(step, start, stacked, length=length, reverse=reverse)
    return [*carry, *made]


def _has_marks(jaxpr: Any) -> bool:
    inner = equations(getattr(jaxpr, "jaxpr", jaxpr))
    return any(mark_of(eqn) for eqn, _ in inner)


def _within(path: Path, loops: tuple[tuple[int, Run], ...]) -> Path:
    named = list(path)
    for depth, run in loops:
        named[max(depth, 1) - 1] += f"[{run.which - run.total}]"
    return tuple(named)


def _expose_scan(
    eqn: JaxprEqn,
    values: list[Any],
    chosen: tuple[Chosen, ...],
    loops: tuple[tuple[int, Run], ...],
) -> list[Any]:
    """Run a scan with the chosen runs of its body written out."""
    jaxpr, constants, first, carried = scan_parts(eqn)
    count, second = eqn.params["length"], first + carried
    consts, carry, stacked = values[:first], values[first:second], values[second:]
    marks = (mark_of(inner) for inner, _ in equations(jaxpr))
    names = {found.path for found in marks if found}
    apart = _runs_apart(names, count, chosen, len(loops))
    alike = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*names, strict=False))
    depth = len(list(alike))

    def place(index: Any) -> Any:
        return count - 1 - index if eqn.params["reverse"] else index

    def arguments(carry: Any, index: Any) -> list[Any]:
        # Indexes the whole arrays, because slicing them for each scan would copy the weights.
        slices = [lax.dynamic_index_in_dim(x, place(index), keepdims=False) for x in stacked]
        return [*consts, *carry, *slices]

    def step(carry: Any, index: Any) -> Any:
        results = evaluate(jaxpr, constants, arguments(carry, index), lambda *_: None)
        return results[: len(carry)], results[len(carry) :]

    pieces: list[Any] = []
    for start, stop in zip([0, *(run + 1 for run in apart)], [*apart, count], strict=True):
        if start < stop:
            carry, made = lax.scan(step, carry, jnp.arange(start, stop))
            pieces.append(made)
        if stop < count:
            inner = (*loops, (depth, Run(stop, count)))
            results = expose(jaxpr, constants, arguments(carry, stop), chosen, inner)
            carry, made = results[: len(carry)], results[len(carry) :]
            pieces.append([x[None] for x in made])
    made = [jnp.concatenate(parts) for parts in zip(*pieces, strict=True)]
    return [*carry, *(x[::-1] if eqn.params["reverse"] else x for x in made)]


def _runs_apart(paths: set[Path], count: int, chosen: tuple[Chosen, ...], level: int) -> list[int]:
    """The runs of a scan to write out, in order: the chosen ones, or the last."""
    named = [layer.runs[level] for layer in chosen if layer.layer in paths and layer.runs[level:]]
    return sorted({run % count for run in named if -count <= run < count} or {count - 1})


def replay(
    jaxpr: Any, consts: Any, args: Any, edits: dict[Any, Edit | None]
) -> tuple[list[Any], list[Any]]:
    """Run an exposed jaxpr with some values edited.

    Args:
        jaxpr: the program.
        consts: its constants.
        args: its arguments.
        edits: by variable, the function to apply to its value; None leaves the value unchanged.

    Returns:
        The outputs; and the edited values, in the order of `edits`.
    """
    seen: dict[Any, jax.Array] = {}
    order = list(edits)

    def concerns(eqn: JaxprEqn) -> bool:
        return is_channels_first(eqn) or any(variable in edits for variable in eqn.outvars)

    def run(eqn: JaxprEqn, values: list[Any]) -> list[Any] | None:
        if eqn.primitive is _mark:
            return values
        if is_channels_first(eqn):
            return convolve(eqn, values)
        if eqn.primitive.name not in _ENTERED:
            return None
        (body,) = bodies(eqn)
        inner = equations(getattr(body, "jaxpr", body))
        if not any(concerns(eqn) and not inside for eqn, inside in inner):
            return None
        outputs, shown = rerun(functools.partial(replay, edits=edits), eqn, body, values)
        pairs = zip(order, shown, strict=True)
        seen.update((variable, value) for variable, value in pairs if value is not None)
        return outputs

    def rule(eqn: JaxprEqn, values: list[Any]) -> list[Any] | None:
        results = run(eqn, values)
        if any(variable in edits for variable in eqn.outvars):
            results = list(bind(eqn, values) if results is None else results)
            for i, variable in enumerate(eqn.outvars):
                if variable in edits:
                    edit = edits[variable]
                    results[i] = results[i] if edit is None else edit(results[i])
                    seen[variable] = results[i]
        return results

    outputs = evaluate(jaxpr, consts, args, rule)
    return outputs, [seen.get(variable) for variable in order]
