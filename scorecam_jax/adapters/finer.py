"""Several layers to explain together: one, and finer or earlier ones before it.

Where the grid becomes coarser along the network, these are the last places that all information
passes through at each finer grid. Where one grid lasts throughout, as in a transformer, they are
blocks at even distances. Each run of a loop over blocks counts as a block.
"""

import collections
import math

from scorecam_jax.adapters.default import fits
from scorecam_jax.adapters.tokens import Asked
from scorecam_jax.program.analysis import Analysis, Candidate
from scorecam_jax.program.sites import Site

# A grid with fewer cells than this for each of the next one's is that grid with a margin.
_FINER = 1.5
_PASSING = ("layer", "name", "copy", "convert_element_type")


def layers_by_rule(known: Analysis, tokens: Asked | None, site: Site, count: int) -> list[Site]:
    """A layer and those before it, in the order in which they run.

    Args:
        known: of the network.
        tokens: the requested grid, if any.
        site: the layer, the last of them.
        count: the number of layers.

    Raises:
        ValueError: there are fewer.
    """
    last = known.describe(site)
    before = [
        each
        for each in known.candidates
        if each.order < last.order
        and each.cut
        and each.alive
        and fits(each, tokens)
        and not _is_padding(known, each)
    ]
    finer, blocks = _finer(before, last), _blocks(before, last)
    on_tokens = len(last.site.shape) != len(known.shape)
    found, what = finer, "grids"
    if len(blocks) > 1 and (len(finer) == 1 or (on_tokens and not _elsewhere(blocks, before))):
        found, what = _evenly(blocks, count), "blocks of one grid"
    if len(found) < count:
        names = [each.site.name for each in (blocks if found is not finer else finer)]
        raise ValueError(
            f"layers={count}, but all that the outputs know of the image passes through places on "
            f"only {len(names)} {what}, {names}; pass a smaller number, or name the layers, "
            "layer=[...], from those that list_layers(model, inputs) shows"
        )
    return [each.site for each in found[-count:]]


def _finer(before: list[Candidate], last: Candidate) -> list[Candidate]:
    """The last place of each grid, from the finest on."""
    found = [last]
    for each in reversed(before):
        if _cells(each) >= _FINER * _cells(found[0]):
            found.insert(0, each)
    return found


def _blocks(before: list[Candidate], last: Candidate) -> list[Candidate]:
    """Layers on the last one's grid of its kind, or else of the commonest, and that one."""
    alike = [each for each in before if each.site.layer and each.grid == last.grid]
    kinds = collections.Counter(each.site.kind for each in alike)
    kind = last.site.kind
    if kind not in kinds:
        kind = max(kinds, key=lambda kind: kinds[kind], default="")
    return [*(each for each in alike if each.site.kind == kind), last]


def _elsewhere(blocks: list[Candidate], before: list[Candidate]) -> bool:
    """Whether there are blocks of that kind on other grids too."""
    first = blocks[0]
    return any(each.site.kind == first.site.kind and each.grid != first.grid for each in before)


def _evenly(blocks: list[Candidate], count: int) -> list[Candidate]:
    """A number of the blocks, evenly spaced and with the last; all if there are fewer."""
    if len(blocks) < count:
        return blocks
    return [blocks[math.ceil(place * len(blocks) / count) - 1] for place in range(1, count + 1)]


def _cells(each: Candidate) -> int:
    return math.prod(each.grid or each.site.shape[1:-1])


def _is_padding(known: Analysis, each: Candidate) -> bool:
    """Whether a layer only puts a margin around what comes before it."""
    makers = {value: node for node in known.program.nodes for value in node.results}
    node = makers.get(known.number(each.site))
    while node and node.eqn.primitive.name in _PASSING and node.operands[0] is not None:
        node = makers.get(node.operands[0])
    return node is not None and node.eqn.primitive.name == "pad"
