"""The values of a network that can be shown: its layers, and functions that follow them."""

import collections
import heapq
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from jax.extend.core import Literal

from scorecam_jax.program.jaxprs import CHECKPOINTS, bodies, entered
from scorecam_jax.program.marks import Chosen, Mark, Path, Run, equations, mark_of
from scorecam_jax.program.places import is_elementwise

# Operations that pass a value on, perhaps in another type.
_TRANSPARENT = ("layer", "name", "convert_element_type", "copy")
# The most functions that may follow a layer's name.
_MOST = 2


class Site(NamedTuple):
    """A value of a traced network that has a name.

    Attributes:
        path: its name, such as `("features", "norm5:relu")`.
        kind: the name of the layer's class, or of the function.
        shape: the value's shape.
        variable: the value in the jaxpr; None if a loop or conditional keeps it inside.
        inside: the name of that loop or conditional, or "".
        runs: for a layer that runs several times, which run of its loops, and of itself, this is.
        layer: whether a layer returned the value, as opposed to a function.
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    variable: Any
    inside: str
    runs: tuple[Run, ...]
    layer: bool

    @property
    def name(self) -> str:
        """The path in one string."""
        return "/".join(self.path)


def parse_runs(path: Path) -> Chosen:
    """Split the runs in brackets off a path: `("blocks[-1]",)` becomes `("blocks",)` and run -1."""
    runs: list[int] = []
    names = []
    for name in path:
        stem, _, function = name.partition(":")
        bare = re.sub(r"(\[-?\d+\])+$", "", stem)
        runs += map(int, re.findall(r"-?\d+", stem[len(bare) :]))
        names.append(bare + (f":{function}" if function else ""))
    return Chosen(tuple(names), tuple(runs))


def find_sites(jaxpr: Any) -> list[Site]:
    """List the layers of an exposed jaxpr and the functions that follow them."""
    marks = [mark_of(eqn) for eqn, inside in equations(jaxpr) if not inside and not _is_name(eqn)]
    counts = collections.Counter(mark.path for mark in marks if mark)
    return [*_in_loops(jaxpr), *_in_level(jaxpr, counts, collections.Counter())]


def _is_name(eqn: Any) -> bool:
    # Outside of loops, `expose` puts a mark after each name.
    return eqn.primitive.name == "name"


def _in_loops(jaxpr: Any) -> Iterator[Site]:
    for eqn, inside in equations(jaxpr):
        mark = mark_of(eqn)
        if mark and inside:
            aval: Any = eqn.outvars[0].aval
            yield Site(mark.path, mark.kind, aval.shape, None, inside, mark.runs, True)


def _in_level(
    jaxpr: Any, counts: dict[Path, int], seen: collections.Counter[Path]
) -> Iterator[Site]:
    """Yield the sites of a jaxpr and of the checkpointed jaxprs in it.

    Args:
        jaxpr: one level of the program.
        counts: how often each layer runs.
        seen: how often each layer has run so far; updated in place.
    """
    users = _users(jaxpr)
    # Values that functions may follow, each with the number of its equation and its site.
    named: dict[Any, tuple[int, Site]] = {}
    for number, eqn in enumerate(jaxpr.eqns):
        if eqn.primitive.name in CHECKPOINTS:
            for body in bodies(eqn):
                yield from _in_level(getattr(body, "jaxpr", body), counts, seen)
            continue
        site = None
        mark = mark_of(eqn)
        if mark and not _is_name(eqn):
            site = _layer_site(mark, eqn.outvars[0], counts, seen)
        elif eqn.primitive.name in _TRANSPARENT and eqn.invars[0] in named:
            named[eqn.outvars[0]] = number, named[eqn.invars[0]][1]
        elif eqn.primitive.name == "add" and _is_sum(eqn):
            terms = [named[atom] for atom in eqn.invars if atom in named]
            if terms:
                latest = max(terms, key=lambda term: term[0])[1]
                site = _after(latest, "add", eqn.outvars[0])
        end = number
        while site:
            yield site
            named[site.variable] = end, site
            function = _function_of(jaxpr.eqns, users, site.variable)
            if function is None:
                break
            name, end, variable = function
            site = _after(site, name, variable)


def _users(jaxpr: Any) -> dict[Any, list[int]]:
    """The numbers of the equations that use each value. The jaxpr's return counts as one more."""
    users: dict[Any, list[int]] = collections.defaultdict(list)
    uses = [*((number, eqn.invars) for number, eqn in enumerate(jaxpr.eqns))]
    for number, atoms in [*uses, (len(jaxpr.eqns), jaxpr.outvars)]:
        for atom in atoms:
            if not isinstance(atom, Literal):
                users[atom].append(number)
    return users


def _layer_site(
    mark: Mark, variable: Any, counts: dict[Path, int], seen: collections.Counter[Path]
) -> Site:
    path, runs = mark.path, mark.runs
    if counts[path] > 1:
        run = Run(seen[path], counts[path])
        seen[path] += 1
        path = (*path[:-1], f"{path[-1]}[{run.which - run.total}]")
        runs = (*runs, run)
    return Site(path, mark.kind, variable.aval.shape, variable, "", runs, True)


def _is_sum(eqn: Any) -> bool:
    left, right = eqn.invars
    return left.aval.shape == right.aval.shape != ()


def _after(site: Site, function: str, variable: Any) -> Site | None:
    if site.path[-1].count(":") >= _MOST:
        return None
    path = (*site.path[:-1], f"{site.path[-1]}:{function}")
    return site._replace(
        path=path, kind=function, shape=variable.aval.shape, variable=variable, layer=False
    )


def _function_of(
    eqns: list[Any], users: dict[Any, list[int]], start: Any
) -> tuple[str, int, Any] | None:
    """The nonlinearity through which all uses of a value pass: its name, equation and result."""
    left = {start: len(users[start])}  # how many uses of each value are still unseen
    steps: list[Any] = []
    ahead = sorted(set(users[start]))
    while ahead:
        number = heapq.heappop(ahead)
        if number == len(eqns):
            return None
        eqn = eqns[number]
        operands = [
            atom for atom in eqn.invars if not isinstance(atom, Literal) and atom.aval.shape
        ]
        if any(atom not in left for atom in operands) or len(eqn.outvars) != 1:
            return None
        transparent = eqn.primitive.name in _TRANSPARENT
        if not transparent and not is_elementwise(eqn):
            return None
        for atom in operands:
            left[atom] -= 1
        (result,) = eqn.outvars
        left[result] = len(users[result])
        for user in set(users[result]) - set(ahead):
            heapq.heappush(ahead, user)
        steps += [] if transparent else [eqn]
        name = _name_of(steps)
        if name and not any(count for value, count in left.items() if value is not result):
            return name, number, result
    return None


def _name_of(steps: list[Any]) -> str | None:
    """The name of the function that some operations form; None if it is not known."""
    names = [_called(eqn) or eqn.primitive.name for eqn in steps]
    kinds = set(names)
    if len(steps) == 1 and _called(steps[0]):
        return names[0]
    if names == ["max"] and any(
        isinstance(atom, Literal) and not atom.val for atom in steps[0].invars
    ):
        return "relu"
    if {"erf", "erfc"} & kinds or {"tanh", "integer_pow"} <= kinds:
        return "gelu"
    plain = {("tanh",): "tanh", ("logistic",): "sigmoid", ("logistic", "mul"): "silu"}
    return plain.get(tuple(sorted(names)))


def _called(eqn: Any) -> str | None:
    """The name of the function that an equation calls; None if it is no call, or is private."""
    body = entered(eqn)
    if body is None or eqn.primitive.name in CHECKPOINTS:
        return None
    name = eqn.params.get("name") or body.debug_info.func_name.split(" ")[0]
    return name if re.match("[A-Za-z]", name) else None
