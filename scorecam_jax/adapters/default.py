"""The layer to explain where none is named, found in the traced program.

A layer's output is a *cut* if every path from the image to the outputs passes through it. The
default is the last cut

- that has a grid, of the image's proportions, or tokens that form one;
- after which places are still mixed: something on the way to the outputs reduces, contracts,
  convolves or pools along the grid's axes. A slice does not mix, so the patch tokens after the last
  attention of a network that reads its class token do not count;
- after which layers with weights still come: neither the outputs nor class maps that are only
  averaged.

Tokens are a grid with the sizes of the last cut before them that has one, after up to eight class
and register tokens. Where the stream of a transformer is not itself a layer's output, the default
is the layer that the last mixing goes through: the norm before the last attention.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from scorecam_jax._internal.notes import unscorable
from scorecam_jax.adapters.places import fates, is_elementwise
from scorecam_jax.adapters.positions import Arrangement, arrange, follow
from scorecam_jax.adapters.sites import Site, find_sites
from scorecam_jax.adapters.tokens import Asked
from scorecam_jax.engine.jaxprs import Node, flatten

# Paths are counted modulo a prime, since a deep residual network has 2 to the hundreds of them.
_PRIME = (1 << 89) - 1
_MOST_EXTRA_TOKENS = 8


class Found(NamedTuple):
    """A named value of a network, and what is true of it.

    Attributes:
        site: the value.
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
        self._returned = jaxpr.outvars
        chosen = range(len(jaxpr.outvars)) if outputs is None else outputs
        self.outputs = [
            self.program.outputs[i]
            for i in chosen
            if outputs is not None or _is_explained(jaxpr.outvars[i].aval, self.shape[0])
        ]
        given = {self.program.numbers[variable] for variable in jaxpr.invars[weights:]}
        self.constant = set(self.program.inputs) - given
        self._count()
        image_sizes = [size for axis, size in enumerate(self.shape) if axis in self._space]
        self.space = tuple(image_sizes)
        self.positions = follow(
            self.program, self.image, self.shape, self.channel_axis, self.constant
        )
        self.later = self._look_back(self.program.nodes, self.outputs)
        self._find_cuts()

    @property
    def _space(self) -> list[int]:
        return [axis for axis in range(1, len(self.shape)) if axis != self.channel_axis]

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
        value = self._number(site)
        nodes = (node for node in self.program.nodes if value in node.operands)
        return site.layer or next(nodes).eqn.primitive.name == "layer"

    def describe(self, site: Site) -> Found:
        """What is true of a value."""
        return self._describe(site, self._number(site), site.shape)

    def _number(self, site: Site) -> Any:
        return self.program.numbers[site.variable]

    def _describe(self, site: Any, value: Any, shape: tuple[int, ...]) -> Found:
        order, cut = self.order.get(value, -1), value in self.cuts
        arrangement = self.arrangement(value)
        if arrangement:
            grid: tuple[int, ...] | None = arrangement.grid
            channels = arrangement.channels
        elif len(shape) == len(self.shape):
            grid, channels = self.layout(shape, cut)
        else:
            grid, channels = self._tokens(shape, order), len(shape) - 1
        places = _places(shape, channels)
        return Found(
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

    @functools.cached_property
    def found(self) -> list[Found]:
        """All sites outside of loops, in the order in which they are made."""
        found = [self.describe(site) for site in self.sites if not site.inside]
        return sorted(found, key=lambda each: each.order)

    def default(self, tokens: Asked | None) -> Site:
        """The layer to explain; ValueError if there is none.

        Args:
            tokens: the grid that was asked for, if any.
        """
        if lacks := self._unscorable():
            raise ValueError(lacks)

        def fits(found: Found) -> bool:
            if tokens is not None:
                return tokens.accepts(found.site.shape)
            return found.grid is not None

        def qualifies(found: Found) -> bool:
            return fits(found) and found.cut and found.mixed and found.weighted

        last = next(filter(qualifies, reversed(self.found)), None)
        stream = self._stream(tokens)
        if stream is None or (last and last.site.layer and last.order >= stream.order):
            chosen = last
        else:
            chosen = self._before_mixing(stream, fits) or last
            if chosen is last and last and self._is_mixed_before(last, stream):
                beside = [
                    each.site.name
                    for each in self.found
                    if each.order > last.order and fits(each) and not each.cut
                ]
                if beside:
                    raise ValueError(
                        "the last layer that all paths from the image to the outputs pass through "
                        f"is {last.site.name!r} {last.site.shape}, but paths part and meet again "
                        f"after it, around {beside[-1]!r} for example, and where they meet is no "
                        "layer; name a layer with layer=, or name the value where they meet with "
                        "jax.ad_checkpoint.checkpoint_name"
                    )
        if chosen is None:
            raise ValueError(self._complaint(tokens))
        return chosen.site

    def _unscorable(self) -> str | None:
        """Why none of the outputs can be scored, if so."""
        if self.outputs:
            return None
        avals = [atom.aval for atom in self._returned]
        return unscorable([(aval.shape, aval.dtype) for aval in avals], self.shape[0])

    def streams(self, chosen: Found) -> list[Found]:
        """The last layers of streams that part after a layer and are pooled apart.

        Empty if no later layer sees more of the image than the chosen one.
        """
        makers = {value: node for node in self.program.nodes for value in node.results}
        named = {self._number(each.site): each for each in self.found if each.site.layer}
        found: dict[str, Found] = {}
        for node in self.program.nodes:
            pooled = [v for v in node.operands if v is not None and self.arrangement(v)]
            ends = any(value in self.later.paths for value in node.results) and not any(
                axis.places for value in node.results for axis in self.positions.states[value]
            )
            for value in pooled if ends else ():
                last = self._last_layer(value, makers, named)
                if last and last.weighted and last.grid and last.order > chosen.order:
                    found[last.site.name] = last
        parted = [each for each in found.values() if not each.cut]
        return parted if any(self._sees_more(chosen, each) for each in parted) else []

    def _last_layer(
        self, value: int, makers: dict[int, Node], named: dict[int, Found]
    ) -> Found | None:
        """The last layer among what a value is computed of, place by place."""
        ahead, seen, best = [value], set(), None
        while ahead:
            value = ahead.pop()
            if value in seen:
                continue
            seen.add(value)
            each = named.get(value)
            if each and (best is None or each.order > best.order):
                best = each
            node = makers.get(value)
            if node and is_elementwise(node.eqn):
                ahead += [operand for operand in node.operands if operand in self.paths]
        return best

    def _sees_more(self, chosen: Found, later: Found) -> bool:
        nodes = self.program.nodes[chosen.order + 1 : later.order + 1]
        between = self._look_back(nodes, [self._number(later.site)])
        mixed = between.mixed.get(self._number(chosen.site), set())
        return bool(_places(chosen.site.shape, chosen.channels) & mixed)

    def _beside(self, found: Found) -> str:
        """What leads from the image to the outputs past a layer."""
        value = self._number(found.site)
        before, after = {self.image}, set(self.outputs)
        makes = {value}  # what the layer is computed of
        for node in reversed(self.program.nodes):
            if makes.intersection(node.results):
                makes.update(v for v in node.operands if v is not None)
            if after.intersection(node.results) and value not in node.results:
                after.update(v for v in node.operands if v is not None)
        for node in self.program.nodes:
            if before.intersection(node.operands) and value not in node.results:
                before.update(node.results)
                here = after.intersection(node.results) and not makes.intersection(node.results)
                if here and node.eqn.primitive.name not in _PASSING:
                    shape = node.eqn.invars[0].aval.shape  # type: ignore[union-attr]
                    return f" ({node.eqn.primitive.name} of {shape} leads past it)"
        return ""

    def _stream(self, tokens: Asked | None) -> "_Stream | None":
        """The last value, named or not, that would do."""
        for value, shape in reversed(self.values):
            found = self._describe(None, value, shape)
            fits = found.grid is not None if tokens is None else tokens.accepts(shape)
            if fits and found.mixed and found.weighted:
                return _Stream(value, shape, found.order, _places(shape, found.channels))
        return None

    def _before_mixing(self, stream: "_Stream", fits: Callable[[Found], bool]) -> Found | None:
        """The last layer of the stream's shape that all mixing of the stream goes through."""
        nodes = self.program.nodes[stream.order + 1 :]
        for found in reversed(self.found):
            if found.order <= stream.order:
                return None
            if found.site.shape != stream.shape or not (fits(found) and found.mixed):
                continue
            around = self._look_back(nodes, self.outputs, without=self._number(found.site))
            if not stream.places & around.mixed.get(stream.value, set()):
                return found
        return None

    def _is_mixed_before(self, found: Found, stream: "_Stream") -> bool:
        nodes = self.program.nodes[found.order + 1 : stream.order + 1]
        between = self._look_back(nodes, [stream.value])
        mixed = between.mixed.get(self._number(found.site), set())
        return bool(_places(found.site.shape, found.channels) & mixed)

    def _complaint(self, tokens: Asked | None) -> str:
        wanted = (
            f"tokens for {tokens}" if tokens else f"a spatial grid, like the image {self.shape}"
        )
        rows = [
            f"{each.site.name!r} {each.site.shape}: {self._lacks(each, tokens)}"
            for each in self.found
            if each.site.layer
        ]
        listing = "; ".join(rows[-12:]) or "none"
        sizes = _SIZES.get(len(self.space), "the sizes of the grid")
        return (
            f"no layer returns activations with {wanted}, that all paths to the outputs pass "
            "through, before places are mixed and weights used for the last time; name one with "
            f"layer=, give tokens that are not found by themselves grid={sizes}, or "
            f"name a value with jax.ad_checkpoint.checkpoint_name. Layers: {listing}"
        )

    def _lacks(self, found: Found, tokens: Asked | None) -> str:
        fits = found.grid is not None if tokens is None else tokens.accepts(found.site.shape)
        reasons = {
            "no grid": fits,
            "not all paths pass through it": found.cut,
            "the outputs depend on none of its places": found.alive,
            "places are not mixed after it": found.mixed or not found.alive,
            "no weights after it": found.weighted,
        }
        missing = [reason for reason, holds in reasons.items() if not holds]
        if missing == ["not all paths pass through it"]:
            missing[0] += self._beside(found)
        return ", ".join(missing) or "it would do"


_PASSING = ("layer", "name", "copy", "convert_element_type", "broadcast_in_dim", "reshape", "jit")
_SIZES = {1: "(length,)", 2: "(height, width)", 3: "(t, h, w)"}


class _Stream(NamedTuple):
    """A value, named or not, and when it is made."""

    value: int
    shape: tuple[int, ...]
    order: int
    places: set[int]


def _places(shape: tuple[int, ...], channels: int) -> set[int]:
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
