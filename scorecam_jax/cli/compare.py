"""`scorecam compare`: several methods, or variants of Score-CAM, side by side."""

import argparse
from typing import Any

from scorecam_jax.cli import options
from scorecam_jax.cli.choice import add_how

NAME, ARGUMENTS = "compare", "PHOTO|DIR..."

SUMMARY = "draw several methods side by side"

DESCRIPTION = """\
Draw a sheet of each photograph with methods in columns and classes in rows, and
print how similar each heatmap is to the first (Pearson's correlation).

An option such as --channels reaches the methods that take it. --layers all sets
a network's layers side by side, by one method or several.
"""

DEFAULT = ("score-cam", "grad-cam", "grad-cam++")


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_targets(command)
    how = command.add_argument_group("how")
    methods = (*options.METHODS, *options.PRESETS)
    how.add_argument(
        "--methods",
        type=options.some_of(methods, every=options.ANY_NETWORKS),
        default=[],
        metavar="NAME,...",
        help=f"{', '.join(methods)}, or all; uniform and center ignore the model, and any method "
        f"must beat them (default without --variants: {', '.join(DEFAULT)}; with several "
        f"layers {DEFAULT[0]})",
    )
    how.add_argument(
        "--variants",
        type=options.some_of(options.VARIANTS),
        default=[],
        metavar="NAME,...",
        help=f"published Score-CAMs: {', '.join(options.VARIANTS)}, or all",
    )
    add_how(how, apart=True)
    options.add_look(command)
    options.add_output(command, "PHOTO-compared.png", "(methods, targets, height, width)")


def run(asked: argparse.Namespace) -> int:
    """Draw a sheet of each photograph: methods in columns, targets in rows."""
    from scorecam_jax.cli.common import draw_photos
    from scorecam_jax.study.drawing import by_method

    apart = not isinstance(asked.layers, int | None)
    methods = [*asked.variants, *asked.methods] or list(DEFAULT[: 1 if apart else None])
    return draw_photos(
        asked,
        methods,
        ending="-compared",
        layout=by_method,
        remarks=_remarks,
        head={"methods": methods},
    )


def _remarks(targets: list[dict[str, Any]]) -> list[str]:
    from scorecam_jax._internal.text import short

    first, *others = (one["method"] for one in targets[0]["maps"])
    if not others:
        return []
    lines = [f"correlation of each heatmap with that of {first}:"]
    for target in targets:
        if len(targets) > 1:
            lines.append(f"  {short(target['name'])}")
        for one in target["maps"][1:]:
            found = "empty" if one["empty"] else "-"
            if one["correlation"] is not None:
                found = f"{one['correlation']:.2f}"
            lines.append(f"  {found:>5}  {one['method']}")
    return lines
