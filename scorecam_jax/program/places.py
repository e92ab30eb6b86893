"""How operations map the axes of their operands to axes of their results.

The places of an image lie along axes of a value. Some operations carry an axis over to the result,
and some drop it. Others mix it: they combine the entries along it.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from scorecam_jax.program.jaxprs import entered

# The axes that an operand's axis becomes, as (result, axis); None if it is mixed.
Fate = frozenset[tuple[int, int]] | None

_DROPPED: Fate = frozenset()
_LOOPS = ("scan", "while", "cond")
# Operations that are not elementwise, although their result may have their operand's shape.
_WHOLE = ("fft", "sort", "top_k", "triangular_solve", "cholesky", "eigh", "lu", "qr", "svd")
CUMULATIVE = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")


def fates(eqn: Any, operand: int) -> list[Fate]:
    """The axes of the results that each axis of an operand becomes."""
    shape = eqn.invars[operand].aval.shape
    rule = _RULES.get(eqn.primitive.name)
    if eqn.primitive.name.startswith("reduce_window") or rule is _window:
        return _window(eqn, operand, shape)
    if rule is not None:
        return rule(eqn, operand, shape)
    if "axes" in eqn.params and eqn.primitive.name.startswith(("reduce_", "arg")):
        return _reduce(eqn, operand, shape)
    if is_elementwise(eqn):
        return [
            frozenset((result, axis) for result in range(len(eqn.outvars)))
            for axis in range(len(shape))
        ]
    return [_DROPPED if size == 1 else None for size in shape]


def is_elementwise(eqn: Any) -> bool:
    """Whether each entry of the results depends on the same entry of the operands alone."""
    body = entered(eqn)
    if body is not None:
        return all(map(is_elementwise, body.eqns))
    if not any(atom.aval.shape for atom in eqn.invars):
        return True
    name = eqn.primitive.name
    goal = eqn.outvars[0].aval.shape
    # Operands may be scalars, or be broadcast along axes of size one.
    alike = all(
        not shape or (len(shape) == len(goal) and all(map(_spreads, shape, goal)))
        for shape in (atom.aval.shape for atom in (*eqn.invars, *eqn.outvars))
    )
    known = name in _RULES or name in _LOOPS or name.startswith((*_WHOLE, "reduce_window"))
    has_a_body = any(key in eqn.params for key in ("jaxpr", "call_jaxpr", "target_name"))
    return alike and not known and not has_a_body and "axes" not in eqn.params


def _spreads(size: int, goal: int) -> bool:
    return size in (1, goal)


def _reduce(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    axes = eqn.params["axes"]
    rest = iter(range(len(shape)))
    return [
        (_DROPPED if size == 1 else None) if axis in axes else frozenset({(0, next(rest))})
        for axis, size in enumerate(shape)
    ]


def _cumulate(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    mixed = eqn.params.get("axis", eqn.params.get("dimension"))
    return [None if axis == mixed else frozenset({(0, axis)}) for axis in range(len(shape))]


def _window(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    sizes = eqn.params.get("window_dimensions", (2,) * len(shape))
    return [
        None if size > 1 else frozenset({(0, axis)})
        for axis, size in zip(range(len(shape)), sizes, strict=False)
    ]


def _convolve(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    numbers = eqn.params["dimension_numbers"]
    found: list[Fate] = [None] * len(shape)
    if operand == 0:
        window = [eqn.invars[1].aval.shape[axis] for axis in numbers.rhs_spec[2:]]
        places = zip(numbers.lhs_spec[2:], numbers.out_spec[2:], window, strict=True)
        for before, after, size in places:
            found[before] = frozenset({(0, after)}) if size == 1 else None
        found[numbers.lhs_spec[0]] = frozenset({(0, numbers.out_spec[0])})
    else:
        found[numbers.rhs_spec[0]] = frozenset({(0, numbers.out_spec[1])})
    return found


def _product(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    contracted, batched = (pair[operand] for pair in eqn.params["dimension_numbers"])
    free = [axis for axis in range(len(shape)) if axis not in (*contracted, *batched)]
    ahead = len(batched)
    if operand == 1:
        left = eqn.params["dimension_numbers"]
        ahead += len(eqn.invars[0].aval.shape) - len(left[0][0]) - len(left[1][0])
    return [
        (_DROPPED if shape[axis] == 1 else None)
        if axis in contracted
        else frozenset({(0, batched.index(axis) if axis in batched else ahead + free.index(axis))})
        for axis in range(len(shape))
    ]


def _transpose(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    order = tuple(eqn.params["permutation"])
    return [frozenset({(0, order.index(axis))}) for axis in range(len(shape))]


def _broadcast(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    return [frozenset({(0, int(axis))}) for axis in eqn.params["broadcast_dimensions"]]


def _squeeze(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    rest = iter(range(len(shape)))
    gone = eqn.params["dimensions"]
    return [
        _DROPPED if axis in gone else frozenset({(0, next(rest))}) for axis in range(len(shape))
    ]


def _reshape(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    """Each axis becomes all of its run."""
    found: list[Fate] = [_DROPPED] * len(shape)
    for taken, made in reshaped(shape, eqn.outvars[0].aval.shape):
        for axis in taken:
            found[axis] = frozenset((0, goal) for goal in made)
    return found


def reshaped(
    before: Sequence[int], after: Sequence[int], kept: Collection[int] = ()
) -> Iterator[tuple[list[int], list[int]]]:
    """The shortest runs of axes that have equal sizes before and after a reshape.

    Axes of size 1 belong to no run, except those in `kept`. An array without entries has no runs.

    Args:
        before: the shape.
        after: the shape after the reshape.
        kept: axes of `before` of size 1 that belong to a run.

    >>> list(reshaped((2, 3, 4), (6, 2, 2)))
    [([0, 1], [0]), ([2], [1, 2])]
    """
    if 0 in before:
        return
    sources = [axis for axis, size in enumerate(before) if size != 1 or axis in kept]
    goals = [axis for axis, size in enumerate(after) if size != 1]
    while sources and goals:
        taken, made = [sources.pop(0)], [goals.pop(0)]
        while (size := math.prod(before[axis] for axis in taken)) != (
            wanted := math.prod(after[axis] for axis in made)
        ):
            if size < wanted:
                taken.append(sources.pop(0))
            else:
                made.append(goals.pop(0))
        yield taken, made


def _slice(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    if operand > 0:
        return [_DROPPED] * len(shape)
    after = eqn.outvars[0].aval.shape
    starts = eqn.params.get("start_indices", (None,) * len(shape))
    strides = eqn.params.get("strides") or (1,) * len(shape)

    def kept(axis: int) -> bool:
        # The first few entries of many are class and register tokens, which precede the places.
        few = starts[axis] == 0 and strides[axis] == 1 and after[axis] <= min(8, shape[axis] // 4)
        return after[axis] == shape[axis] or not (after[axis] == 1 or few)

    return [frozenset({(0, axis)}) if kept(axis) else _DROPPED for axis in range(len(shape))]


def _gather(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    if operand > 0:
        return [None] * len(shape)
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    after = eqn.outvars[0].aval.shape
    offsets = numbers.offset_dims
    picked = frozenset(
        (0, axis) for axis, size in enumerate(after) if axis not in offsets and size > 1
    )
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    rest = iter(offsets)
    places = [
        frozenset() if axis in gone else frozenset({(0, next(rest))}) for axis in range(len(shape))
    ]
    return [
        place if part == size else place | picked
        for place, part, size in zip(places, sizes, shape, strict=True)
    ]


def _stack(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    new = eqn.params["axis"]
    return [frozenset({(0, axis + (new <= axis))}) for axis in range(len(shape))]


def _same_axes(eqn: Any, operand: int, shape: tuple[int, ...]) -> list[Fate]:
    return [
        frozenset(
            (result, axis)
            for result, atom in enumerate(eqn.outvars)
            if len(atom.aval.shape) == len(shape)
        )
        for axis in range(len(shape))
    ]


_RULES: dict[str, Any] = {
    "conv_general_dilated": _convolve,
    "dot_general": _product,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "slice": _slice,
    "dynamic_slice": _slice,
    "gather": _gather,
    "select_and_gather_add": _window,
    "sort": _cumulate,
    "split": _same_axes,
    "pad": _same_axes,
    "concatenate": _same_axes,
    "stack": _stack,
    "tile": _same_axes,
    "rev": _same_axes,
    "dynamic_update_slice": _same_axes,
    **dict.fromkeys(CUMULATIVE, _cumulate),
}
