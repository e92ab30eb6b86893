"""Analyse a network's traced program to find the values that could be explained.

A value is a *cut* if every path from the image to the outputs passes through it. Its places are
*mixed* if an operation on the way to the outputs reduces, contracts, convolves or pools along the
grid's axes. Tokens are taken to form a grid with the sizes of the last preceding cut that has one,
after up to eight class and register tokens.
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

# Paths are counted modulo a prime, because a deep residual network has more than 2**100 of them.
_PRIME = (1 << 89) - 1

MOST_EXTRA_TOKENS = 8
"""The number of class and register tokens that may precede those of a grid."""


class Candidate(NamedTuple):
    """A value of a network, with its properties.

    Attributes:
        site: its name; None if it has none.
        order: the number of the equation that computes it; -1 if it is not known.
        cut: whether every path from the image to the outputs passes through it.
        grid: the sizes of its grid, or of the grid that its tokens form; None if it has none.
        channels: its channel axis.
        mixed: whether its places are mixed on the way to the outputs.
        alive: whether the outputs depend on its places; if it has none, on the value.
        weighted: whether a product or convolution with weights follows.
        arrangement: how it lies over the image, if the program shows this.
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
    """What happens to values on the way to the outputs.

    Attributes:
        paths: the number of paths from each value to the outputs.
        mixed: the axes of each value that are mixed.
        alive: the axes of each value on which the outputs depend.
        weighted: the values that a product or convolution with weights follows.
    """

    paths: dict[int, int]
    mixed: dict[int, set[int]]
    alive: dict[int, set[int]]
    weighted: set[int]


class Analysis:
    """The analysis of a network's exposed jaxpr.

    Args:
        jaxpr: the program; its arguments are the weights, the image, then the image's further
            inputs.
        weights: the number of weight arrays.
        channel_axis: the image's channel axis.
        outputs: the indices of the outputs that count; None for all floating-point outputs with one
            row per image.
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
        """How a value lies over the image; None if the program does not show this."""
        state = self.positions.states.get(value)
        return arrange(state, self.space, self.positions.seen) if state else None

    def _count(self) -> None:
        """Count the paths from the image to each value, and find values of weights alone."""
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
        """Follow the program backwards from `outputs`, ignoring paths through `without`."""
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
            # Adding a bias to class maps, or scaling them, does not count as weights.
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
            start: the index of the first equation.
            stop: the index after the last equation; None for the program's end.
            goal: the value to which the paths lead; None for the outputs.
            without: a value; paths through it do not count.
        """
        goals = self.outputs if goal is None else [goal]
        later = self._look_back(self.program.nodes[start:stop], goals, without)
        return later.mixed.get(value, set())

    def _find_cuts(self) -> None:
        """Find all cuts, with or without a name, and the grids of those that have one."""
        total = self.later.paths.get(self.image, 0)
        self.cuts: set[int] = set()
        self.order: dict[int, int] = {}
        self.values: list[tuple[int, tuple[int, ...]]] = []  # cuts with one row per image
        self.grids: list[tuple[int, tuple[int, ...]]] = []
        self.told: set[int] = set()  # the channel axes of cuts whose arrangement is known
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
        """Whether a grid has the image's proportions, if the image's channels are at an axis."""
        image = [size for axis, size in enumerate(self.shape) if axis not in (0, channel_axis)]
        return len(grid) == len(image) and all(
            abs(grid[i] * image[j] - grid[j] * image[i]) <= max(image[i], image[j])
            for i in range(len(grid))
            for j in range(i)
        )

    def misreads_image(self, grid: tuple[int, ...]) -> bool:
        """Whether a grid has the image's proportions only if channels are at the other axis."""
        axes = self.channel_axis, self.other_axis
        return [self._is_like(grid, axis) for axis in axes] == [False, True]

    def layout(self, shape: tuple[int, ...], cut: bool) -> tuple[tuple[int, ...] | None, int]:
        """The grid and channel axis of activations. A cut may have another axis than the image."""
        transposed = cut and self.channel_axis not in self.told
        for axis in (self.channel_axis, self.other_axis)[: 1 + transposed]:
            if grid := self._spatial(shape, axis):
                return grid, axis
        return None, self.channel_axis

    @property
    def other_axis(self) -> int:
        """The channel axis of a network that transposes its image."""
        return len(self.shape) - 1 if self.channel_axis == 1 else 1

    def _tokens(self, shape: tuple[int, ...], order: int) -> tuple[int, ...] | None:
        """The grid that tokens form."""
        if len(shape) != 3 or shape[0] != self.shape[0] or shape[1] == 1:
            return None
        before = [grid for number, grid in self.grids if number <= order]
        extra = shape[1] - math.prod(before[-1]) if before else -1
        return before[-1] if 0 <= extra <= MOST_EXTRA_TOKENS else None

    def is_layer(self, site: Site) -> bool:
        """Whether a site is a layer's output, or directly becomes one."""
        value = self.number(site)
        nodes = (node for node in self.program.nodes if value in node.operands)
        return site.layer or next(nodes).eqn.primitive.name == "layer"

    def describe(self, site: Site) -> Candidate:
        """The properties of a named value."""
        return self.describe_value(self.number(site), site.shape, site)

    def number(self, site: Site) -> Any:
        """The value that a site names."""
        return self.program.numbers[site.variable]

    def describe_value(self, value: Any, shape: tuple[int, ...], site: Any = None) -> Candidate:
        """The properties of a value, with or without a name."""
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
        """How tokens lie over the image, according to the last cut with as many tokens.

        Args:
            count: the number of tokens.
            before: the index of the last equation that may have computed the cut.
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
        """Find the tokens that a block returns: the last sum of two paths before another attention.

        Args:
            path: the tokens' name, from `stream_after`.

        Raises:
            ValueError: there is no such sum through which all paths pass.
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
            f"the output of the block of {matrices[here].name!r} {shape} is not found: wanted a "
            f"sum of two paths with {shape[-2]} tokens after it, through which all paths to the "
            "outputs pass"
        )

    def read_by(self, matrix: Site, stream: Path) -> Site:
        """Find the last layer through which an attention reads all of its tokens, such as a norm.

        Args:
            matrix: the attention matrix.
            stream: the name of the tokens; see `stream`.

        Raises:
            ValueError: no layer has the shape of the tokens and all paths from them to the
                attention.
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
            f"no layer between {start.name!r} {start.shape} and {matrix.name!r}, such as a norm, "
            "passes on all that the attention reads: use recipro_cam with layer= for an earlier one"
        )

    def reads_every_query(self, site: Site) -> bool:
        """Whether the outputs depend on all queries of an attention matrix.

        They do not if a slice keeps only a few tokens, such as a class token.
        """
        return len(site.shape) - 2 in self.later.alive.get(self.number(site), set())

    @functools.cached_property
    def candidates(self) -> list[Candidate]:
        """All sites outside of loops, in the order in which they are computed."""
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
    """Return the analysis of a jaxpr, which is cached."""
    return Analysis(jaxpr, weights, channel_axis, outputs)
