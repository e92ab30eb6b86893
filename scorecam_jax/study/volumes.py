"""Records of volumes as pictures: slices under their heatmap."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from scorecam_jax.reading import Source, read_volume
from scorecam_jax.study.look import Look
from scorecam_jax.study.pipeline import Plan
from scorecam_jax.study.record import Record
from scorecam_jax.visualize import planes, sheet, slices

_MOST_SLICES = 6


def draw_volume(
    plan: Plan,
    record: Record,
    maps: np.ndarray,
    targets: Sequence[dict[str, Any]],
    look: Look,
    note: str,
) -> Image.Image:
    """Draw each heatmap's peak in three planes, and the slices in which the heatmap is strongest.

    Methods and classes stand below one another.

    Args:
        plan: what was asked.
        record: of the volume.
        maps: (methods, targets, depth, height, width), of the network's input.
        targets: what there is to tell of each target.
        look: how heatmaps are drawn.
        note: the small print.
    """
    assert isinstance(record.item, Source)
    volume = read_volume(record.item)
    space: dict[str, Any] = {"window": plan.window, "spacing": volume.spacing}
    if volume.affine is not None:
        space["affine"] = volume.affine
    panels, titles = [], []
    for method, each in zip(record.results, maps, strict=True):
        for target, heatmap in zip(targets, each, strict=True):
            whole = plan.classifier.preprocess.restore(heatmap, record.size)
            colormap = "signed" if method in plan.signed else look.colormap
            how: dict[str, Any] = {"colormap": colormap, "alpha": look.alpha, **space}
            panels += [
                planes(volume.values, whole, **how),
                slices(volume.values, whole, most=_MOST_SLICES, **how),
            ]
            titles += [f"{method}: {target['name']}", "the slices that have most of it"]
    return sheet(panels, titles, columns=1, note=note)
