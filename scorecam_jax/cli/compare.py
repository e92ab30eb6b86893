"""`scorecam compare`: several methods, or variants of Score-CAM, side by side."""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from scorecam_jax import score_cam
from scorecam_jax.cli.common import percent, short
from scorecam_jax.cli.photographs import Found, Page, explain_photos
from scorecam_jax.evaluate.measure import METHODS
from scorecam_jax.methods.variants import BY_NAME
from scorecam_jax.visualize import sheet

DEFAULT = ("score-cam", "grad-cam", "grad-cam++")

# Broader sheets are shrunk to illegibility on a screen.
_MOST_COLUMNS = 5


def run(options: argparse.Namespace) -> int:
    """Draw a sheet of each photograph: methods in columns, targets in rows."""
    names = [*options.variants, *options.methods] or list(DEFAULT)
    return explain_photos(
        options,
        {name: _method(name, options) for name in names},
        ending="-compared",
        present=functools.partial(_present, names),
        remarks=_remarks,
        asked={"methods": names, "channels": options.channels},
    )


def _method(name: str, options: argparse.Namespace) -> Callable[..., Any]:
    if name in BY_NAME or METHODS[name] is score_cam:
        return functools.partial(
            score_cam,
            variant=BY_NAME.get(name, BY_NAME["official"]),
            channels=options.channels,
            batch_size=options.batch_size,
        )
    if name.startswith("score-cam"):
        return functools.partial(METHODS[name], batch_size=options.batch_size)
    return METHODS[name]


def _present(names: list[str], found: Found) -> Page:
    targets: list[dict[str, Any]] = []
    panels: list[Image.Image] = []
    titles: list[str] = []
    for row, target in enumerate(found.targets):
        maps: list[dict[str, Any]] = [
            {
                "method": name,
                "empty": not heatmap.any(),
                "correlation": _correlation(heatmap, found.inputs_maps[0, row]),
            }
            for name, heatmap in zip(names, found.inputs_maps[:, row], strict=True)
        ]
        targets.append({**target, "maps": maps})
        panels += [found.photo, *(drawn[row] for drawn in found.drawn)]
        titles += ["", *(one["method"] + ", nothing found" * one["empty"] for one in maps)]
    labels = [f"{short(target['name'])} {percent(target['probability'])}" for target in targets]
    columns: int | None = 1 + len(names)
    if len(targets) == 1:
        titles[0], labels = labels[0], []
        columns = columns if len(names) < _MOST_COLUMNS else None
    picture = sheet(panels, titles, columns=columns, row_labels=labels)
    return Page(picture, targets, found.maps)


def _correlation(heatmap: np.ndarray, other: np.ndarray) -> float | None:
    """Pearson's, or None if one of them is constant."""
    if np.ptp(heatmap) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(heatmap.ravel(), other.ravel())[0, 1])


def _remarks(targets: list[dict[str, Any]]) -> list[str]:
    first = targets[0]["maps"][0]["method"]
    lines = [f"correlation of the heatmaps with {first}'s:"]
    for target in targets:
        if len(targets) > 1:
            lines.append(f"  {short(target['name'])}")
        for one in target["maps"][1:]:
            found = "empty" if one["empty"] else "-"
            if one["correlation"] is not None:
                found = f"{one['correlation']:.2f}"
            lines.append(f"  {found:>5}  {one['method']}")
    return lines
