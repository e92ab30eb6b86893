"""What is known of a network from its traced program: which of its values could be explained.

A value is a *cut* if every path from the image to the outputs passes through it. Its places are
mixed later on if something on the way to the outputs reduces, contracts, convolves or pools along
the grid's axes. Tokens are a grid with the sizes of the last cut before them that has one, after up
to eight class and register tokens.
"""

import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from scorecam_jax.program.attention import KIND as ATTENTION
from scorecam_jax.program.attention import STREAM, stream_after
from scorecam_jax.program.jaxprs import Node, flatten
from scorecam_jax.program.marks import Path
from scorecam_jax.program.places import fates, is_elementwise
from scorecam_jax.program.positions import Arrangement, arrange, arrange_as, follow
from scorecam_jax.program.sites import Site, find_sites

# Paths are counted modulo a prime, since a deep residual network has 2 to the hundreds of them.
_PRIME = (1 << 89) - 1
_MOST_EXTRA_TOKENS = 8


class Candidate(NamedTuple):
    """A value of a network, and what is true of it.

    Attributes:
        site: its name; None if it has none.
        order: when it is made.
        cut: whether every path from the image to the outputs passes through it.
        grid: the sizes of its grid; of tokens, of the grid that they form; or None.
        channels: the axis of its channels.
        mixed: whether its places are mixed later on.
        alive: whether the outputs still depend on its places; without any, on the value.
        weighted: whether a product or convolution with weights follows.
        arrangement: how it lies over the image, if the program tells.
    """

    site: Site
    order: int
    cut: bool
    grid: tuple[int, ...] | None
    channels: int
    mixed: bool
    alive: bool
    weighted: bool
    arrangement: Arrangement | None


class _Later(NamedTuple):
    """What lies between a value and the outputs."""

    paths: dict[int, int]
    mixed: dict[int, set[int]]
    alive: dict[int, set[int]]
    weighted: set[int]


class Analysis:
    """What is known of a network from its exposed jaxpr.

    Args:
        jaxpr: takes the weights, then the image, then what goes with it.
        weights: how many arrays the weights are.
        channel_axis: where the image has its channels.
        outputs: which outputs count; None for all that are floating point, one row per image.
    """

    def __init__(
        self, jaxpr: Any, weights: int, channel_axis: int, outputs: tuple[int, ...] | None
    ) -> None:
        self.program = flatten(jaxpr)
        self.sites = find_sites(jaxpr)
        image = jaxpr.invars[weights]
        self.shape = image.aval.shape
        self.channel_axis = channel_axis % len(self.shape)
        self.image: Any = self.program.numbers[image]
        self.space = tuple(
            size for axis, size in enumerate(self.shape) if axis not in (0, self.channel_axis)
        )
        self.returned = [(atom.aval.shape, atom.aval.dtype) for atom in jaxpr.outvars]
        chosen = range(len(jaxpr.outvars)) if outputs is None else outputs
        self.outputs = [
            self.program.outputs[i]
            for i in chosen
            if outputs is not None or _is_explained(jaxpr.outvars[i].aval, self.shape[0])
        ]
        given = {self.program.numbers[variable] for variable in jaxpr.invars[weights:]}
        self.constant = set(self.program.inputs) - given
        self._count()
        self.positions = follow(
            self.program, self.image, self.shape, self.channel_axis, self.constant
        )
        self.later = self._look_back(self.program.nodes, self.outputs)
        self._find_cuts()

    def arrangement(self, value: Any) -> Arrangement | None:
        """How a value lies over the image, if the program tells."""
        state = self.positions.states.get(value)
        return arrange(state, self.space, self.positions.seen) if state else None

    def _count(self) -> None:
        """Count the paths from the image to each value, and find what depends on weights alone."""
        self.paths = {self.image: 1}
        for node in self.program.nodes:
            known = [value for value in node.operands if value is not None]
            if any(value in self.paths for value in known):
                count = sum(self.paths.get(value, 0) for value in known) % _PRIME
                self.paths.update(dict.fromkeys(node.results, count))
            elif known and all(value in self.constant for value in known):
                self.constant.update(node.results)

    def _look_back(
        self, nodes: list[Node], outputs: list[Any], without: int | None = None
    ) -> _Later:
        """Look from some values back; `without` one of them, as if it led nowhere."""
        later = _Later({}, {}, {}, set())
        for output in outputs:
            later.paths[output] = later.paths.get(output, 0) + 1
            later.alive[output] = set(range(len(self.shape) + 4))
        for node in reversed(nodes):
            count = sum(later.paths.get(value, 0) for value in node.results) % _PRIME
            if not count:
                continue
            if without in node.results:
                continue
            image = [value in self.paths for value in node.operands]
            # Adding a bias to class maps, or scaling them, makes no layer of them.
            combines = not is_elementwise(node.eqn)
            with_weights = combines and any(value in self.constant for value in node.operands)
            with_weights |= any(value in later.weighted for value in node.results)
            for position, value in enumerate(node.operands):
                if value is None or not image[position]:
                    continue
                later.paths[value] = (later.paths.get(value, 0) + count) % _PRIME
                if with_weights:
                    later.weighted.add(value)
                self._follow(later, node, position, value)
        return later

    def _follow(self, later: _Later, node: Node, position: int, value: int) -> None:
        mixed = later.mixed.setdefault(value, set())
        alive = later.alive.setdefault(value, set())
        for axis, fate in enumerate(fates(node.eqn, position)):
            if fate is None:
                mixed.add(axis)
                alive.add(axis)
                continue
            for result, place in fate:
                number = node.results[result]
                if place in later.mixed.get(number, ()):
                    mixed.add(axis)
                if place in later.alive.get(number, ()):
                    alive.add(axis)

    def mixed_axes(
        self,
        value: Any,
        start: int,
        stop: int | None = None,
        goal: Any = None,
        without: int | None = None,
    ) -> set[int]:
        """The axes of a value that some of the program's equations mix.

        Args:
            value: the value.
            start: the first of the equations.
            stop: the one after the last; None for all that follow.
            goal: the value that they lead to; None for the outputs.
            without: a value whose paths do not count.
        """
        goals = self.outputs if goal is None else [goal]
        later = self._look_back(self.program.nodes[start:stop], goals, without)
        return later.mixed.get(value, set())

    def _find_cuts(self) -> None:
        """Find all cuts, named or not: those with a grid, and those with tokens."""
        total = self.later.paths.get(self.image, 0)
        self.cuts: set[int] = set()
        self.order: dict[int, int] = {}
        self.values: list[tuple[int, tuple[int, ...]]] = []  # cuts with one row per image
        self.grids: list[tuple[int, tuple[int, ...]]] = []
        self.told: set[int] = set()  # where cuts have their channels
        for number, node in enumerate(self.program.nodes):
            for value, atom in zip(node.results, node.eqn.outvars, strict=True):
                self.order[value] = number
                here = self.paths.get(value, 0) * self.later.paths.get(value, 0) % _PRIME
                if not total or here != total:
                    continue
                self.cuts.add(value)
                aval: Any = atom.aval
                shape = aval.shape
                if shape[:1] == self.shape[:1]:
                    self.values.append((value, shape))
                    if arrangement := self.arrangement(value):
                        self.grids.append((number, arrangement.grid))
                        if len(shape) == len(self.shape):
                            self.told.add(arrangement.channels)
                        continue
                    for axis in sorted({self.channel_axis, 1, len(shape) - 1}):
                        grid = self._spatial(shape, axis)
                        if grid:
                            self.grids.append((number, grid))
                            break

    def _spatial(self, shape: tuple[int, ...], channel_axis: int) -> tuple[int, ...] | None:
        """The grid of a shape, if it has the image's proportions."""
        if len(shape) != len(self.shape) or shape[0] != self.shape[0]:
            return None
        grid = tuple(size for axis, size in enumerate(shape) if axis not in (0, channel_axis))
        return grid if math.prod(grid) > 1 and self._is_like(grid, self.channel_axis) else None

    def _is_like(self, grid: tuple[int, ...], channel_axis: int) -> bool:
        """Whether a grid has the image's proportions, were its channels at an axis."""
        image = [size for axis, size in enumerate(self.shape) if axis not in (0, channel_axis)]
        return len(grid) == len(image) and all(
            abs(grid[i] * image[j] - grid[j] * image[i]) <= max(image[i], image[j])
            for i in range(len(grid))
            for j in range(i)
        )

    def misreads_image(self, grid: tuple[int, ...]) -> bool:
        """Whether a grid is like the image only if that has its channels at the other axis."""
        axes = self.channel_axis, self.other_axis
        return [self._is_like(grid, axis) for axis in axes] == [False, True]

    def layout(self, shape: tuple[int, ...], cut: bool) -> tuple[tuple[int, ...] | None, int]:
        """The grid and the channel axis of activations; of a cut, also if it is not the image's."""
        transposed = cut and self.channel_axis not in self.told
        for axis in (self.channel_axis, self.other_axis)[: 1 + transposed]:
            if grid := self._spatial(shape, axis):
                return grid, axis
        return None, self.channel_axis

    @property
    def other_axis(self) -> int:
        """Where a network that transposes its image has its channels."""
        return len(self.shape) - 1 if self.channel_axis == 1 else 1

    def _tokens(self, shape: tuple[int, ...], order: int) -> tuple[int, ...] | None:
        """The grid that tokens form."""
        if len(shape) != 3 or shape[0] != self.shape[0] or shape[1] == 1:
            return None
        before = [grid for number, grid in self.grids if number <= order]
        extra = shape[1] - math.prod(before[-1]) if before else -1
        return before[-1] if 0 <= extra <= _MOST_EXTRA_TOKENS else None

    def is_layer(self, site: Site) -> bool:
        """Whether a function's result is at once what a layer returns."""
        value = self.number(site)
        nodes = (node for node in self.program.nodes if value in node.operands)
        return site.layer or next(nodes).eqn.primitive.name == "layer"

    def describe(self, site: Site) -> Candidate:
        """What is true of a value."""
        return self.describe_value(self.number(site), site.shape, site)

    def number(self, site: Site) -> Any:
        """The value that a site names."""
        return self.program.numbers[site.variable]

    def describe_value(self, value: Any, shape: tuple[int, ...], site: Any = None) -> Candidate:
        """What is true of a value that need not have a name."""
        order, cut = self.order.get(value, -1), value in self.cuts
        if site is not None and site.kind == ATTENTION:
            return self._describe_attention(value, site, order)
        arrangement = self.arrangement(value)
        if arrangement:
            grid: tuple[int, ...] | None = arrangement.grid
            channels = arrangement.channels
        elif len(shape) == len(self.shape):
            grid, channels = self.layout(shape, cut)
        else:
            grid, channels = self._tokens(shape, order), len(shape) - 1
        places = places_of(shape, channels)
        return Candidate(
            site,
            order,
            cut,
            grid,
            channels,
            bool(places & self.later.mixed.get(value, set())),
            bool(
                places & self.later.alive.get(value, set()) if places else value in self.later.paths
            ),
            value in self.later.weighted,
            arrangement,
        )

    def _describe_attention(self, value: Any, site: Site, order: int) -> Candidate:
        keys = self.arrange_tokens(site.shape[-1], order)
        return Candidate(
            site, order, False, keys and keys.grid, len(site.shape) - 1, True,
            value in self.later.paths, value in self.later.weighted, keys,
        )  # fmt: skip

    def arrange_tokens(self, count: int, before: int) -> Arrangement | None:
        """How so many tokens lie over the image, by the last of them that all paths pass through.

        Args:
            count: how many tokens.
            before: when they were made, at the latest.
        """
        for value, shape in reversed(self.values):
            if len(shape) != 3 or shape[1] != count or self.order[value] > before:
                continue
            if arrangement := self.arrangement(value):
                return arrangement
            if grid := self._tokens(shape, self.order[value]):
                rank = len(self.space)
                return arrange_as(self.space, grid, [range(rank)], 2, count - math.prod(grid))
        return None

    def stream(self, path: Path) -> Site:
        """The tokens that a block returns: the last sum of two paths before the next attention.

        Args:
            path: what `stream_after` makes of the name of the block's attention matrix.

        Raises:
            ValueError: there are none through which all paths pass.
        """
        matrices = [site for site in self.sites if site.kind == ATTENTION]
        names = [stream_after(site.path) for site in matrices]
        here = names.index(path)
        ends = [self.order[self.number(site)] for site in matrices] + [len(self.program.nodes)]
        shape = matrices[here].shape
        wanted = (shape[0], shape[-2])
        for number in reversed(range(ends[here], ends[here + 1])):
            node = self.program.nodes[number]
            if node.eqn.primitive.name != "add" or node.results[0] not in self.cuts:
                continue
            variable: Any = node.eqn.outvars[0]
            found = variable.aval.shape
            if len(found) != 3 or found[:2] != wanted:
                continue
            if all(value in self.paths for value in node.operands):
                return Site(path, STREAM, found, variable, "", (), False)
        raise ValueError(
            f"what the block of {matrices[here].name!r} {shape} returns is not found: no sum of "
            f"two paths with {shape[-2]} tokens follows that all paths to the outputs pass through"
        )

    def read_by(self, matrix: Site, stream: Path) -> Site:
        """The last layer through which an attention matrix and its values read their tokens.

        Args:
            matrix: the attention matrix.
            stream: the name of the tokens; see `stream`.

        Raises:
            ValueError: no layer has the shape of the tokens and all that is read going through it.
        """
        start = self.stream(stream)
        first, last = (self.order[self.number(site)] for site in (start, matrix))
        product = next(
            number
            for number in range(last, len(self.program.nodes))
            if self.program.nodes[number].eqn.primitive.name == "dot_general"
        )
        goal = self.program.nodes[product].results[0]
        for each in reversed(self.candidates):
            if not first < each.order < last or each.site.shape != start.shape:
                continue
            number = self.number(each.site)
            mixed = self.mixed_axes(self.number(start), first + 1, product + 1, goal, number)
            if each.site.layer and 1 not in mixed:
                return each.site
        raise ValueError(
            f"no layer between {start.name!r} {start.shape} and {matrix.name!r} is all that the "
            "attention reads, such as a norm: use recipro_cam with layer= for one before it"
        )

    def reads_every_query(self, site: Site) -> bool:
        """Whether the outputs depend on all queries of an attention matrix, not on a class token's.

        Without a place left after a slice, only a few tokens are read.
        """
        return len(site.shape) - 2 in self.later.alive.get(self.number(site), set())

    @functools.cached_property
    def candidates(self) -> list[Candidate]:
        """All sites outside of loops, in the order in which they are made."""
        described = [self.describe(site) for site in self.sites if not site.inside]
        return sorted(described, key=lambda each: each.order)


def places_of(shape: tuple[int, ...], channels: int) -> set[int]:
    """The axes along which the places of activations lie."""
    return {axis for axis, size in enumerate(shape) if axis not in (0, channels) and size > 1}


def _is_explained(aval: Any, rows: int) -> bool:
    return aval.shape[:1] == (rows,) and jnp.issubdtype(aval.dtype, jnp.floating)


@functools.lru_cache(maxsize=64)
def analyse(
    jaxpr: Any, weights: int, channel_axis: int, outputs: tuple[int, ...] | None
) -> Analysis:
    """The analysis of a jaxpr, once for each."""
    return Analysis(jaxpr, weights, channel_axis, outputs)
