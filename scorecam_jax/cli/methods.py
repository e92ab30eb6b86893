"""`scorecam methods`: how a photograph can be explained."""

import argparse

from scorecam_jax.cli.choice import flags
from scorecam_jax.cli.errors import say
from scorecam_jax.methods import METHODS

NAME, ARGUMENTS = "methods", ""

SUMMARY = "list the methods, and what each costs"

DESCRIPTION = """\
List the methods, what each does, what it costs in passes of the network per
photograph, and which options it takes. Any of them can be given to
`scorecam explain --method`, `compare --methods` and `evaluate --methods`.
"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare no options."""


def run(asked: argparse.Namespace) -> int:
    """Print a few lines per method."""
    width = max(map(len, METHODS)) + 2
    lines = []
    for name, method in METHODS.items():
        summary = (method.__doc__ or "").strip().split("\n")[0]
        lines.append(f"{name:<{width}}{summary}")
        lines.append(f"{'':{width}}cost: {METHODS.cost(name)}")
        if taken := flags(method):
            lines.append(f"{'':{width}}options: {', '.join(taken)}")
    say("\n".join(lines))
    return 0
