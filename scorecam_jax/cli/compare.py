"""`scorecam compare`: several methods, or variants of Score-CAM, side by side."""

import argparse
from functools import partial
from typing import Any

from scorecam_jax.cli import names, options
from scorecam_jax.cli.choice import add_how
from scorecam_jax.cli.errors import percent, short
from scorecam_jax.cli.page import Found, Page

NAME, ARGUMENTS = "compare", "PHOTO..."

SUMMARY = "draw several methods side by side"

DESCRIPTION = """\
Draw a sheet of each photograph with methods in columns and classes in rows, and
print how similar each heatmap is to the first (Pearson's correlation).

An option such as --channels reaches the methods that take it.
"""

DEFAULT = ("score-cam", "grad-cam", "grad-cam++")

# A wider sheet is shrunk to illegibility on a screen.
_MOST_COLUMNS = 5


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_targets(command)
    how = command.add_argument_group("how")
    methods = (*names.METHODS, *names.PRESETS)
    how.add_argument(
        "--methods",
        type=options.some_of(methods, every=names.METHODS),
        default=[],
        metavar="NAME,...",
        help=f"{', '.join(methods)}, or all; uniform and center ignore the model, and any method "
        f"must beat them (default without --variants: {', '.join(DEFAULT)})",
    )
    how.add_argument(
        "--variants",
        type=options.some_of(names.VARIANTS),
        default=[],
        metavar="NAME,...",
        help=f"published Score-CAMs: {', '.join(names.VARIANTS)}, or all",
    )
    add_how(how)
    options.add_look(command)
    options.add_output(command, "PHOTO-compared.png", "(methods, targets, height, width)")


def run(asked: argparse.Namespace) -> int:
    """Draw a sheet of each photograph: methods in columns, targets in rows."""
    from scorecam_jax.cli.photographs import explain_photos

    methods = [*asked.variants, *asked.methods] or list(DEFAULT)
    return explain_photos(
        asked,
        methods,
        ending="-compared",
        present=partial(_present, methods),
        remarks=_remarks,
        head={"methods": methods},
    )


def _present(methods: list[str], found: Found) -> Page:
    targets: list[dict[str, Any]] = []
    panels: list[Any] = []
    titles: list[str] = []
    for row, target in enumerate(found.targets):
        maps: list[dict[str, Any]] = [
            {
                "method": name,
                "empty": not heatmap.any(),
                "correlation": _correlation(heatmap, found.heatmaps[0, row]),
            }
            for name, heatmap in zip(methods, found.heatmaps[:, row], strict=True)
        ]
        targets.append({**target, "maps": maps})
        panels += [found.photo, *(drawn[row] for drawn in found.drawn)]
        titles += ["", *(one["method"] + ", nothing found" * one["empty"] for one in maps)]
    labels = [f"{short(target['name'])} {percent(target['probability'])}" for target in targets]
    columns: int | None = 1 + len(methods)
    if len(targets) == 1:
        titles[0], labels = labels[0], []
        columns = columns if len(methods) < _MOST_COLUMNS else None
    return Page(panels, titles, targets, found.heatmaps, columns, labels)


def _correlation(heatmap: Any, other: Any) -> float | None:
    """Pearson's correlation, or None if one of the heatmaps is constant."""
    import jax.numpy as jnp

    from scorecam_jax.metrics.sanity import correlation

    if not (heatmap.max() > heatmap.min() and other.max() > other.min()):
        return None
    return float(correlation(jnp.asarray(heatmap), jnp.asarray(other)))


def _remarks(targets: list[dict[str, Any]]) -> list[str]:
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
