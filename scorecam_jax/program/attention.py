"""Attention matrices of a traced program, found by what they are.

An attention matrix is an operand of a product that is nowhere negative and sums to 1 along the axis
that is contracted. The traced program shows both: the operand is something positive divided by its
own sum. No module, name or softmax is looked for, so that every framework's attention is found, and
no values are needed. Matrices of weights alone, and a softmax over classes that mixes weights, are
no attention: both operands have to depend on the image, and the matrix has an axis beside its rows
and keys.

`mark_attention` runs the program with each matrix marked, as (N, heads, queries, keys). From there
on they are layers like others, with names, and can be read and edited.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Literal

from scorecam_jax.program.jaxprs import (
    CHECKPOINTS,
    bind,
    bodies,
    entered,
    evaluate,
    scan_parts,
)
from scorecam_jax.program.marks import Chosen, Path, equations, mark_array, mark_of, rerun
from scorecam_jax.program.places import fates, is_elementwise

KIND = "attention matrix"
"""The kind of layer that attention matrices are listed as."""

STREAM = "stream"
"""The kind of layer that the tokens are which a block with attention returns."""

_NAME = "attention"

# What passes a value on, perhaps in another type.
_SAME = (
    "layer", "name", "copy", "copy_p", "convert_element_type", "reduce_precision",
    "optimization_barrier", "sharding_constraint",
)  # fmt: skip
# What moves entries, and leaves each as it is.
_MOVED = (
    *_SAME, "transpose", "reshape", "broadcast_in_dim", "squeeze", "slice", "dynamic_slice",
    "split", "rev", "gather", "concatenate",
)  # fmt: skip
_POSITIVE = ("exp", "exp2", "logistic", "abs", "square")
# What is positive if all that it is made of is.
_POSITIVE_OF_POSITIVE = (
    *_MOVED, "add", "mul", "div", "min", "sqrt", "rsqrt", "pow", "integer_pow", "select_n",
    "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "cumsum", "dot_general", "pad",
)  # fmt: skip
_EPSILON = 1e-3  # a sum may be kept from being 0 by so much


class _Total(NamedTuple):
    """A sum of a value along an axis, or its inverse.

    Attributes:
        value: what is summed.
        axis: along which of its axes.
        places: for each axis of the sum, which axis of the value it is; None for one of size 1, or
            along which it is spread.
        inverse: whether it is 1 / the sum.
    """

    value: int
    axis: int
    places: tuple[int | None, ...]
    inverse: bool = False


class _Source(NamedTuple):
    """The product that a value is made of, place by place.

    Attributes:
        eqn: the equation of the product.
        places: for each axis of the value, which axis of the product's result it is; None for one
            along which it is spread.
    """

    eqn: JaxprEqn
    places: tuple[int | None, ...]


class _Fact(NamedTuple):
    """What is known of a value.

    Attributes:
        value: its number; values that differ in type alone have the same.
        given: whether it depends on the image.
        rows: along which axis the images lie, row after row; None if that is not known.
        positive: whether it is nowhere negative.
        shares: the axes along which it sums to 1.
        total: if it is a sum, of what.
        source: if it is made of a product, of which.
    """

    value: int
    given: bool = False
    rows: int | None = None
    positive: bool = False
    shares: frozenset[int] = frozenset()
    total: _Total | None = None
    source: _Source | None = None


class Matrix(NamedTuple):
    """An attention matrix among the operands of a product.

    Attributes:
        operand: which of the two.
        order: its axes as images, windows, heads, queries, keys; a product of a single image may
            have no axis of images.
        images: how many of these are the images' and their windows'.
        heads: how many are the heads'.
        path: its name.
        source: the product of queries and keys that it is made of, if that is known.
    """

    operand: int
    order: tuple[int, ...]
    images: int
    heads: int
    path: Path
    source: _Source | None = None


def mark_attention(jaxpr: Any, consts: Any, args: Any, weights: int) -> list[Any]:
    """Run a program with its attention matrices marked.

    A matrix is named after what is around it: "blocks/3/attention" if the first layer that ends
    after the product is in "blocks/3".

    Args:
        jaxpr: takes the weights, then the images, then what goes with them.
        consts: its constants.
        args: its arguments.
        weights: how many arrays the weights are.
    """
    reader = _Reader(jaxpr, weights)
    return _run(jaxpr, consts, args, reader.found, jaxpr.invars[weights].aval.shape[0])


class Compared(NamedTuple):
    """What an attention matrix compares; each (N, heads, tokens, features)."""

    queries: Any
    keys: Any


def read_compared(jaxpr: Any, consts: Any, args: Any, weights: int) -> Compared | None:
    """The queries and keys of the last attention matrix of a program whose keys are the tokens.

    Args:
        jaxpr: as in `mark_attention`.
        consts: its constants.
        args: its arguments.
        weights: how many arrays the weights are.

    Returns:
        None if the matrix is made of something else than one product, is of windows, or is inside
        a loop.
    """
    matrices = list(_Reader(jaxpr, weights).found.values())
    source = matrices[-1].source if matrices else None
    if source is None or matrices[-1].images > 1:
        return None
    found: list[Compared] = []

    def rule(eqn: JaxprEqn, values: list[Any]) -> list[Any] | None:
        if eqn is source.eqn:
            both = _compared(eqn, matrices[-1], values)
            found.extend([both] if both else [])
        body = entered(eqn)
        if body is None:
            return None
        closed = next(bodies(eqn))
        return evaluate(body, getattr(closed, "consts", ()), values, rule)

    evaluate(jaxpr, consts, args, rule)
    return found[-1] if found else None


def _compared(eqn: JaxprEqn, matrix: Matrix, values: list[Any]) -> Compared | None:
    """The operands of a product, as queries and keys."""
    assert matrix.source is not None
    contracted, batched = eqn.params["dimension_numbers"]
    # Each axis of the result is one of both operands, or of one of them.
    axes: list[list[int | None]] = [list(each) for each in batched]
    for side, value in enumerate(values):
        for axis in range(value.ndim):
            if axis not in (*batched[side], *contracted[side]):
                axes[side].append(axis)
                axes[1 - side].append(None)
    shape = _shape(eqn.outvars[0])
    places = [matrix.source.places[axis] for axis in matrix.order]
    query, key = places[-2:]
    # Axes of size 1, such as those of a single image, come and go.
    images, heads = (
        [place for place in some if place is not None]
        for some in (places[: matrix.images], places[matrix.images : -2])
    )
    before = (*images, *heads)
    found = {*before, query, key}
    if query is None or key is None or len(contracted[0]) != 1:
        return None
    if any(size > 1 and place not in found for place, size in enumerate(shape)):
        return None
    first = axes[0][query] is None  # the queries are the second operand
    if axes[first][key] is not None or axes[1 - first][query] is not None:
        return None

    def ordered(side: int, tokens: int) -> Any:
        """(N, heads, tokens, features); heads that share what they compare repeat it."""
        own = [axes[side][place] for place in (*before, tokens)]
        known = [axis for axis in own if axis is not None]
        last = contracted[side][0]
        lost = [axis for axis in range(values[side].ndim) if axis not in (*known, last)]
        sizes = [1 if axis is None else values[side].shape[axis] for axis in own]
        value = values[side].transpose([*lost, *known, last]).reshape(*sizes, -1)
        value = jnp.broadcast_to(value, (*(shape[place] for place in before), *value.shape[-2:]))
        count = math.prod(shape[place] for place in images)
        return value.reshape(count, -1, *value.shape[-2:])

    return Compared(ordered(first, query), ordered(1 - first, key))


def stream_after(path: Path) -> Path:
    """The name of the tokens that a block returns, from that of its attention matrix."""
    return (*path[:-1], f"{path[-1]}:{STREAM}")


def is_stream(path: Path) -> bool:
    """Whether a path is such a name."""
    return path[-1].partition(":")[2] == STREAM


def every_run(jaxpr: Any, kind: str | None = None) -> tuple[Chosen, ...]:
    """All runs of the layers that loops hold, in a program in which they are marked.

    Args:
        jaxpr: the program.
        kind: of the layers, such as that of attention matrices; None for any.
    """
    return tuple(
        Chosen(path, runs)
        for path, counts in _in_loops(jaxpr, kind, ())
        for runs in itertools.product(*map(range, counts))
    )


def _in_loops(
    jaxpr: Any, kind: str | None, counts: tuple[int, ...]
) -> Iterator[tuple[Path, tuple[int, ...]]]:
    for eqn in jaxpr.eqns:
        mark = mark_of(eqn)
        if mark and kind in (None, mark.kind) and counts:
            yield mark.path, counts
        inside = (*counts, eqn.params["length"]) if eqn.primitive.name == "scan" else counts
        for body in bodies(eqn):
            yield from _in_loops(getattr(body, "jaxpr", body), kind, inside)


def _run(jaxpr: Any, consts: Any, args: Any, found: dict[int, Matrix], images: int) -> list[Any]:
    marked: dict[int, Any] = {}  # by value, since two products may share one

    def rule(eqn: JaxprEqn, values: list[Any]) -> list[Any] | None:
        matrix = found.get(id(eqn))
        if matrix:
            value = values[matrix.operand]
            if id(value) not in marked:
                marked[id(value)] = value, _mark(value, matrix, images)
            values = list(values)
            values[matrix.operand] = marked[id(value)][1]
            return bind(eqn, values)
        if not any(id(inner) in found for body in bodies(eqn) for inner, _ in _equations(body)):
            return None
        run = functools.partial(_run, found=found, images=images)
        if eqn.primitive.name == "scan":
            return _scan(run, eqn, values)
        body = next(bodies(eqn))
        if eqn.primitive.name in CHECKPOINTS:
            return rerun(run, eqn, body, values)
        return run(getattr(body, "jaxpr", body), getattr(body, "consts", ()), values)

    return evaluate(jaxpr, consts, args, rule)


def _equations(body: Any) -> Iterator[tuple[JaxprEqn, str]]:
    return equations(getattr(body, "jaxpr", body))


def _scan(run: Any, eqn: JaxprEqn, values: list[Any]) -> list[Any]:
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


def _mark(value: Any, matrix: Matrix, images: int) -> Any:
    """The value, of which (N, [windows,] heads, queries, keys) is marked."""
    moved = value.transpose(matrix.order)
    first = matrix.images + matrix.heads
    windows = math.prod(moved.shape[: matrix.images]) // images
    heads = moved.shape[matrix.images : first]
    queries, keys = math.prod(moved.shape[first:-1]), moved.shape[-1]
    ahead = (images,) if windows == 1 else (images, windows)
    shown = mark_array(moved.reshape(*ahead, math.prod(heads), queries, keys), matrix.path, KIND)
    inverse = sorted(range(len(matrix.order)), key=lambda axis: matrix.order[axis])
    return shown.reshape(moved.shape).transpose(inverse)


class _Reader:
    """Finds the attention matrices of a program."""

    def __init__(self, jaxpr: Any, weights: int) -> None:
        self.found: dict[int, Matrix] = {}
        self._fresh = itertools.count()
        self._images = jaxpr.invars[weights].aval.shape[0]
        self._named = {mark.path for eqn, _ in equations(jaxpr) if (mark := mark_of(eqn))}
        self._nameless: list[int] = []
        inputs = [self._new() for _ in jaxpr.invars[:weights]]
        inputs += [self._new(given=True, rows=0) for _ in jaxpr.invars[weights:]]
        self._run(jaxpr, inputs)
        self._name(())

    def _new(self, **known: Any) -> _Fact:
        return _Fact(next(self._fresh), **known)

    def _run(self, jaxpr: Any, inputs: Sequence[_Fact]) -> list[_Fact]:
        facts = dict(zip(jaxpr.invars, inputs, strict=True))
        facts |= {variable: self._new() for variable in jaxpr.constvars}

        def read(atom: Any) -> _Fact:
            if isinstance(atom, Literal):
                return self._new(positive=bool(atom.val >= 0))
            return facts[atom]

        for eqn in jaxpr.eqns:
            facts.update(
                zip(eqn.outvars, self._apply(eqn, list(map(read, eqn.invars))), strict=True)
            )
            if mark := mark_of(eqn):
                self._name(mark.path)
        return [read(atom) for atom in jaxpr.outvars]

    def _name(self, path: Path) -> None:
        """Name the matrices found so far, of which this layer is the first to end after them."""
        for number in self._nameless:
            name = (*path[:-1], _NAME)
            while name in self._named:
                name = (*name, _NAME)
            self.found[number] = self.found[number]._replace(path=name)
        self._nameless = []

    def _apply(self, eqn: JaxprEqn, operands: list[_Fact]) -> list[_Fact]:
        name = eqn.primitive.name
        body = entered(eqn)
        if body is not None:
            return self._run(body, operands)
        if name == "scan":
            return self._scan(eqn, operands)
        if name == "cond":
            return self._choose(eqn, operands[1:])
        if name == "dot_general":
            self._look(eqn, operands)
        given = any(fact.given for fact in operands)
        if name in _SAME and len(operands) == len(eqn.outvars):
            return list(operands)
        positive = name in _POSITIVE or (name == "integer_pow" and eqn.params["y"] % 2 == 0)
        positive |= name in _POSITIVE_OF_POSITIVE and all(fact.positive for fact in operands)
        positive |= name == "max" and any(fact.positive for fact in operands)
        results = [
            self._new(given=given, rows=self._rows(eqn, operands, number), positive=positive)
            for number in range(len(eqn.outvars))
        ]
        if name in _MOVED and operands:
            return [
                fact._replace(
                    shares=self._moved_shares(eqn, operands, number),
                    total=_moved_total(eqn, operands[0], number),
                    source=_moved_source(eqn, operands[0], number),
                )
                for number, fact in enumerate(results)
            ]
        if len(results) != 1:
            return results
        return [results[0]._replace(source=_source(eqn, operands), **_divided(eqn, operands))]

    def _rows(self, eqn: JaxprEqn, operands: list[_Fact], result: int) -> int | None:
        for number, fact in enumerate(operands):
            if not fact.given or fact.rows is None:
                continue
            shape = _shape(eqn.invars[number])
            if eqn.primitive.name == "reshape":  # a single image too stays where it is
                return _major(shape, _shape(eqn.outvars[0]), fact.rows)
            fate = fates(eqn, number)[fact.rows] if fact.rows < len(shape) else None
            axes = [axis for at, axis in fate if at == result] if fate else []
            return min(axes) if axes else None
        return None

    def _moved_shares(self, eqn: JaxprEqn, operands: list[_Fact], result: int) -> frozenset[int]:
        moved = [
            frozenset(_moved(eqn, number, result).get(axis, -1) for axis in fact.shares) - {-1}
            for number, fact in enumerate(operands)
            if eqn.primitive.name == "concatenate" or number == 0
        ]
        return frozenset.intersection(*moved)

    def _choose(self, eqn: JaxprEqn, operands: list[_Fact]) -> list[_Fact]:
        """What the branches of a conditional return; matrices in them are out of reach."""
        found, nameless = dict(self.found), list(self._nameless)
        branches = [
            self._run(getattr(body, "jaxpr", body), operands) for body in eqn.params["branches"]
        ]
        self.found, self._nameless = found, nameless
        return [
            self._new(
                given=any(fact.given for fact in facts),
                rows=next((fact.rows for fact in facts if fact.rows is not None), None),
                positive=all(fact.positive for fact in facts),
            )
            for facts in zip(*branches, strict=True)
        ]

    def _scan(self, eqn: JaxprEqn, operands: list[_Fact]) -> list[_Fact]:
        body, _, kept, carried = scan_parts(eqn)
        carry = operands[kept : kept + carried]
        slices = [
            self._new(
                given=fact.given, rows=fact.rows - 1 if fact.rows else None, positive=fact.positive
            )
            for fact in operands[kept + carried :]
        ]
        for _ in range(carried + 1):  # until what a run does to what is carried is known
            carry = [self._new(given=fact.given, rows=fact.rows) for fact in carry]
            results = self._run(body, [*operands[:kept], *carry, *slices])
            met = [
                before._replace(
                    given=before.given or after.given,
                    rows=after.rows if before.rows is None or before.rows == after.rows else None,
                )
                for before, after in zip(carry, results, strict=False)
            ]
            if all(a[1:3] == b[1:3] for a, b in zip(met, carry, strict=True)):
                break
            carry = met
        stacked = [
            self._new(given=fact.given, rows=None if fact.rows is None else fact.rows + 1)
            for fact in results[carried:]
        ]
        return [*carry, *stacked]

    def _look(self, eqn: JaxprEqn, operands: list[_Fact]) -> None:
        """Look for an attention matrix among the operands of a product."""
        if not all(fact.given for fact in operands):
            return
        contracted, batched = eqn.params["dimension_numbers"]
        for operand, fact in enumerate(operands):
            shape = _shape(eqn.invars[operand])
            axes, ahead = contracted[operand], batched[operand]
            if len(axes) != 1 or axes[0] not in fact.shares or shape[axes[0]] < 2:
                continue
            # Products of a single image may come without its axis.
            squeezed = fact.rows is None and self._images == 1
            images = () if squeezed else (fact.rows,)
            if not set(images) <= set(ahead) or len(shape) < 2 + len(images):
                continue
            beside = [axis for axis in ahead if axis not in images]
            windows, heads = beside[:-1], beside[-1:]
            queries = [axis for axis in range(len(shape)) if axis not in (*ahead, *axes)]
            square = [axis for axis in queries if shape[axis] == shape[axes[0]]]
            if len(queries) > 1 == len(square):  # the others are heads that share their keys
                heads += [axis for axis in queries if axis not in square]
                queries = square
            order = (*images, *windows, *heads, *queries, *axes)
            if id(eqn) not in self.found:
                self._nameless.append(id(eqn))
            self.found[id(eqn)] = Matrix(
                operand, order, len(images) + len(windows), len(heads), (), fact.source
            )
            return


def _shape(atom: Any) -> tuple[int, ...]:
    return getattr(atom.aval, "shape", ())


def _major(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """The axis of a reshaped value that has as many entries ahead of it as an axis had before."""
    ahead = math.prod(before[:axis])
    counts = (math.prod(after[:goal]) for goal in range(len(after)))
    return next((goal for goal, count in enumerate(counts) if count == ahead), None)


def _moved(eqn: JaxprEqn, operand: int, result: int) -> dict[int, int]:
    """Where the axes of an operand go that are carried on whole, each to an axis of its own."""
    before, after = _shape(eqn.invars[operand]), _shape(eqn.outvars[result])
    moved = {}
    for axis, fate in enumerate(fates(eqn, operand)):
        goals = [goal for at, goal in fate if at == result] if fate else []
        if len(goals) == 1 and after[goals[0]] == before[axis]:
            moved[axis] = goals[0]
    return moved


def _moved_total(eqn: JaxprEqn, fact: _Fact, result: int) -> _Total | None:
    """The sum that a value is, after its entries are moved."""
    places = fact.total and _moved_places(eqn, fact.total.places, result)
    return None if places is None else fact.total._replace(places=places)  # type: ignore[union-attr]


def _moved_source(eqn: JaxprEqn, fact: _Fact, result: int) -> _Source | None:
    """The product that a value is made of, after its entries are moved."""
    places = fact.source and _moved_places(eqn, fact.source.places, result)
    return None if places is None else fact.source._replace(places=places)  # type: ignore[union-attr]


def _moved_places(
    eqn: JaxprEqn, places: tuple[int | None, ...], result: int
) -> tuple[int | None, ...] | None:
    """Where axes are from, after entries are moved; None if one of them is not carried on whole."""
    if eqn.primitive.name == "concatenate":
        return None
    before, after = _shape(eqn.invars[0]), _shape(eqn.outvars[result])
    moved = _moved(eqn, 0, result)
    if any(axis not in moved and size > 1 for axis, size in enumerate(before)):
        return None
    found: list[int | None] = [None] * len(after)
    for axis, goal in moved.items():
        found[goal] = places[axis]
    return tuple(found)


def _source(eqn: JaxprEqn, operands: list[_Fact]) -> _Source | None:
    """The product that a result is, or that it is made of place by place."""
    if eqn.primitive.name == "dot_general":
        return _Source(eqn, tuple(range(len(_shape(eqn.outvars[0])))))
    shape = _shape(eqn.outvars[0])
    found = [
        fact.source
        for atom, fact in zip(eqn.invars, operands, strict=True)
        if fact.source and _shape(atom) == shape
    ]
    alike = all(each.eqn is found[0].eqn and each.places == found[0].places for each in found)
    return found[0] if found and alike and is_elementwise(eqn) else None


def _divided(eqn: JaxprEqn, operands: list[_Fact]) -> dict[str, Any]:
    """What is known of a sum, and of what is divided by its sum."""
    name = eqn.primitive.name
    if name == "reduce_sum" and len(eqn.params["axes"]) == 1:
        (axis,) = eqn.params["axes"]
        rank = len(_shape(eqn.invars[0]))
        places = tuple(place for place in range(rank) if place != axis)
        return {"total": _Total(operands[0].value, axis, places)}
    if name == "integer_pow" and eqn.params["y"] == -1 and operands[0].total:
        return {"total": operands[0].total._replace(inverse=True)}
    if len(operands) != 2:
        return {}
    first, second = operands
    if name == "div" and second.total and isinstance(eqn.invars[0], Literal):
        return {"total": second.total._replace(inverse=True)} if eqn.invars[0].val == 1 else {}
    if name in ("add", "max"):
        for fact, other in ((first, eqn.invars[1]), (second, eqn.invars[0])):
            if fact.total and isinstance(other, Literal) and 0 <= other.val <= _EPSILON:
                return {"total": fact.total}
    pairs = [(first, second, 0)] + ([(second, first, 1)] if name == "mul" else [])
    for whole, total, number in pairs:
        if name in ("div", "mul") and _is_share(eqn, whole, total.total, number):
            assert total.total is not None
            return {"shares": frozenset({total.total.axis})}
    return {}


def _is_share(eqn: JaxprEqn, whole: _Fact, total: _Total | None, number: int) -> bool:
    """Whether a quotient, or a product, is of a positive value and its own sum, place by place."""
    if total is None or total.value != whole.value or not whole.positive:
        return False
    if total.inverse != (eqn.primitive.name == "mul"):
        return False
    shape = _shape(eqn.invars[number])
    return len(total.places) == len(shape) and all(
        place == axis or (place is None and (axis == total.axis or size == 1))
        for axis, (place, size) in enumerate(zip(total.places, shape, strict=True))
    )
