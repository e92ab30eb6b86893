"""Find the attention matrices of a traced program by their defining properties.

An attention matrix is an operand of a product that is nowhere negative and sums to 1 along the
contracted axis. The traced program shows both: the operand is a positive value divided by its own
sum. The search uses no module, name, softmax or value, so it finds every framework's attention.
Matrices of weights alone, and a softmax over classes that mixes weights, are excluded: both
operands must depend on the image, and the matrix must have an axis in addition to images and keys.

`mark_attention` runs the program with each matrix marked, as (N, heads, queries, keys). The
matrices are then layers like others: they have names, and can be read and edited.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal

from scorecam_jax.program.jaxprs import (
    CHECKPOINTS,
    bind,
    bodies,
    entered,
    evaluate,
    scan_parts,
)
from scorecam_jax.program.marks import (
    Chosen,
    Path,
    equations,
    mark_array,
    mark_of,
    rerun,
    rerun_scan,
)
from scorecam_jax.program.places import fates, is_elementwise

KIND = "attention matrix"
"""The `kind` under which attention matrices are listed as layers."""

STREAM = "stream"
"""The `kind` under which the tokens that an attention block returns are listed as layers."""

_NAME = "attention"

# Operations that pass a value on, perhaps in another type.
_SAME = (
    "layer", "name", "copy", "copy_p", "convert_element_type", "reduce_precision",
    "optimization_barrier", "sharding_constraint",
)  # fmt: skip
# Operations that move entries without changing them.
_MOVED = (
    *_SAME, "transpose", "reshape", "broadcast_in_dim", "squeeze", "slice", "dynamic_slice",
    "split", "rev", "gather", "concatenate",
)  # fmt: skip
_POSITIVE = ("exp", "exp2", "logistic", "abs", "square")
# Operations whose result is positive if all operands are.
_POSITIVE_OF_POSITIVE = (
    *_MOVED, "add", "mul", "div", "min", "sqrt", "rsqrt", "pow", "integer_pow", "select_n",
    "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "cumsum", "dot_general", "pad",
)  # fmt: skip
_EPSILON = 1e-3  # the largest constant added to a sum to keep it from 0


class _Total(NamedTuple):
    """A sum of a value along an axis, or its inverse.

    Attributes:
        value: the number of the summed value.
        axis: the value's axis that is summed.
        places: for each axis of the sum, the corresponding axis of the value; None for an axis of
            size 1, or along which the sum is broadcast.
        inverse: whether this is 1 / the sum.
    """

    value: int
    axis: int
    places: tuple[int | None, ...]
    inverse: bool = False


class _Source(NamedTuple):
    """The product from which a value is computed by elementwise operations.

    Attributes:
        eqn: the equation of the product.
        places: for each axis of the value, the corresponding axis of the product's result; None for
            an axis along which the value is broadcast.
    """

    eqn: JaxprEqn
    places: tuple[int | None, ...]


class _Fact(NamedTuple):
    """What is known of a value.

    Attributes:
        value: its number; values that differ only in type share one.
        given: whether it depends on the image.
        rows: the axis along which the images lie, one after another; None if it is not known.
        positive: whether it is nowhere negative.
        shares: the axes along which it sums to 1.
        total: the sum that the value is, if it is one.
        source: the product from which it is computed, if it is known.
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
        operand: its index among the two operands.
        order: its axes in the order images, windows, heads, queries, keys. For a single image, the
            images' axis may be missing.
        images: the number of axes of images and windows.
        heads: the number of axes of heads.
        path: its name.
        source: the product of queries and keys from which it is computed, if it is known.
    """

    operand: int
    order: tuple[int, ...]
    images: int
    heads: int
    path: Path
    source: _Source | None = None


def mark_attention(jaxpr: Any, consts: Any, args: Any, weights: int) -> list[Any]:
    """Run a program with its attention matrices marked.

    A matrix is named after its surroundings: "blocks/3/attention" if the first layer that ends
    after the product is in "blocks/3".

    Args:
        jaxpr: the program; its arguments are the weights, the images, then their further inputs.
        consts: its constants.
        args: its arguments.
        weights: the number of weight arrays.
    """
    reader = _Reader(jaxpr, weights)
    return _run(jaxpr, consts, args, reader.found, jaxpr.invars[weights].aval.shape[0])


class Compared(NamedTuple):
    """The queries and keys of an attention matrix, each (N, heads, tokens, features)."""

    queries: Any
    keys: Any


def read_compared(jaxpr: Any, consts: Any, args: Any, weights: int) -> Compared | None:
    """Compute the queries and keys of a program's last attention matrix.

    Args:
        jaxpr: as in `mark_attention`.
        consts: its constants.
        args: its arguments.
        weights: the number of weight arrays.

    Returns:
        None if there is no matrix, or if the last one is not computed from a single product, has
        windows, or is inside a loop.
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
    """The operands of a product, as queries and keys; None if they cannot be told apart."""
    assert matrix.source is not None
    contracted, batched = eqn.params["dimension_numbers"]
    # Each axis of the result comes from both operands or from one of them.
    axes: list[list[int | None]] = [list(each) for each in batched]
    for side, value in enumerate(values):
        for axis in range(value.ndim):
            if axis not in (*batched[side], *contracted[side]):
                axes[side].append(axis)
                axes[1 - side].append(None)
    shape = _shape(eqn.outvars[0])
    places = [matrix.source.places[axis] for axis in matrix.order]
    query, key = places[-2:]
    # Axes of size 1, such as that of a single image, may be missing.
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
        """Bring an operand to (N, heads, tokens, features), repeated for heads that share it."""
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
    """The name of the tokens that a block returns, given the name of its attention matrix."""
    return (*path[:-1], f"{path[-1]}:{STREAM}")


def is_stream(path: Path) -> bool:
    """Whether a path names the tokens that a block returns; see `stream_after`."""
    return path[-1].partition(":")[2] == STREAM


def every_run(jaxpr: Any, kind: str | None = None) -> tuple[Chosen, ...]:
    """List all runs of the marked layers inside the loops of a program.

    Args:
        jaxpr: the program.
        kind: the kind of layers to list, such as attention matrices; None for any.
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
    marked: dict[int, Any] = {}  # by value, because two products may share a matrix

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
            return rerun_scan(run, eqn, values)
        body = next(bodies(eqn))
        if eqn.primitive.name in CHECKPOINTS:
            return rerun(run, eqn, body, values)
        return run(getattr(body, "jaxpr", body), getattr(body, "consts", ()), values)

    return evaluate(jaxpr, consts, args, rule)


def _equations(body: Any) -> Iterator[tuple[JaxprEqn, str]]:
    return equations(getattr(body, "jaxpr", body))


def _mark(value: Any, matrix: Matrix, images: int) -> Any:
    """Mark a value in the form (N, [windows,] heads, queries, keys), and restore its own form."""
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
        """Name the matrices that are still without a name after the layer that just ended."""
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
            if eqn.primitive.name == "reshape":  # `fates` drops the axis of a single image
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
        """The results of a conditional's branches, whose attention matrices are not marked."""
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
        for _ in range(carried + 1):  # until the facts about carried values no longer change
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
            # Products for a single image may lack its axis.
            squeezed = fact.rows is None and self._images == 1
            images = () if squeezed else (fact.rows,)
            if not set(images) <= set(ahead) or len(shape) < 2 + len(images):
                continue
            beside = [axis for axis in ahead if axis not in images]
            windows, heads = beside[:-1], beside[-1:]
            queries = [axis for axis in range(len(shape)) if axis not in (*ahead, *axes)]
            square = [axis for axis in queries if shape[axis] == shape[axes[0]]]
            if len(queries) > 1 == len(square):  # the other axes are heads that share their keys
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
    """The axis after a reshape that as many entries precede as preceded `axis`; None if none."""
    ahead = math.prod(before[:axis])
    counts = (math.prod(after[:goal]) for goal in range(len(after)))
    return next((goal for goal, count in enumerate(counts) if count == ahead), None)


def _moved(eqn: JaxprEqn, operand: int, result: int) -> dict[int, int]:
    """The result's axis for each axis of an operand that becomes one axis of the same size."""
    before, after = _shape(eqn.invars[operand]), _shape(eqn.outvars[result])
    moved = {}
    for axis, fate in enumerate(fates(eqn, operand)):
        goals = [goal for at, goal in fate if at == result] if fate else []
        if len(goals) == 1 and after[goals[0]] == before[axis]:
            moved[axis] = goals[0]
    return moved


def _moved_total(eqn: JaxprEqn, fact: _Fact, result: int) -> _Total | None:
    """A value's `total` after its entries are moved."""
    places = fact.total and _moved_places(eqn, fact.total.places, result)
    return None if places is None else fact.total._replace(places=places)  # type: ignore[union-attr]


def _moved_source(eqn: JaxprEqn, fact: _Fact, result: int) -> _Source | None:
    """A value's `source` after its entries are moved."""
    places = fact.source and _moved_places(eqn, fact.source.places, result)
    return None if places is None else fact.source._replace(places=places)  # type: ignore[union-attr]


def _moved_places(
    eqn: JaxprEqn, places: tuple[int | None, ...], result: int
) -> tuple[int | None, ...] | None:
    """The origin of each axis after entries are moved; None if an axis is not kept whole."""
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
    """The product that a result is, or from which it is computed elementwise."""
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
    """Facts about a result that is a sum, or a value divided by its sum."""
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
    """Whether an equation divides a positive value by its own sum, entry by entry."""
    if total is None or total.value != whole.value or not whole.positive:
        return False
    if total.inverse != (eqn.primitive.name == "mul"):
        return False
    shape = _shape(eqn.invars[number])
    return len(total.places) == len(shape) and all(
        place == axis or (place is None and (axis == total.axis or size == 1))
        for axis, (place, size) in enumerate(zip(total.places, shape, strict=True))
    )
