"""Records of volumes as pictures: slices under their heatmap."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from scorecam_jax.reading import Source, read_volume
from scorecam_jax.study.look import Look
from scorecam_jax.study.pipeline import Plan
from scorecam_jax.study.record import Record
from scorecam_jax.visualize import sheet, slices

_MOST_SLICES = 6


def draw_volume(
    plan: Plan, record: Record, maps: np.ndarray, targets: Sequence[dict[str, Any]], look: Look
) -> Image.Image:
    """Draw the slices in which each heatmap is strongest: methods and classes below one another.

    Args:
        plan: what was asked.
        record: of the volume.
        maps: (methods, targets, depth, height, width), of the network's input.
        targets: what there is to tell of each target.
        look: how heatmaps are drawn.
    """
    assert isinstance(record.item, Source)
    volume = read_volume(record.item).values
    panels, titles = [], []
    for method, each in zip(record.results, maps, strict=True):
        for target, heatmap in zip(targets, each, strict=True):
            whole = plan.classifier.preprocess.restore(heatmap, record.size)
            panels.append(
                slices(
                    volume, whole, most=_MOST_SLICES, window=plan.window, colormap=look.colormap,
                    alpha=look.alpha,
                )
            )  # fmt: skip
            titles.append(f"{method}: {target['name']}")
    return sheet(panels, titles, columns=1)
