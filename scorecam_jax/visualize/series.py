"""Series, such as signals, drawn as lines coloured by their heatmap."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw

from scorecam_jax.visualize.axes import ticks
from scorecam_jax.visualize.colours import colorize
from scorecam_jax.visualize.text import Text

WIDTH = 800
"""The width of the picture of a series, in pixels."""

_CHANNEL, _LEAST, _MOST_HEIGHT = 130, 40, 1200
_AXIS = 26
_TYPE = 13
_NAME = 16
_UNSEEN = 185

# Drawn this many times larger, then reduced, so that lines are smooth.
_FINER = 3


def is_series(heatmap: Any) -> bool:
    """Whether a heatmap belongs to a series: (time,), or (1, time) with more than one step."""
    shape = np.shape(heatmap)
    return len(shape) == 1 or (len(shape) == 2 and shape[0] == 1 < shape[1])


def as_series(series: Any) -> Float[np.ndarray, "time channels"]:
    """Convert a series to (time, channels).

    Args:
        series: (time,), (time, channels) or (1, time, channels), of real numbers.

    Raises:
        ValueError: the series has another shape, is empty, or contains values that are not finite.
    """
    values = np.asarray(series)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"a series must have shape (time,), (time, channels) or (1, time, channels); found "
            f"{np.shape(series)}"
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the series contains values that are NaN or infinite")
    return values


def draw_series(
    series: Any,
    heatmap: Any = None,
    *,
    colormap: str = "ember",
    rate: int | float | None = None,
    names: Sequence[str] = (),
    seen: tuple[int, int] | None = None,
) -> Image.Image:
    """Draw a series as lines, one channel below the other, coloured by its heatmap.

    Args:
        series: as in `as_series`. Each channel is scaled to its own range, whose ends are written
            next to it.
        heatmap: (time,) or (1, time), in [0, 1], or with `colormap="signed"` in [-1, 1]; None:
            black lines. It is stretched over the whole series, whatever its number of steps.
        colormap: as in `colorize`. The lines have dark edges, which make light colours visible.
        rate: steps per second, for an axis in seconds; None: the axis counts steps.
        names: the channels' names, written above their lines; may be empty.
        seen: the first step that the network saw, and the one after the last. Other steps are grey.
            None: it saw the whole series.

    Returns:
        An RGB image `WIDTH` pixels wide, whose lines fill `plot_area`. If the series has many more
        steps than the image has pixels, a line shows the smallest and the largest value at each
        half pixel, coloured by the strongest heatmap value there.

    Raises:
        ValueError: the series or the heatmap cannot be drawn.

    >>> draw_series(np.sin(np.arange(50.0)), np.linspace(0, 1, 50)).width
    800
    """
    values = as_series(series)
    left, top, right, bottom = plot_area(values.shape[1])
    page = Image.new("RGB", (WIDTH * _FINER, (bottom + _AXIS) * _FINER), "white")
    draw = ImageDraw.Draw(page)
    lane = (bottom - top) / values.shape[1]
    tops = None if heatmap is None else _between(heatmap, len(values), colormap)
    for number, whole in enumerate(values.T):
        at = _extremes(whole)
        channel, low, high = whole[at], whole.min(), whole.max()
        across = left + (at + 0.5) / len(values) * (right - left)
        share = (
            (channel - low) / ((high - low) or 1.0) if high > low else np.full(len(channel), 0.5)
        )
        room = lane - _NAME if number < len(names) else lane
        down = top + (number + 1) * lane - room * (0.06 + 0.88 * share)
        colours = None if tops is None else _colours(tops, at, colormap, seen)
        points = [(x * _FINER, y * _FINER) for x, y in zip(across, down, strict=True)]
        if len(points) == 1:
            points *= 2
        draw.line(points, "black", (2 if colours is None else 5) * _FINER, joint="curve")
        for place, colour in enumerate(() if colours is None else colours.tolist()):
            draw.line(points[place : place + 2], tuple(colour), 3 * _FINER)
    page = page.resize((WIDTH, bottom + _AXIS), Image.Resampling.BOX)
    _label(page, values, rate, names)
    return page


def plot_area(channels: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the lines in the picture of a series."""
    lane = max(_LEAST, min(_CHANNEL, _MOST_HEIGHT // channels))
    return 70, 4, WIDTH - 10, 4 + lane * channels


def lines_region(preprocess: Any, steps: int, channels: int) -> dict[str, Any]:
    """The position of the part of a series that the network saw, in the picture and in the input.

    Args:
        preprocess: a `models.SeriesPreprocess`, or another object with a `span` method. Without
            one, the network saw the whole series.
        steps: the number of steps in the series.
        channels: the number of channels in the series.

    Returns:
        The arguments `seen` and `place` of `photograph`.
    """
    left, top, right, bottom = plot_area(channels)
    if not hasattr(preprocess, "span"):
        return {"seen": (left, top, right, bottom)}
    (first, last), (start, stop) = preprocess.span(steps)
    pixels = (right - left) / steps
    return {
        "seen": (left + first * pixels, top, left + last * pixels, bottom),
        "place": (start, 0, stop - start, 1),
    }


def _extremes(channel: Float[np.ndarray, " time"]) -> Int[np.ndarray, " points"]:
    """The steps to draw: all, or for a long series the extremes at each half pixel."""
    bins = 2 * WIDTH
    if len(channel) <= 4 * bins:
        return np.arange(len(channel))
    edges = np.linspace(0, len(channel), bins + 1).astype(int)
    pieces = [(start, channel[start:stop]) for start, stop in itertools.pairwise(edges)]
    ends = [sorted((piece.argmin(), piece.argmax())) for _, piece in pieces]
    return np.array(
        [start + at for (start, _), two in zip(pieces, ends, strict=True) for at in two]
    )


def _between(heatmap: Any, steps: int, colormap: str) -> Float[np.ndarray, " pieces"]:
    """The heatmap, interpolated halfway between consecutive steps."""
    row = np.asarray(heatmap, np.float32).reshape(1, -1)
    colorize(row, colormap=colormap)  # raises an error on an invalid heatmap before resizing
    at = (np.arange(max(1, steps - 1)) + 1) / steps * row.shape[1] - 0.5
    return np.interp(at, np.arange(row.shape[1]), row[0])


def _colours(
    between: Float[np.ndarray, " pieces"],
    at: Int[np.ndarray, " points"],
    colormap: str,
    seen: tuple[int, int] | None,
) -> UInt8[np.ndarray, "lines 3"]:
    """The colours of the lines between consecutive drawn steps."""
    starts = at[:-1] if len(at) > 1 else at
    if len(at) < len(between) + 1:  # among skipped steps, take the strongest value
        groups = np.array_split(between, starts[1:])
        between = np.array([group[np.abs(group).argmax()] if group.size else 0 for group in groups])
    colours = colorize(between[None], colormap=colormap)[0]
    if seen is not None:
        colours[(starts < seen[0]) | (starts >= seen[1])] = _UNSEEN
    return colours


def _label(
    page: Image.Image,
    values: Float[np.ndarray, "time channels"],
    rate: Any,
    names: Sequence[str],
) -> None:
    """Draw the name and the range of each channel, and the time axis."""
    draw = ImageDraw.Draw(page)
    left, top, right, bottom = plot_area(values.shape[1])
    lane = (bottom - top) / values.shape[1]
    for number, channel in enumerate(values.T):
        high, low = top + number * lane, top + (number + 1) * lane
        draw.line((left, low, right, low), (190,) * 3)
        Text(f"{channel.max():.3g}", left - 6, _TYPE).draw(draw, left - 6, high + 2, anchor="ra")
        Text(f"{channel.min():.3g}", left - 6, _TYPE).draw(draw, left - 6, low - 2, anchor="rd")
        if number < len(names):
            Text(names[number], right - left, _TYPE).draw(draw, left + 4, high + 1, anchor="la")
    end = len(values) / (rate or 1)
    shown = [tick for tick in ticks(0, end) if tick < 0.98 * end]
    for tick in shown:
        x = left + tick / end * (right - left)
        draw.line((x, bottom, x, bottom + 4), "black")
        unit = (" s" if rate else "") if tick == shown[-1] else ""
        Text(f"{tick:g}{unit}", 90, _TYPE).draw(draw, x, bottom + 6, anchor="ma")
