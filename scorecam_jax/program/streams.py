"""Parallel paths of a network: streams that are pooled separately, and paths around a layer."""

from scorecam_jax.program.analysis import Analysis, Candidate, places_of
from scorecam_jax.program.jaxprs import Node
from scorecam_jax.program.places import is_elementwise

_PASSING = ("layer", "name", "copy", "convert_element_type", "broadcast_in_dim", "reshape")


def streams(known: Analysis, chosen: Candidate) -> list[Candidate]:
    """Find the last layers of streams that branch off after a layer and are pooled separately.

    Args:
        known: the network's analysis.
        chosen: the layer.

    Returns:
        One layer per stream. Empty unless the places of `chosen` are mixed on the way to one of
        them.
    """
    makers = {value: node for node in known.program.nodes for value in node.results}
    named = {known.number(each.site): each for each in known.candidates if each.site.layer}
    found: dict[str, Candidate] = {}
    for node in known.program.nodes:
        if not _pools(known, node):
            continue
        for value in node.operands:
            last = value is not None and known.arrangement(value) and _last(value, makers, named)
            if last and last.weighted and last.grid and last.order > chosen.order:
                found[last.site.name] = last
    parted = [each for each in found.values() if not each.cut]
    places = places_of(chosen.site.shape, chosen.channels)
    more = any(
        places
        & known.mixed_axes(
            known.number(chosen.site),
            chosen.order + 1,
            each.order + 1,
            goal=known.number(each.site),
        )
        for each in parted
    )
    return parted if more else []


def past(known: Analysis, layer: Candidate) -> str:
    """Name an operation on a path from the image to the outputs around a layer; "" if none."""
    value = known.number(layer.site)
    before, after, makes = {known.image}, set(known.outputs), {value}
    for node in reversed(known.program.nodes):
        operands = [operand for operand in node.operands if operand is not None]
        if makes.intersection(node.results):
            makes.update(operands)
        if after.intersection(node.results) and value not in node.results:
            after.update(operands)
    for node in known.program.nodes:
        if value in node.results or not before.intersection(node.operands):
            continue
        before.update(node.results)
        beside = after.intersection(node.results) and not makes.intersection(node.results)
        if beside and node.eqn.primitive.name not in _PASSING:
            shape = getattr(node.eqn.invars[0].aval, "shape", ())
            return f"{node.eqn.primitive.name} of {shape}"
    return ""


def _pools(known: Analysis, node: Node) -> bool:
    """Whether an operation that the outputs depend on leaves no axis of places."""
    states = known.positions.states
    return any(value in known.later.paths for value in node.results) and not any(
        axis.places for value in node.results for axis in states.get(value, ())
    )


def _last(value: int, makers: dict[int, Node], named: dict[int, Candidate]) -> Candidate | None:
    """The last layer from which a value is computed by elementwise operations alone."""
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
            ahead += [operand for operand in node.operands if operand is not None]
    return best
