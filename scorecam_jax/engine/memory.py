"""How much memory a traced program needs, without compiling it."""

import math
from typing import Any

from scorecam_jax.program.jaxprs import bodies, flatten

# What makes an array of its own. All else, such as a sum or a reshaping, is part of what reads it.
_STORED = (
    "cond", "conv", "cum", "custom", "dot", "eigh", "fft", "gather", "qr", "reduce", "scan",
    "scatter", "select_and", "sort", "svd", "top_k", "while",
)  # fmt: skip
_VIEWS = {
    "broadcast_in_dim", "convert_element_type", "copy", "optimization_barrier", "reshape", "slice",
    "squeeze", "transpose",
}  # fmt: skip


def estimate_temporaries(jaxpr: Any, platform: str) -> int:
    """Estimate the bytes of a network's temporaries, within a factor of two of compilers' figures.

    The estimate is a fifth above `most_alive`: compilers may free an array after its last use.

    Args:
        jaxpr: a traced program.
        platform: as JAX names it in `jax.lax.platform_dependent`, such as `"cuda"`.
    """
    return most_alive(jaxpr, platform) * 6 // 5


def most_alive(jaxpr: Any, platform: str) -> int:
    """The peak bytes of a program's temporaries and results.

    An array is alive from its creation to its last use. Elementwise operations that are used once
    take no memory: compilers fuse them into their users.
    """
    program = flatten(getattr(jaxpr, "jaxpr", jaxpr))
    uses: dict[int, int] = {}
    for node in program.nodes:
        for value in node.operands:
            if value is not None:
                uses[value] = uses.get(value, 0) + 1

    # The stored arrays that each value is made of, and where each of these is used last.
    made_of: dict[int, frozenset[int]] = {value: frozenset() for value in program.inputs}
    bytes_of: dict[int, int] = {}
    last_use: dict[int, int] = {}
    for place, node in enumerate(program.nodes):
        read = frozenset().union(*(made_of.get(v, ()) for v in node.operands if v is not None))
        last_use |= dict.fromkeys(read, place)
        name = node.eqn.primitive.name
        once = all(uses.get(value, 0) <= 1 for value in node.results)
        fused = name in _VIEWS or (once and not name.startswith(_STORED))
        for value, variable in zip(node.results, node.eqn.outvars, strict=True):
            made_of[value] = read if fused else frozenset([value])
            if not fused:
                bytes_of[value] = _bytes(variable)
                last_use[value] = place
    for value in program.outputs:
        kept = made_of.get(value, ()) if value is not None else ()
        last_use |= dict.fromkeys(kept, len(program.nodes))

    ends: dict[int, list[int]] = {}
    for value, place in last_use.items():
        ends.setdefault(place, []).append(value)
    alive = most = 0
    for place, node in enumerate(program.nodes):
        alive += sum(bytes_of.get(value, 0) for value in node.results)
        most = max(most, alive + _within(node.eqn, platform))
        alive -= sum(bytes_of[value] for value in ends.get(place, ()))
    return most


def _within(eqn: Any, platform: str) -> int:
    """What the body of a loop or the branch that is taken needs; the most if any may be taken."""
    inner = list(bodies(eqn))
    if choices := eqn.params.get("branches_platforms"):
        taken = next(n for n, names in enumerate(choices) if names is None or platform in names)
        inner = inner[taken : taken + 1]
    return max((most_alive(body, platform) for body in inner), default=0)


def _bytes(variable: Any) -> int:
    # Keys of random numbers have no size.
    return math.prod(variable.aval.shape) * getattr(variable.aval.dtype, "itemsize", 0)
