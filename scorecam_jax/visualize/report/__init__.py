"""Interactive reports of photographs and their heatmaps, in one HTML file."""

from scorecam_jax.visualize.report.packing import Photograph as Photograph
from scorecam_jax.visualize.report.packing import cells_for as cells_for
from scorecam_jax.visualize.report.packing import is_line as is_line
from scorecam_jax.visualize.report.packing import photograph as photograph
from scorecam_jax.visualize.report.page import report as report
from scorecam_jax.visualize.report.still import as_sheet as as_sheet
from scorecam_jax.visualize.report.words import percent as percent
