"""Figures for papers, drawn by Matplotlib (the extra `figures`)."""

import functools
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scorecam_jax.visualize.axes import Axis
from scorecam_jax.visualize.colours import SIGNED, checked, colorize
from scorecam_jax.visualize.overlay import grey
from scorecam_jax.visualize.pictures import Shown, pictured
from scorecam_jax.visualize.series import as_series, is_series
from scorecam_jax.visualize.transparent import transparent

_COLOURS = 511


def figure(
    image: Any,
    heatmaps: Mapping[str, Any],
    *,
    title: str | None = None,
    colormap: str = "ember",
    alpha: int | float = 0.85,
    width: int | float = 3.3,
    photograph: bool = True,
    picture: Shown = None,
    axes: Sequence[Axis] | None = None,
    colorbar: bool = True,
) -> Any:
    """Draw heatmaps of one image side by side, or of one series below one another.

    Each heatmap has a title, and the figure has a colour bar. Text and lines are vector graphics:
    use `figure(...).savefig("cat.pdf")` or `.svg`. In a notebook, a figure on the last line of a
    cell is displayed.

    Args:
        image: a picture, as in `overlay`; or a series, (time,), (time, channels) or
            (1, time, channels), drawn as lines, one channel below the other.
        heatmaps: by title, such as the method or the class: (H, W), in [0, 1] or, signed, in
            [-1, 1]. Each is stretched over the whole picture, whatever its size. For a series,
            (time,) or (1, time): the heatmap colours the lines.
        title: title of the whole figure; None: no title.
        colormap: as in `colorize`. Signed maps are blue below zero and orange above.
        alpha: opacity of a picture's colours where a heatmap is 1 or -1. Lines are opaque.
        width: width of the figure, in inches; 3.3 is one column.
        photograph: whether to show the picture alone first. This has no effect on series.
        picture: the channels to show of an image that is not a picture, as in `overlay`.
        axes: the horizontal and the vertical axis of a picture, such as a spectrogram's
            `[("time (s)", 0, 3), ("frequency (Hz)", 0, 8000)]`: a label, and the values at the
            first and the last edge. Larger values are drawn at the top. For a series, the time
            axis only. None: a picture has no axes, and a series counts steps.
        colorbar: whether to draw a colour bar.

    Returns:
        A `matplotlib.figure.Figure`, without a window.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: there are no heatmaps, one is not (H, W) or out of range, or `axes` do not fit.
    """
    if not heatmaps:
        raise ValueError("a figure needs at least one heatmap, found none")
    values = {name: np.asarray(heatmap) for name, heatmap in heatmaps.items()}
    series = all(is_series(heatmap) for heatmap in values.values()) and picture is None
    if series:
        values = {name: heatmap.reshape(1, -1) for name, heatmap in values.items()}
    for heatmap in values.values():
        checked(np.abs(heatmap))
    if axes is not None and len(axes) != (1 if series else 2):
        raise ValueError(
            f"found {len(axes)} axes; wanted {'one, of time' if series else 'one across, one down'}"
        )
    low = -1.0 if any(heatmap.min() < 0 for heatmap in values.values()) else 0.0
    if series:
        drawn = _of_series(as_series(image), values, low, colormap, width, axes, colorbar)
    else:
        shown = pictured(image, picture)
        drawn = _of_picture(shown, values, low, colormap, alpha, width, photograph, axes, colorbar)
    if title is not None:
        drawn.suptitle(title, fontsize=9)
    return drawn


def _of_picture(
    picture: Any,
    heatmaps: Mapping[str, np.ndarray],
    low: float,
    colormap: str,
    alpha: int | float,
    width: int | float,
    photograph: bool,
    axes: Sequence[Axis] | None,
    colorbar: bool,
) -> Any:
    """Draw panels side by side."""
    scale = np.linspace(low, 1, _COLOURS)[None]
    colours = np.asarray(transparent(scale, colormap=colormap, alpha=alpha))[0] / 255
    panels = len(heatmaps) + photograph
    height = width / panels * picture.height / picture.width
    drawn = _empty(width + 0.5, height + (0.75 if axes else 0.35))
    places = drawn.subplots(1, panels, squeeze=False, sharey=True)[0]
    faded = grey(picture, signed=low < 0)
    (_, left, right), (_, top, bottom) = axes or (
        ("", 0, picture.width),
        ("", 0, picture.height),
    )
    extent = (left, right, bottom, top)

    def look_of(axis: Any) -> None:
        axis.set_aspect(abs((right - left) / (bottom - top)) * picture.height / picture.width)
        if axes is None:
            axis.set_axis_off()
            return
        axis.set_ylim(min(top, bottom), max(top, bottom))
        axis.set_xlabel(axes[0][0], fontsize=7)
        axis.tick_params(labelsize=6)

    if photograph:
        places[0].imshow(picture, extent=extent)
        places[0].set_title("photograph" if axes is None else "input", fontsize=8)
        look_of(places[0])
    mappable = _mappable(low, colours)
    for axis, (name, heatmap) in zip(places[int(photograph) :], heatmaps.items(), strict=True):
        axis.imshow(faded, extent=extent)
        axis.imshow(
            heatmap,
            cmap=mappable.cmap,
            norm=mappable.norm,
            extent=extent,
            interpolation="bilinear",
            # Interpolating colours would mix opacity and colour of different values.
            interpolation_stage="data",
        )
        axis.set_title(name, fontsize=8)
        look_of(axis)
    if axes is not None:
        places[0].set_ylabel(axes[1][0], fontsize=7)
    if colorbar:
        _add_bar(drawn, mappable, places)
    return drawn


def _of_series(
    series: np.ndarray,
    heatmaps: Mapping[str, np.ndarray],
    low: float,
    colormap: str,
    width: int | float,
    axes: Sequence[Axis] | None,
    colorbar: bool,
) -> Any:
    """Draw lines below one another: for each heatmap, one per channel."""
    from matplotlib.collections import LineCollection

    ((label, first, last),) = axes or (("step", 0, len(series)),)
    scale = np.linspace(low, 1, _COLOURS)[None]
    mappable = _mappable(low, colorize(scale, colormap=SIGNED if low < 0 else colormap)[0] / 255)
    steps, channels = series.shape
    at = first + (np.arange(steps) + 0.5) / steps * (last - first)
    drawn = _empty(width + 0.5, 0.5 + len(heatmaps) * (0.25 + 0.5 * channels))
    places = drawn.subplots(len(heatmaps) * channels, 1, squeeze=False, sharex=True)[:, 0]
    for number, (name, heatmap) in enumerate(heatmaps.items()):
        centres = (np.arange(max(1, steps - 1)) + 1) / steps * heatmap.size - 0.5
        values = np.interp(centres, np.arange(heatmap.size), heatmap[0])
        for channel, axis in enumerate(places[number * channels :][:channels]):
            line = np.stack([at, series[:, channel]], -1)
            # A dark edge makes light colours visible on white.
            axis.plot(*line.T, color="black", linewidth=2.6, solid_capstyle="round")
            pieces = np.stack([line[:-1], line[1:]], 1)
            coloured = LineCollection(
                list(pieces), cmap=mappable.cmap, norm=mappable.norm, linewidths=1.6
            )
            coloured.set_array(values[: len(pieces)])
            axis.add_collection(coloured)
            axis.tick_params(labelsize=6)
            axis.spines[["top", "right"]].set_visible(False)
            if not channel:
                axis.set_title(name, fontsize=8)
    places[-1].set_xlim(first, last)
    places[-1].set_xlabel(label, fontsize=7)
    if colorbar:
        _add_bar(drawn, mappable, places)
    return drawn


def _mappable(low: float, colours: np.ndarray) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    return ScalarMappable(Normalize(low, 1), ListedColormap(colours))


def _add_bar(drawn: Any, mappable: Any, places: Any) -> None:
    bar = drawn.colorbar(mappable, ax=list(places), shrink=0.9, pad=0.02)
    bar.ax.tick_params(labelsize=7)


def _empty(width: float, height: float) -> Any:
    """A figure without panels."""
    return _shown_in_notebooks()(figsize=(width, height), layout="constrained")


@functools.cache
def _shown_in_notebooks() -> Any:
    """A Matplotlib figure that notebooks display; by default only `pyplot`'s figures are."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "the package matplotlib is not installed: pip install 'scorecam_jax[figures]'"
        ) from error

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, format="png", dpi=200)
            return content.getvalue()

    return Shown
