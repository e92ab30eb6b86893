"""Figures for papers, with Matplotlib (the extra `figures`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scorecam_jax.visualize.colours import checked
from scorecam_jax.visualize.pictures import as_picture
from scorecam_jax.visualize.transparent import transparent


def figure(
    image: Any,
    heatmaps: Mapping[str, Any],
    *,
    title: str | None = None,
    colormap: str = "ember",
    alpha: int | float = 0.85,
    width: int | float = 3.3,
    photograph: bool = True,
) -> Any:
    """Draw heatmaps of one image side by side, with titles and a colour bar.

    Lettering and lines are vectors: `figure(...).savefig("cat.pdf")`, or `.svg`.

    Args:
        image: a picture, as in `overlay`.
        heatmaps: by title, such as the method or the class: (H, W), in [0, 1] or, signed, in
            [-1, 1]. They need not be of the picture's size, and are drawn over all of it.
        title: of the whole; None: none.
        colormap: as in `colorize`. Signed maps are blue below zero and orange above.
        alpha: opacity of the colours where a heatmap is 1 or -1.
        width: of the figure, in inches; 3.3 is a column.
        photograph: whether to show the picture by itself first.

    Returns:
        A `matplotlib.figure.Figure`, which belongs to no window.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: there is no heatmap, or one is not (H, W) or not in range.
    """
    try:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import ListedColormap, Normalize
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "the package matplotlib is not installed: pip install 'scorecam_jax[figures]'"
        ) from error
    if not heatmaps:
        raise ValueError("a figure needs at least one heatmap, found none")
    picture = as_picture(image)
    values = {name: np.asarray(heatmap) for name, heatmap in heatmaps.items()}
    for heatmap in values.values():
        checked(np.abs(heatmap))
    low = -1.0 if any(heatmap.min() < 0 for heatmap in values.values()) else 0.0
    scale = np.linspace(low, 1, 511)[None]
    colours = np.asarray(transparent(scale, colormap=colormap, alpha=alpha))[0] / 255

    panels = len(values) + photograph
    height = width / panels * picture.height / picture.width
    drawn = Figure(figsize=(width + 0.5, height + 0.35), layout="constrained")
    axes = drawn.subplots(1, panels, squeeze=False)[0]
    grey = picture.convert("L").convert("RGB")
    extent = (0, picture.width, picture.height, 0)
    for axis in axes:
        axis.set_axis_off()
    if photograph:
        axes[0].imshow(picture, extent=extent)
        axes[0].set_title("photograph", fontsize=8)
    mappable = ScalarMappable(Normalize(low, 1), ListedColormap(colours))
    for axis, (name, heatmap) in zip(axes[int(photograph) :], values.items(), strict=True):
        axis.imshow(grey, extent=extent)
        axis.imshow(
            heatmap,
            cmap=mappable.cmap,
            norm=mappable.norm,
            extent=extent,
            interpolation="bilinear",
            # Else opacity and colour would be mixed with those of other values.
            interpolation_stage="data",
        )
        axis.set_title(name, fontsize=8)
    bar = drawn.colorbar(mappable, ax=list(axes), shrink=0.9, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    if title is not None:
        drawn.suptitle(title, fontsize=9)
    return drawn
