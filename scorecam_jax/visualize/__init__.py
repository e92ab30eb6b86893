"""Pictures of heatmaps: overlays, sheets, figures, interactive reports, series and volumes."""

from scorecam_jax.visualize.colours import COLORMAPS, colorize
from scorecam_jax.visualize.figure import figure
from scorecam_jax.visualize.grids import layer_sums, pixelate
from scorecam_jax.visualize.overlay import mark_crop, overlay
from scorecam_jax.visualize.report import photograph, report
from scorecam_jax.visualize.series import draw_series
from scorecam_jax.visualize.sheet import sheet
from scorecam_jax.visualize.show import show
from scorecam_jax.visualize.transparent import transparent
from scorecam_jax.visualize.volumes import (
    animate,
    planes,
    radiological,
    read_nifti,
    slices,
    write_nifti,
)

__all__ = [
    "COLORMAPS",
    "animate",
    "colorize",
    "draw_series",
    "figure",
    "layer_sums",
    "mark_crop",
    "overlay",
    "photograph",
    "pixelate",
    "planes",
    "radiological",
    "read_nifti",
    "report",
    "sheet",
    "show",
    "slices",
    "transparent",
    "write_nifti",
]
