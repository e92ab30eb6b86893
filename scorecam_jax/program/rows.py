"""Check that each row of a program's results depends on the same row of its inputs alone.

Masked passes batch images as memory allows, so a network's output for an image must not depend on
the other images of the batch, nor on its position among them. For most networks the traced program
proves this. Each value is followed with the axis along which its rows lie. A value that all rows
share may be combined with them only if it is the same for each row. Where a value cannot be
followed, the first such operation is reported, and only a pass with the rows in another order
decides.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from scorecam_jax.program.jaxprs import bodies, entered, scan_parts
from scorecam_jax.program.places import CUMULATIVE, is_elementwise


class Rows(NamedTuple):
    """A value with its rows along an axis. A row may have several entries, one after another."""

    axis: int


class Shared(NamedTuple):
    """A value that depends on no row.

    Attributes:
        alike: the axes along which all its entries are equal.
        random: whether it depends on random numbers.
        source: the shape of the array that it comes from, if that has a row per image.
    """

    alike: frozenset[int] = frozenset()
    random: bool = False
    source: tuple[int, ...] | None = None


class Fault(NamedTuple):
    """An operation after which a row may depend on other rows or on its position.

    Attributes:
        kind: "random" or "constant" if each row was combined with its own random numbers or its own
            part of a constant; "mixed" otherwise.
        operation: the name of the primitive.
        shape: the shape of the constant, or of the result.
    """

    kind: str
    operation: str
    shape: tuple[int, ...]


Value: TypeAlias = Rows | Shared | Fault

_PASSED_ON = ("layer", "name", "optimization_barrier", "sharding_constraint")
_DRAWS = ("random_bits", "random_gamma", "threefry2x32", "rng_uniform", "rng_bit_generator")


def find_fault(jaxpr: Any, of_rows: Sequence[bool]) -> Fault | None:
    """Find the operation by which rows of the first result may depend on other rows; None if none.

    Args:
        jaxpr: a closed jaxpr whose first result has its rows along its first axis.
        of_rows: which of its arguments have one row per image, along their first axis.
    """
    rows = next(
        variable.aval.shape[0]
        for variable, own in zip(jaxpr.jaxpr.invars, of_rows, strict=True)
        if own
    )
    reader = _Reader(rows)
    inputs = [
        Rows(0) if own else reader.constant(variable.aval, None)
        for variable, own in zip(jaxpr.jaxpr.invars, of_rows, strict=True)
    ]
    result = reader.run(jaxpr.jaxpr, jaxpr.consts, inputs)[0]
    if isinstance(result, Rows) and result.axis:
        return Fault("mixed", "transpose", ())
    return result if isinstance(result, Fault) else None


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Follows values through a program with a number of rows."""

    rows: int

    def run(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
        values: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        given = itertools.zip_longest(jaxpr.constvars, consts)
        values |= {variable: self.constant(variable.aval, const) for variable, const in given}
        for eqn in jaxpr.eqns:
            operands = [self._read(atom, values) for atom in eqn.invars]
            values.update(zip(eqn.outvars, self._apply(eqn, operands), strict=True))
        return [self._read(atom, values) for atom in jaxpr.outvars]

    def _read(self, atom: Any, values: dict[Any, Value]) -> Value:
        return self.constant(atom.aval, atom.val) if isinstance(atom, Literal) else values[atom]

    def constant(self, aval: Any, const: Any) -> Shared:
        shape: tuple[int, ...] = getattr(aval, "shape", ())
        alike = {axis for axis, size in enumerate(shape) if size == 1}
        known = isinstance(const, np.ndarray | jax.Array) and not isinstance(const, jax.core.Tracer)
        if (
            known
            and const.size <= 1 << 20
            and not jax.dtypes.issubdtype(const.dtype, jax.dtypes.extended)
            and getattr(const, "is_fully_addressable", True)
        ):
            array = np.asarray(const)
            alike |= {
                axis
                for axis, size in enumerate(shape)
                if size == self.rows and (array == array.take([0], axis)).all()
            }
        # The program is traced for as many images as there are, or for one more.
        of_images = bool(shape) and shape[0] in (self.rows, self.rows - 1)
        return Shared(frozenset(alike), False, shape if of_images else None)

    def _apply(self, eqn: JaxprEqn, operands: list[Value]) -> list[Value]:
        name = eqn.primitive.name
        faults: list[Value] = [value for value in operands if isinstance(value, Fault)]
        if eqn.effects or "callback" in eqn.params:
            faults.append(Fault("mixed", name, ()))
        if faults:
            return faults[:1] * len(eqn.outvars)
        body = entered(eqn)
        if body is not None:
            closed = next(bodies(eqn))
            return self.run(body, getattr(closed, "consts", ()), operands)
        if name in _PASSED_ON:
            return operands
        if name == "cond":
            return self._choose(eqn, operands)
        if not any(isinstance(value, Rows) for value in operands):
            return [_shared(eqn, operands)] * len(eqn.outvars)
        if name == "scan":
            return self._loop(eqn, operands)
        results = self._follow(eqn, operands)
        shape = getattr(eqn.outvars[0].aval, "shape", ())
        if isinstance(results, Shared):  # a shared value that differs between rows
            kind = "random" if results.random else "constant" if results.source else "mixed"
            results = Fault(kind, name, results.source or shape)
        elif results is None:
            results = Fault("mixed", name, shape)
        return [results] * len(eqn.outvars)

    def _choose(self, eqn: JaxprEqn, operands: list[Value]) -> list[Value]:
        index, *given = operands
        branches = [
            self.run(getattr(body, "jaxpr", body), getattr(body, "consts", ()), given)
            for body in bodies(eqn)
        ]
        results = [functools.reduce(_join, values) for values in zip(*branches, strict=True)]
        if not isinstance(index, Shared):
            return [Fault("mixed", "cond", ())] * len(results)
        return results

    def _loop(self, eqn: JaxprEqn, operands: list[Value]) -> list[Value]:
        """Follow the carried values until they no longer change."""
        jaxpr, consts, first, carried = scan_parts(eqn)
        sliced = [_without_first(value) for value in operands[first + carried :]]
        carry = operands[first : first + carried]
        for _ in range(len(carry) + 1):
            results = self.run(jaxpr, consts, [*operands[:first], *carry, *sliced])
            after = [_join(*pair) for pair in zip(carry, results, strict=False)]
            if after == carry:
                return [*carry, *map(_with_first, results[len(carry) :])]
            carry = after
        return [Fault("mixed", "scan", ())] * len(eqn.outvars)

    def _follow(self, eqn: JaxprEqn, operands: list[Value]) -> Value | None:
        """The result's rows; or a shared value that differs between rows; or None if unknown."""
        name, params = eqn.primitive.name, eqn.params
        shapes = [getattr(atom.aval, "shape", ()) for atom in eqn.invars]
        after = getattr(eqn.outvars[0].aval, "shape", ())
        place = next(i for i, value in enumerate(operands) if isinstance(value, Rows))
        axis, shape = int(operands[place].axis), shapes[place]  # type: ignore[union-attr]
        rank = len(shape)
        if name == "dot_general":
            return _product(params["dimension_numbers"], operands, shapes)
        if name == "conv_general_dilated":
            numbers = params["dimension_numbers"]
            whole = place == 0 and axis == numbers.lhs_spec[0] and params["batch_group_count"] == 1
            return Rows(numbers.out_spec[0]) if whole and isinstance(operands[1], Shared) else None
        if name == "reshape":
            return self._reshape(shape, after, axis)
        if name == "broadcast_in_dim":
            return Rows(int(params["broadcast_dimensions"][axis]))
        if name == "transpose":
            return Rows(tuple(params["permutation"]).index(axis))
        if name == "stack":
            return _meet(operands, shapes, axis, axis + (params["axis"] <= axis))
        if name == "squeeze":
            return Rows(axis - sum(int(d) < axis for d in params["dimensions"]))
        if name == "gather":
            return _gather(params, operands, shape, axis)
        if name == "dynamic_slice":
            others = all(isinstance(value, Shared) for value in operands[1:])
            return Rows(axis) if place == 0 and others and after[axis] == shape[axis] else None
        if name.startswith(("reduce_", "arg")) and "axes" in params:
            below = sum(int(reduced) < axis for reduced in params["axes"])
            return None if axis in params["axes"] else _meet(operands, shapes, axis, axis - below)
        if name.startswith(("reduce_window", "select_and")):
            sizes = params.get("window_dimensions", (2,) * rank)
            return Rows(axis) if sizes[axis] == 1 else None
        touched = _touched(name, params, shape, after)
        if touched is not None:
            return None if axis in touched else _meet(operands, shapes, axis, axis)
        return _meet(operands, shapes, axis, axis) if is_elementwise(eqn) else None

    def _reshape(self, shape: tuple[int, ...], after: tuple[int, ...], axis: int) -> Rows | None:
        before = math.prod(shape[:axis])
        for place, size in enumerate(after):
            if math.prod(after[:place]) == before and size % self.rows == 0:
                return Rows(place)
        return None


def _touched(
    name: str, params: dict[str, Any], shape: tuple[int, ...], after: tuple[int, ...]
) -> list[int] | None:
    """The axes along which an operation moves or combines entries; None if it is not listed."""
    if name in ("concatenate", "sort"):
        return [params["dimension"]]
    if name == "split" or name in CUMULATIVE:
        return [params["axis"]]
    if name == "rev":
        return list(params["dimensions"])
    if name == "top_k":
        return [len(shape) - 1]
    if name == "tile":
        return [axis for axis, times in enumerate(params["reps"]) if times != 1]
    if name == "pad":
        return [axis for axis, pads in enumerate(params["padding_config"]) if any(pads)]
    if name == "slice":
        return [axis for axis, size in enumerate(after) if size != shape[axis]]
    if name == "fft":
        return [*range(len(shape) - len(params["fft_lengths"]), len(shape))]
    return None


def _meet(operands: list[Value], shapes: list[tuple[int, ...]], axis: int, to: int) -> Value | None:
    """Combine operands, each with rows along `axis` or equal along it, to rows along `to`.

    Returns a shared operand that is not equal along `axis`, or None if rows lie along other axes.
    """
    for value, shape in zip(operands, shapes, strict=True):
        if isinstance(value, Rows):
            if value.axis != axis:
                return None
        elif isinstance(value, Shared) and not _is_alike(value, shape, axis):
            return value
    return Rows(to)


def _is_alike(value: Shared, shape: tuple[int, ...], axis: int) -> bool:
    return axis >= len(shape) or shape[axis] == 1 or axis in value.alike


def _join(one: Value, other: Value) -> Value:
    """What is true of a value that may be either."""
    if isinstance(one, Fault) or isinstance(other, Fault):
        return one if isinstance(one, Fault) else other
    if isinstance(one, Shared) and isinstance(other, Shared):
        source = one.source if one.source == other.source else None
        return Shared(one.alike & other.alike, one.random or other.random, source)
    if isinstance(one, Rows) and isinstance(other, Rows):
        return one if one == other else Fault("mixed", "scan", ())
    shared, rows = (one, other) if isinstance(one, Shared) else (other, one)
    alike = isinstance(shared, Shared) and isinstance(rows, Rows) and rows.axis in shared.alike
    return rows if alike else Fault("mixed", "scan", ())


def _without_first(value: Value) -> Value:
    if isinstance(value, Rows):
        return Rows(value.axis - 1) if value.axis else Fault("mixed", "scan", ())
    if isinstance(value, Shared):
        return value._replace(alike=frozenset(axis - 1 for axis in value.alike if axis))
    return value


def _with_first(value: Value) -> Value:
    if isinstance(value, Rows):
        return Rows(value.axis + 1)
    if isinstance(value, Shared):
        return value._replace(alike=frozenset(axis + 1 for axis in value.alike))
    return value


def _shared(eqn: JaxprEqn, operands: list[Value]) -> Shared:
    """What is known of a result that depends on no row."""
    name, params = eqn.primitive.name, eqn.params
    shape = getattr(eqn.outvars[0].aval, "shape", ())
    given = [value for value in operands if isinstance(value, Shared)]
    random = name in _DRAWS or any(value.random for value in given)
    source = next((value.source for value in given if value.source), None)
    every = frozenset(range(len(shape)))
    before = [getattr(atom.aval, "shape", ()) for atom in eqn.invars]
    alike: frozenset[int] = frozenset()
    if name == "iota":
        alike = every - {params["dimension"]}
    elif name == "broadcast_in_dim":
        places = params["broadcast_dimensions"]
        kept = {
            int(place)
            for axis, place in enumerate(places)
            if not (axis in given[0].alike or before[0][axis] == 1)
        }
        alike = every - kept
    elif name == "transpose":
        order = params["permutation"]
        alike = frozenset(i for i, axis in enumerate(order) if axis in given[0].alike)
    elif name not in _DRAWS and given and is_elementwise(eqn):
        alike = frozenset(
            axis
            for axis in every
            if all(_is_alike(v, s, axis) for v, s in zip(given, before, strict=True))
        )
    alike |= {axis for axis, size in enumerate(shape) if size == 1}
    return Shared(alike, random, source)


def _product(numbers: Any, operands: list[Value], shapes: list[tuple[int, ...]]) -> Value | None:
    contracted, batched = numbers
    found: list[Value | None] = []
    for side, value in enumerate(operands):
        if not isinstance(value, Rows):
            continue
        if value.axis in contracted[side]:
            return None
        other = operands[1 - side]
        if value.axis in batched[side]:
            index = list(batched[side]).index(value.axis)
            axis = batched[1 - side][index]
            if isinstance(other, Shared) and not _is_alike(other, shapes[1 - side], axis):
                return other
            if isinstance(other, Rows) and other.axis != axis:
                return None
            found.append(Rows(index))
            continue
        if isinstance(other, Rows):
            return None
        taken = (*contracted[side], *batched[side])
        free = [axis for axis in range(len(shapes[side])) if axis not in taken]
        ahead = len(batched[0])
        if side:
            ahead += len(shapes[0]) - len(contracted[0]) - len(batched[0])
        found.append(Rows(ahead + free.index(value.axis)))
    return found[0]


def _gather(
    params: dict[str, Any], operands: list[Value], shape: tuple[int, ...], axis: int
) -> Rows | None:
    """The rows of a gather: the same places of every row, or each row's own places."""
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    taken, index = operands
    if isinstance(index, Rows):
        pairs = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
        if isinstance(taken, Rows) and (taken.axis, index.axis) not in pairs:
            return None
        result = len(numbers.offset_dims) + index.axis
        ahead = [place for place in range(result + 1) if place not in numbers.offset_dims]
        return Rows(ahead[index.axis])
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    if not isinstance(index, Shared) or axis in gone or sizes[axis] != shape[axis]:
        return None
    return Rows(numbers.offset_dims[axis - sum(d < axis for d in gone)])
