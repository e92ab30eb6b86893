"""The layer to explain if none is named, found in the traced program.

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

from typing import NamedTuple

from scorecam_jax._internal.notes import unscorable
from scorecam_jax.adapters.tokens import Asked
from scorecam_jax.program.analysis import Analysis, Candidate, places_of
from scorecam_jax.program.sites import Site
from scorecam_jax.program.streams import past


def default_layer(known: Analysis, tokens: Asked | None) -> Site:
    """The layer to explain; ValueError if there is none.

    Args:
        known: of the network.
        tokens: the requested grid, if any.
    """
    if not known.outputs and (lacks := unscorable(known.returned, known.shape[0])):
        if len(known.shape) == 3 and lacks.endswith("inputs[None]"):
            lacks = (
                f"inputs of shape {known.shape} were read as {known.shape[0]} signals, and {lacks}"
            )
        raise ValueError(lacks)

    def qualifies(each: Candidate) -> bool:
        return fits(each, tokens) and each.cut and each.mixed and each.weighted

    last = next(filter(qualifies, reversed(known.candidates)), None)
    stream = _stream(known, tokens)
    if stream is None or (last and last.site.layer and last.order >= stream.order):
        chosen = last
    else:
        chosen = _before_mixing(known, stream, tokens) or last
        if chosen is last and last and _is_mixed_before(known, last, stream):
            beside = [
                each.site.name
                for each in known.candidates
                if each.order > last.order and fits(each, tokens) and not each.cut
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
        raise ValueError(_complaint(known, tokens))
    return chosen.site


def fits(each: Candidate, tokens: Asked | None, shape: tuple[int, ...] = ()) -> bool:
    """Whether a value has a grid, or holds the requested one."""
    if tokens is not None:
        return tokens.accepts(shape or each.site.shape)
    return each.grid is not None


class _Stream(NamedTuple):
    """A value, named or not, and when it is made."""

    value: int
    shape: tuple[int, ...]
    order: int
    places: set[int]


def _stream(known: Analysis, tokens: Asked | None) -> _Stream | None:
    """The last value, named or not, that would do."""
    for value, shape in reversed(known.values):
        each = known.describe_value(value, shape)
        if fits(each, tokens, shape) and each.mixed and each.weighted:
            return _Stream(value, shape, each.order, places_of(shape, each.channels))
    return None


def _before_mixing(known: Analysis, stream: _Stream, tokens: Asked | None) -> Candidate | None:
    """The last layer of the stream's shape that all mixing of the stream goes through."""
    for each in reversed(known.candidates):
        if each.order <= stream.order:
            return None
        if each.site.shape != stream.shape or not (fits(each, tokens) and each.mixed):
            continue
        without = known.number(each.site)
        if not stream.places & known.mixed_axes(stream.value, stream.order + 1, without=without):
            return each
    return None


def _is_mixed_before(known: Analysis, each: Candidate, stream: _Stream) -> bool:
    mixed = known.mixed_axes(
        known.number(each.site), each.order + 1, stream.order + 1, goal=stream.value
    )
    return bool(places_of(each.site.shape, each.channels) & mixed)


def _complaint(known: Analysis, tokens: Asked | None) -> str:
    wanted = f"tokens for {tokens}" if tokens else f"a spatial grid, like the image {known.shape}"
    rows = [
        f"{each.site.name!r} {each.site.shape}: {_lacks(known, each, tokens)}"
        for each in known.candidates
        if each.site.layer
    ]
    listing = "; ".join(rows[-12:]) or "none"
    sizes = _SIZES.get(len(known.space), "the sizes of the grid")
    return (
        f"no layer returns activations with {wanted}, that all paths to the outputs pass "
        "through, before places are mixed and weights used for the last time; name one with "
        f"layer=, give tokens that are not found by themselves grid={sizes}, or "
        "name a value with jax.ad_checkpoint.checkpoint_name. "
        f"Layers: {listing}"
    )


_SIZES = {1: "(length,)", 2: "(height, width)", 3: "(t, h, w)"}


def _lacks(known: Analysis, each: Candidate, tokens: Asked | None) -> str:
    reasons = {
        "no grid": fits(each, tokens),
        "not all paths pass through it": each.cut,
        "the outputs depend on none of its places": each.alive,
        "places are not mixed after it": each.mixed or not each.alive,
        "no weights after it": each.weighted,
    }
    missing = [reason for reason, holds in reasons.items() if not holds]
    if missing == ["not all paths pass through it"] and (passing := past(known, each)):
        missing = [f"not all paths pass through it ({passing} leads past it)"]
    return ", ".join(missing) or "it would do"
