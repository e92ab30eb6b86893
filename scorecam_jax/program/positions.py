"""Follow the positions of a value's entries in the image through the traced program.

The entries along an image's axis form a line. Slices, pads and strides shift and scale the line,
reversals and transposes turn it, and reshapes split it or join several lines, as for patches and
tokens. An index along an axis of a value is therefore a number with digits: entry i of (h, w)
tokens is row i // w and column i % w of the image. The relevant operations have rules for digits.
After any other operation an axis counts as one without places. Positions that are not found here
are measured; see `scorecam_jax.adapters.registration`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import Array
from jax.extend.core import Literal

from scorecam_jax.program.jaxprs import Node, Program, flatten, scan_parts
from scorecam_jax.program.places import CUMULATIVE, fates, is_elementwise, reshaped

Box = tuple[tuple[float, float], ...]


class Digit(NamedTuple):
    """One digit of an entry's index.

    Attributes:
        axis: the image's spatial axis along which it counts; -1 for none.
        low: the pixel at which its first entry begins.
        step: the number of pixels per entry; negative along a mirrored axis.
        size: the number of its values.
    """

    axis: int
    low: float
    step: float
    size: int


class Axis(NamedTuple):
    """The positions of the entries along an axis.

    Attributes:
        digits: the digits of the entries that have a place, the most significant first.
        first: the number of entries before them.
    """

    digits: tuple[Digit, ...]
    first: int = 0

    @property
    def places(self) -> bool:
        """Whether the entries lie in the image."""
        return any(digit.axis >= 0 for digit in self.digits)

    @property
    def size(self) -> int:
        """The number of entries that have a place."""
        return math.prod(digit.size for digit in self.digits)


State = tuple[Axis, ...]


class Arrangement(NamedTuple):
    """How activations lie over the image.

    Attributes:
        axes: the axes of the activations, without the first.
        channels: the channel axis.
        grid: the number of cells along each of the image's axes.
        box: the first and last pixel of the cells along each of the image's axes.
    """

    axes: State
    channels: int
    grid: tuple[int, ...]
    box: Box

    def to_grid(self, activations: Any, channel_axis: int) -> Any:
        """Arrange the activations as a grid in the image's order, with a given channel axis."""
        cells = _move(activations, self.channels, -1)[self._kept()]
        digits = self._digits()
        ends = len(cells), cells.shape[-1]
        cells = cells.reshape(ends[0], *(digit.size for digit in digits), ends[1])
        cells = cells.transpose(0, *self._order(), len(digits) + 1)[self._turned()]
        return _move(cells.reshape(ends[0], *self.grid, ends[1]), -1, channel_axis)

    def from_grid(self, grid: Array, activations: Array, channel_axis: int) -> Array:
        """Invert `to_grid`; entries outside the grid are taken from `activations`."""
        moved = _move(activations, self.channels, -1)
        digits, order = self._digits(), self._order()
        counts = (digits[number - 1].size for number in order)
        cells = _move(grid, channel_axis, -1)
        cells = cells.reshape(len(moved), *counts, moved.shape[-1])[self._turned()]
        cells = cells.transpose(0, *(1 + int(place) for place in np.argsort(order)), len(order) + 1)
        kept = self._kept()
        whole = moved.at[kept].set(cells.reshape(moved[kept].shape))
        return _move(whole, -1, self.channels)

    @property
    def mirrored(self) -> tuple[int, ...]:
        """The image's axes along which the activations run backwards."""
        return tuple(sorted({digit.axis for digit in self._digits() if digit.step < 0}))

    @property
    def runs(self) -> list[int]:
        """The image's axes in the order of the activations."""
        return [digit.axis for digit in self._digits()]

    def is_plain(self, shape: tuple[int, ...], channel_axis: int) -> bool:
        """Whether activations of a shape already have the image's order and channel axis."""
        return (
            self.channels == channel_axis
            and not self.mirrored
            and self.runs == list(range(len(self.grid)))
            and len(shape) == len(self.grid) + 2
            and math.prod(shape[1:]) == math.prod(self.grid) * shape[self.channels]
        )

    def lies_as_usual(self, image: Sequence[int]) -> bool:
        """Whether the grid covers the whole image, row by row."""
        whole = tuple((0.0, float(size)) for size in image)
        return self.runs == list(range(len(image))) and not self.mirrored and self.box == whole

    def _digits(self) -> list[Digit]:
        return [digit for axis in self._places() for digit in axis.digits]

    def _places(self) -> list[Axis]:
        return [axis for number, axis in enumerate(self.axes, 1) if number != self.channels]

    def _kept(self) -> tuple[slice, ...]:
        kept = (slice(axis.first, axis.first + axis.size) for axis in self._places())
        return (slice(None), *kept)

    def _order(self) -> list[int]:
        """The digits' numbers, sorted by the image's axes."""
        digits = self._digits()
        found = sorted(range(len(digits)), key=lambda i: (digits[i].axis, -abs(digits[i].step)))
        return [number + 1 for number in found]

    def _turned(self) -> tuple[slice, ...]:
        digits = self._digits()
        steps = (-1 if digits[number - 1].step < 0 else 1 for number in self._order())
        return (slice(None), *(slice(None, None, step) for step in steps))


class Positions:
    """The positions in the image of the entries of a program's values.

    Attributes:
        states: the state of each value that depends on the image.
        seen: the box of the pixels that the network reads; None if it is not known.
    """

    def __init__(
        self, program: Program, start: dict[Any, State], constant: set[Any], boxes: dict[Any, Box]
    ) -> None:
        self.states = dict(start)
        self.seen: Box | None = None
        self._constant = set(constant)
        self._boxes = dict(boxes)  # for values that still contain the image's pixels
        for node in program.nodes:
            if any(value in self.states for value in node.operands):
                self._pass(node)
            elif any(value in self._constant for value in node.operands):
                self._constant.update(node.results)

    def _pass(self, node: Node) -> None:
        name = node.eqn.primitive.name
        rule = _RULES.get(name)
        rows = [None if value is None else self.states.get(value) for value in node.operands]
        if name == "scan":
            found = _scan(node, rows)
        elif name == "cond":
            found = _choose(node, rows)
        elif name == "dot_general":
            found = _product(node, rows, self._is_computed(node))
        elif name.startswith("reduce_window") and "window_dimensions" in node.eqn.params:
            found = [_pool(node.eqn, rows)]
        else:
            found = rule(node.eqn, rows) if rule else _carry(node.eqn, rows)
        self.states.update(zip(node.results, found, strict=True))
        self._look(node, rows)

    def _is_computed(self, node: Node) -> bool:
        """Whether a factor depends neither on the image nor on weights."""
        return any(
            value is not None and value not in self.states and value not in self._constant
            for value in node.operands
        )

    def _look(self, node: Node, rows: Sequence[State | None]) -> None:
        """Track which of the image's pixels are still present."""
        boxes = [
            self._boxes[value]
            for value in node.operands
            if value is not None and value in self._boxes
        ]
        if not boxes:
            return
        box = _union(boxes)
        name = node.eqn.primitive.name
        if name in _KEEP or is_elementwise(node.eqn):
            for value in node.results:
                kept = _within(box, self.states[value]) if name in _CUT else box
                self._boxes[value] = kept
        else:
            self.seen = _union([box] if self.seen is None else [box, self.seen])


def follow(
    program: Program, image: Any, shape: tuple[int, ...], channel_axis: int, constant: set[Any]
) -> Positions:
    """Follow an image through a program.

    Args:
        program: the program.
        image: the number of the image's value.
        shape: the image's shape.
        channel_axis: the image's channel axis.
        constant: the numbers of the values that depend on weights alone.
    """
    space = [axis for axis in range(1, len(shape)) if axis != channel_axis]
    start = tuple(
        Axis((Digit(space.index(axis), 0.0, 1.0, size),)) if axis in space else _blank(size)
        for axis, size in enumerate(shape)
    )
    box = tuple((0.0, float(shape[axis])) for axis in space)
    return Positions(program, {image: start}, constant, {image: box})


def arrange(state: State, image: Sequence[int], seen: Box | None) -> Arrangement | None:
    """Find how activations lie over the image; None if they do not form a complete grid.

    Cells that see nothing of the image, such as those over padding, are left out. If the grid's
    edges are then within one cell of the pixels that the network reads, the grid is taken to cover
    exactly these: strides and the padding of windows shift it by less than a cell.

    Args:
        state: the state of the activations.
        image: the sizes of the image's axes.
        seen: the box of the pixels that the network reads; None for the whole image.
    """
    if not state or state[0].places:
        return None
    seen = seen or tuple((0.0, float(size)) for size in image)
    axes = tuple(_over_image(axis, seen) for axis in state[1:])
    channels = [number for number, axis in enumerate(axes, 1) if not axis.places]
    found = [digit for axis in axes if axis.places for digit in axis.digits]
    if len(channels) != 1 or any(digit.axis < 0 for digit in found):
        return None
    grid, box = [], []
    for number in range(len(image)):
        whole = _joined(_along(found, number))
        if len(whole) != 1 or not whole[0].size:
            return None
        _, low, step, count = whole[0]
        edges = sorted((low, low + step * count))
        grid.append(count)
        box.append(_settle(edges, abs(step), seen[number]))
    return Arrangement(axes, channels[0], tuple(grid), tuple(box)) if math.prod(grid) > 1 else None


def arrange_as(
    image: Sequence[int],
    grid: Sequence[int],
    order: Sequence[Sequence[int]],
    channels: int,
    first: int = 0,
) -> Arrangement:
    """Make an arrangement that covers the whole image, its axes or tokens in a given order.

    Args:
        image: the sizes of the image's axes.
        grid: the number of cells along each axis.
        order: for each axis of the activations that has places, the image's axes that it runs over,
            the slowest first: `[[0], [1]]` for a grid, `[[0, 1]]` for tokens row by row.
        channels: the channel axis of the activations.
        first: the number of tokens before those of the grid.
    """
    digits = [
        Digit(axis, 0.0, size / count, count)
        for axis, (size, count) in enumerate(zip(image, grid, strict=True))
    ]
    axes = [Axis(tuple(digits[axis] for axis in run), first) for run in order]
    axes.insert(channels - 1, Axis(()))
    box = tuple((0.0, float(size)) for size in image)
    return Arrangement(tuple(axes), channels, tuple(grid), box)


def _along(digits: Sequence[Digit], number: int) -> list[Digit]:
    """The digits along one of the image's axes, the most significant first."""
    return sorted((d for d in digits if d.axis == number), key=lambda d: -abs(d.step))


def _over_image(axis: Axis, seen: Box) -> Axis:
    """An axis without the cells that lie outside the pixels that are read."""
    if len(axis.digits) != 1 or axis.first or not axis.places:
        return axis
    number, low, step, count = axis.digits[0]
    ends = sorted((goal - low) / step for goal in seen[number])
    first = min(max(math.floor(ends[0] + 1e-6), 0), count)
    last = min(max(math.ceil(ends[1] - 1e-6), first), count)
    return Axis((Digit(number, low + first * step, step, last - first),), first)


def _move(array: Any, source: int, goal: int) -> Any:
    """Move one axis of a NumPy or JAX array."""
    order = list(range(array.ndim))
    order.insert(goal % array.ndim, order.pop(source))
    return array.transpose(order)


def _settle(edges: list[float], cell: float, seen: tuple[float, float]) -> tuple[float, float]:
    near = all(abs(edge - goal) <= cell for edge, goal in zip(edges, seen, strict=True))
    return seen if near else (edges[0], edges[1])


def _blank(size: int) -> Axis:
    return Axis(() if size == 1 else (Digit(-1, 0.0, 0.0, size),))


def _blanks(shape: Sequence[int]) -> State:
    return tuple(map(_blank, shape))


def _shape(atom: Any) -> tuple[int, ...]:
    return atom.aval.shape


def _union(boxes: Sequence[Box]) -> Box:
    return tuple(
        (min(low for low, _ in along), max(high for _, high in along))
        for along in zip(*boxes, strict=True)
    )


def _within(box: Box, state: State) -> Box:
    """A box cropped to the places of a state."""
    found = list(box)
    digits = [digit for axis in state for digit in axis.digits]
    for number, (low, high) in enumerate(box):
        own = [digit for digit in digits if digit.axis == number]
        if len(own) == 1:
            ends = sorted((own[0].low, own[0].low + own[0].step * own[0].size))
            found[number] = (max(low, ends[0]), min(high, ends[1]))
    return tuple(found)


def _joined(digits: Sequence[Digit]) -> tuple[Digit, ...]:
    """Merge neighbouring digits that count continuously along the same axis."""
    made: list[Digit] = []
    for digit in digits:
        if digit.axis < 0 and digit.size == 1:
            continue
        last = made[-1] if made else None
        if last and last.axis == digit.axis and _close(last.step, digit.step * digit.size):
            low = last.low + digit.low
            made[-1] = Digit(digit.axis, low, digit.step, last.size * digit.size)
        else:
            made.append(digit)
    return tuple(made)


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def _both(one: Axis, other: Axis) -> Axis:
    """The positions along an axis of two combined values; no places if the two disagree."""
    if not (one.places and other.places):
        return one if one.places else other
    alike = one.first == other.first and len(one.digits) == len(other.digits)
    if alike and all(map(_agree, one.digits, other.digits)):
        return one
    return Axis((Digit(-1, 0.0, 0.0, one.size + one.first),))


def _agree(one: Digit, other: Digit) -> bool:
    # The paths may have windows of different sizes; these shift a grid by less than a cell.
    same = (one.axis, one.size) == (other.axis, other.size)
    return same and _close(one.step, other.step) and abs(one.low - other.low) <= abs(one.step)


def _carry(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    """The rule for most operations: an axis that is carried over whole keeps its places."""
    found = [list(_blanks(_shape(atom))) for atom in eqn.outvars]
    for position, state in enumerate(rows):
        if state is None:
            continue
        sizes = _shape(eqn.invars[position])
        for axis, size, fate in zip(state, sizes, fates(eqn, position), strict=True):
            for result, place in fate or ():
                if _shape(eqn.outvars[result])[place] == size:
                    found[result][place] = _both(found[result][place], axis)
    return list(map(tuple, found))


def _keep_first(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    """The rule for operations whose results lie as their first operand does."""
    state = rows[0] or _blanks(_shape(eqn.invars[0]))
    return [state for _ in eqn.outvars]


def _cut(axis: Axis, start: int, stride: int, count: int) -> Axis:
    """The entries `start`, `start + stride`, ... of an axis."""
    if not axis.places:
        return _blank(count)
    if len(axis.digits) == 1 and not axis.first and axis.digits[0].size >= start + count:
        _, low, step, _ = axis.digits[0]
        return Axis((Digit(axis.digits[0].axis, low + start * step, step * stride, count),))
    # From tokens, only those without a place may be cut off.
    if stride == 1 and start <= axis.first and axis.first + axis.size <= start + count:
        return axis._replace(first=axis.first - start)
    return _blank(count)


def _slice(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    state, after = rows[0], _shape(eqn.outvars[0])
    if state is None:
        return [_blanks(after)]
    starts = map(int, eqn.params["start_indices"])
    strides = map(int, eqn.params["strides"] or (1,) * len(after))
    return [tuple(map(_cut, state, starts, strides, after))]


def _dynamic_slice(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    state, after = rows[0], _shape(eqn.outvars[0])
    if state is None:
        return [_blanks(after)]
    whole = zip(state, _shape(eqn.invars[0]), after, eqn.invars[1:], strict=True)
    return [
        tuple(
            axis
            if size == count
            else _cut(axis, min(max(int(start.val), 0), size - count), 1, count)
            if isinstance(start, Literal)
            else _blank(count)
            for axis, size, count, start in whole
        )
    ]


def _gather(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    """Axes that are taken whole keep their places; picked entries are not followed."""
    state, numbers = rows[0], eqn.params["dimension_numbers"]
    found = list(_blanks(_shape(eqn.outvars[0])))
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    goals = iter(numbers.offset_dims)
    sizes = zip(_shape(eqn.invars[0]), eqn.params["slice_sizes"], strict=True)
    for axis, (size, part) in enumerate(sizes):
        goal = None if axis in gone else next(goals)
        if state and goal is not None and size == part:
            found[goal] = state[axis]
    return [tuple(found)]


def _split(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    (state,), along = rows, eqn.params["axis"]
    found, start = [], 0
    for size in map(int, eqn.params["sizes"]):
        part = _cut(state[along], start, 1, size) if state else _blank(size)
        found.append((*state[:along], part, *state[along + 1 :]))  # type: ignore[index]
        start += size
    return found


def _pad(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    state, after = rows[0], _shape(eqn.outvars[0])
    if state is None:
        return [_blanks(after)]
    return [tuple(map(_pad_axis, state, eqn.params["padding_config"], after))]


def _pad_axis(axis: Axis, padding: Sequence[Any], count: int) -> Axis:
    low, high, interior = map(int, padding)
    if low == high == interior == 0:
        return axis
    if not axis.places:
        return _blank(count)
    if len(axis.digits) == 1 and not axis.first:
        number, start, step, _ = axis.digits[0]
        finer = step / (interior + 1)
        return Axis((Digit(number, start + step / 2 - finer * (low + 0.5), finer, count),))
    if not interior and min(low, high) >= 0:
        return axis._replace(first=axis.first + low)
    return _blank(count)


def _reverse(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    state = rows[0] or ()
    sizes, turned = _shape(eqn.invars[0]), eqn.params["dimensions"]
    return [
        tuple(
            _turn(axis, size) if number in turned else axis
            for number, (axis, size) in enumerate(zip(state, sizes, strict=True))
        )
    ]


def _turn(axis: Axis, size: int) -> Axis:
    digits = tuple(
        Digit(number, low + step * count, -step, count) for number, low, step, count in axis.digits
    )
    return Axis(digits, size - axis.first - axis.size) if axis.places else axis


def _concatenate(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    along, after = eqn.params["dimension"], _shape(eqn.outvars[0])
    found, start = list(_blanks(after)), 0
    for atom, state in zip(eqn.invars, rows, strict=True):
        for number, axis in enumerate(state or ()):
            if number != along:
                found[number] = _both(found[number], axis)
            elif axis.places:
                moved = axis._replace(first=axis.first + start)
                found[number] = moved if not found[number].places else _blank(after[along])
        start += _shape(atom)[along]
    return [tuple(found)]


def _stack(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    new, after = eqn.params["axis"], _shape(eqn.outvars[0])
    found = list(_blanks(after))
    for state in rows:
        for number, axis in enumerate(state or ()):
            place = number + (new <= number)
            found[place] = _both(found[place], axis)
    return [tuple(found)]


def _reshape(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    """The rule for reshapes: axes are split and joined."""
    before, after = _shape(eqn.invars[0]), _shape(eqn.outvars[0])
    state = rows[0]
    if state is None or eqn.params.get("dimensions") is not None:
        return [_blanks(after)]
    found = list(_blanks(after))
    placed = [axis for axis, one in enumerate(state) if one.places]
    for taken, made in reshaped(before, after, placed):
        if len(taken) == len(made) == 1:
            found[made[0]] = state[taken[0]]
        elif all(state[axis].size == before[axis] for axis in taken):
            digits = _joined([digit for axis in taken for digit in state[axis].digits])
            parts = _dealt(digits, [after[axis] for axis in made])
            for axis, part in zip(made, parts or (), strict=parts is not None):
                found[axis] = part
    return [tuple(found)]


def _dealt(digits: Sequence[Digit], sizes: Sequence[int]) -> list[Axis] | None:
    """Split digits into axes of the given sizes; None if a digit does not divide evenly."""
    found: list[Axis] = []
    rest = list(reversed(digits))
    for size in sizes:
        own: list[Digit] = []
        while size > 1:
            if not rest:
                return None
            digit = rest.pop()
            if digit.size > size:
                inner = digit.size // size
                if digit.size % size:
                    return None
                rest.append(Digit(digit.axis, 0.0, digit.step, inner))
                digit = Digit(digit.axis, digit.low, digit.step * inner, size)
            if size % max(digit.size, 1):
                return None
            size //= digit.size
            own.append(digit)
        found.append(Axis(_joined(own)))
    return found


def _slide(
    axis: Axis, count: int, size: int, stride: Any, low: Any, spread: Any = 1, dilation: Any = 1
) -> Axis:
    """The positions of windows that slide along an axis.

    Args:
        axis: the axis along which they slide.
        count: the number of windows.
        size: the number of entries in a window.
        stride: the distance between windows.
        low: the number of entries padded before the first.
        spread: the dilation of the input.
        dilation: the dilation of the window.
    """
    if not axis.places or len(axis.digits) > 1 or axis.first:
        same = (size, stride, low, spread) == (1, 1, 0, 1)
        return axis if same else _blank(count)
    number, start, step, _ = axis.digits[0]
    centre = (((size - 1) * dilation + 1) / 2 - low - 0.5) / spread + 0.5
    wide = float(step * stride / spread)
    return Axis((Digit(number, float(start + step * centre - wide / 2), wide, count),))


def _convolve(eqn: Any, rows: Sequence[State | None]) -> list[State]:
    image, kernel = eqn.invars
    after, numbers = _shape(eqn.outvars[0]), eqn.params["dimension_numbers"]
    found = list(_blanks(after))
    state = rows[0]
    if state is None:
        return [tuple(found)]
    found[numbers.out_spec[0]] = state[numbers.lhs_spec[0]]
    if after[numbers.out_spec[0]] != _shape(image)[numbers.lhs_spec[0]]:
        found[numbers.out_spec[0]] = _blank(after[numbers.out_spec[0]])
    spec = zip(
        numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:],
        eqn.params["window_strides"], eqn.params["padding"], eqn.params["lhs_dilation"],
        eqn.params["rhs_dilation"], strict=True,
    )  # fmt: skip
    for source, side, goal, stride, (low, _), spread, dilation in spec:
        found[goal] = _slide(
            state[source], after[goal], _shape(kernel)[side], stride, low, spread, dilation
        )
    return [tuple(found)]


def _pool(eqn: Any, rows: Sequence[State | None]) -> State:
    state, after, params = rows[0], _shape(eqn.outvars[0]), eqn.params
    if state is None:
        return _blanks(after)
    ones = (1,) * len(after)
    lows = [int(low) for low, _ in params["padding"]]
    spread = params.get("base_dilation") or ones
    dilation = params.get("window_dilation") or ones
    sides, strides = params["window_dimensions"], params["window_strides"]
    return tuple(map(_slide, state, after, sides, strides, lows, spread, dilation))


def _product(node: Node, rows: Sequence[State | None], computed: bool) -> list[State]:
    """A contraction. With a matrix that depends on neither image nor weights, it is a resizing."""
    (found,) = _carry(node.eqn, rows)
    if not computed:
        return [found]
    which = 0 if rows[0] is not None else 1
    state = rows[which] or ()
    contracted = node.eqn.params["dimension_numbers"][0]
    places = [state[axis] for axis in contracted[which] if state[axis].places]
    (before, other), after = map(_shape, node.eqn.invars), _shape(node.eqn.outvars[0])
    if which:
        before, other = other, before
    batched = node.eqn.params["dimension_numbers"][1][1 - which]
    free = [a for a in range(len(other)) if a not in (*contracted[1 - which], *batched)]
    alone = len(places) == len(contracted[which]) == len(free) == 1
    if not alone or len(places[0].digits) != 1 or places[0].first:
        return [found]
    number, low, step, count = places[0].digits[0]
    size = other[free[0]]
    place = len(after) - 1 if which == 0 else len(batched)
    resized = Axis((Digit(number, low, step * count / size, size),))
    return [(*found[:place], resized, *found[place + 1 :])]


def _scan(node: Node, rows: Sequence[State | None]) -> list[State]:
    """A loop: a carried value keeps its places if a run of the body does not move them."""
    eqn = node.eqn
    jaxpr, _, first, carried = scan_parts(eqn)
    inside = [
        state if state is None or place < first + carried else state[1:]
        for place, state in enumerate(rows)
    ]
    # Carries that begin as constants may come to depend on the image.
    results = _run(jaxpr, inside)
    found: list[State] = []
    for place, (atom, state) in enumerate(zip(eqn.outvars, results, strict=True)):
        if place >= carried:
            found.append((_blank(eqn.params["length"]), *state) if state else _blanks(_shape(atom)))
        elif state is not None and state == rows[first + place]:
            found.append(state)
        else:
            found.append(_blanks(_shape(atom)))
    return found


def _choose(node: Node, rows: Sequence[State | None]) -> list[State]:
    """A conditional: the states on which its branches agree.

    Branches for several platforms compute the same, so only the default one is read.
    """
    branches, platforms = node.eqn.params["branches"], node.eqn.params.get("branches_platforms")
    if platforms and None in platforms:
        branches = [branches[platforms.index(None)]]
    found = [_run(getattr(branch, "jaxpr", branch), rows[1:]) for branch in branches]
    return [
        states[0] if states[0] and all(state == states[0] for state in states) else _blanks(shape)
        for states, shape in zip(
            zip(*found, strict=True), map(_shape, node.eqn.outvars), strict=True
        )
    ]


def _run(jaxpr: Any, rows: Sequence[State | None]) -> list[State | None]:
    """The states of a body's results, given those of its arguments."""
    program = flatten(jaxpr)
    inner = [program.numbers[variable] for variable in jaxpr.invars]
    start = {n: state for n, state in zip(inner, rows, strict=True) if state is not None}
    constant = {value for value in program.inputs if value not in start}
    states = Positions(program, start, constant, {}).states
    return [None if value is None else states.get(value) for value in program.outputs]


_RULES: dict[str, Any] = {
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "gather": _gather,
    "split": _split,
    "pad": _pad,
    "rev": _reverse,
    "concatenate": _concatenate,
    "stack": _stack,
    "reshape": _reshape,
    "conv_general_dilated": _convolve,
    **dict.fromkeys((*CUMULATIVE, "dynamic_update_slice", "scatter", "scatter-add"), _keep_first),
}
# Operations that pass pixels on unchanged (_KEEP), and those of them that drop some (_CUT).
_CUT = ("slice", "dynamic_slice", "split")
_KEEP = (
    *_CUT, "pad", "rev", "concatenate", "reshape", "transpose", "squeeze", "broadcast_in_dim",
)  # fmt: skip
