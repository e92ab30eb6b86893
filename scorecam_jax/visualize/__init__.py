"""Pictures of heatmaps: colour maps, overlays and sheets of panels. Pillow and NumPy only."""

from scorecam_jax.visualize.colours import COLORMAPS, colorize
from scorecam_jax.visualize.overlay import mark_crop, overlay
from scorecam_jax.visualize.sheet import sheet

__all__ = ["COLORMAPS", "colorize", "mark_crop", "overlay", "sheet"]
