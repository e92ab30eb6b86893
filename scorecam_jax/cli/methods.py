"""`scorecam methods`: how a photograph can be explained."""

import argparse

from scorecam_jax.cli.choice import flags
from scorecam_jax.cli.errors import UserError, say
from scorecam_jax.methods import GROUPS, METHODS
from scorecam_jax.methods.citations import bibtex

NAME, ARGUMENTS = "methods", "[NAME ...]"

SUMMARY = "list the methods, and what each costs"

DESCRIPTION = """\
List the methods, by what they work on: what each does, when to use it, what it
costs in passes of the network per photograph, and which options it takes. Any
of them can be given to `scorecam explain --method`, `compare --methods` and
`evaluate --methods`. Those that read attention need a transformer.
"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    command.add_argument(
        "names", nargs="*", metavar="NAME", help="only these methods (default: all)"
    )
    command.add_argument(
        "--bibtex", action="store_true", help="print what to cite for them, as BibTeX"
    )


def run(asked: argparse.Namespace) -> int:
    """Print a few lines per method, or their sources."""
    for name in asked.names:
        if name not in METHODS:
            raise UserError(f"no method is called {name!r}; there are {', '.join(METHODS)}")
    names = asked.names or list(METHODS)
    if asked.bibtex:
        say(bibtex(key for name in names for key in METHODS.entries[name].cites))
        return 0
    width = max(map(len, METHODS)) + 2
    lines = []
    for group, what in GROUPS.items():
        chosen = [name for name in names if METHODS.entries[name].group == group]
        if chosen:
            lines.append(f"\n{group}: {what}\n")
        for name in chosen:
            lines += _lines(name, width)
    say("\n".join(lines).lstrip())
    return 0


def _lines(name: str, width: int) -> list[str]:
    method, entry = METHODS[name], METHODS.entries[name]
    summary = (method.__doc__ or "").strip().split("\n")[0]
    told = [f"use: {entry.use}"] if entry.use else []
    told.append(f"cost: {entry.cost}")
    if taken := flags(method):
        told.append(f"options: {', '.join(taken)}")
    return [f"{name:<{width}}{summary}", *(f"{'':{width}}{line}" for line in told)]
