"""Records of volumes as pictures: slices under their heatmap."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from scorecam_jax._internal.text import short
from scorecam_jax.study.look import Look
from scorecam_jax.study.material import Material
from scorecam_jax.study.pipeline import Plan
from scorecam_jax.study.record import Record
from scorecam_jax.visualize import sheet
from scorecam_jax.visualize.sheet import Legend
from scorecam_jax.visualize.volumes import enlarged_by, plane_panels, slice_panels

_MOST_SLICES, _COLUMNS = 6, 3


def draw_volume(
    plan: Plan,
    record: Record,
    volume: Material,
    maps: np.ndarray,
    targets: Sequence[dict[str, Any]],
    look: Look,
    note: str,
    legend: Legend | None,
) -> Image.Image:
    """Draw each heatmap's peak in three planes, and the slices in which the heatmap is strongest.

    Methods and classes stand below one another.

    Args:
        plan: the request.
        record: of the volume.
        volume: what was read.
        maps: (methods, targets, depth, height, width), of the network's input.
        targets: the description of each target.
        look: how heatmaps are drawn.
        note: the small print.
        legend: what the colours stand for, or None.
    """
    space: dict[str, Any] = {"window": plan.window, "spacing": volume.spacing}
    if volume.affine is not None:
        space["affine"] = volume.affine
    panels: list[Any] = []
    titles: list[str] = []
    captions: list[str] = []
    labels: list[str] = []
    factor = 1
    for method, each in zip(record.results, maps, strict=True):
        colormap = "signed" if method in plan.signed else look.colormap
        how: dict[str, Any] = {"colormap": colormap, "alpha": look.alpha, **space}
        for target, heatmap in zip(targets, each, strict=True):
            whole = plan.classifier.preprocess.restore(heatmap, record.size)
            through = plane_panels(volume.content, whole, **how)
            along = slice_panels(volume.content, whole, most=_MOST_SLICES, **how)
            empty = -len(along.pictures) % _COLUMNS
            panels += [*through.pictures, *along.pictures, *[""] * empty]
            titles += [*through.titles, *along.titles, *[""] * empty]
            captions += through.captions or [""] * _COLUMNS
            captions += [""] * (len(panels) - len(captions))
            rows = (len(along.pictures) + empty) // _COLUMNS
            labels += [f"{method}: {short(target['name'])}", *["slices"] * rows]
            factor = along.factor
    text = f"{note} {enlarged_by(factor)}".strip()
    return sheet(
        panels, titles, columns=_COLUMNS, row_labels=labels, captions=captions, note=text,
        legend=legend,
    )  # fmt: skip
