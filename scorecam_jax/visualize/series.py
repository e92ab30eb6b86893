"""Series, such as signals: lines coloured by their heatmap."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from scorecam_jax.visualize.colours import colorize
from scorecam_jax.visualize.text import Text

WIDTH = 800
"""Of the picture of a series, in pixels."""

_CHANNEL, _LEAST, _MOST_HEIGHT = 130, 40, 1200
_AXIS = 26
_TYPE = 13

# Drawn larger and reduced, so that lines are smooth.
_FINER = 3


def is_series(heatmap: Any) -> bool:
    """Whether a heatmap is of a series: (time,), or (1, time) of more than one step."""
    shape = np.shape(heatmap)
    return len(shape) == 1 or (len(shape) == 2 and shape[0] == 1 < shape[1])


def as_series(series: Any) -> Float[np.ndarray, "time channels"]:
    """A series as (time, channels).

    Args:
        series: (time,), (time, channels) or (1, time, channels), of real numbers.

    Raises:
        ValueError: it has another shape, is empty, or holds values that are not finite.
    """
    values = np.asarray(series)
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"a series has the shape (time,), (time, channels) or (1, time, channels); found "
            f"{np.shape(series)}"
        )
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the series holds values that are NaN or infinite")
    return values


def draw_series(
    series: Any,
    heatmap: Any = None,
    *,
    colormap: str = "ember",
    rate: int | float | None = None,
) -> Image.Image:
    """Draw a series as lines, one channel below the other, coloured by its heatmap.

    Args:
        series: as in `as_series`. Each channel is drawn from its least value to its largest, which
            are written beside it.
        heatmap: (time,) or (1, time), in [0, 1], or with `colormap="signed"` in [-1, 1]; None:
            black lines. It need not have as many steps as the series: it is drawn over all of it.
        colormap: as in `colorize`. The lines have dark edges, so that light colours are seen.
        rate: steps per second, for an axis in seconds; None: in steps.

    Returns:
        An RGB image `WIDTH` pixels wide, whose lines begin and end at `plot_area`.

    Raises:
        ValueError: the series or the heatmap is unfit.

    >>> draw_series(np.sin(np.arange(50.0)), np.linspace(0, 1, 50)).width
    800
    """
    values = as_series(series)
    left, top, right, bottom = plot_area(values.shape[1])
    page = Image.new("RGB", (WIDTH * _FINER, (bottom + _AXIS) * _FINER), "white")
    draw = ImageDraw.Draw(page)
    lane = (bottom - top) / values.shape[1]
    across = left + (np.arange(len(values)) + 0.5) / len(values) * (right - left)
    colours = None if heatmap is None else _colours(heatmap, len(values), colormap)
    for number, channel in enumerate(values.T):
        low, high = channel.min(), channel.max()
        share = (
            (channel - low) / ((high - low) or 1.0) if high > low else np.full(len(channel), 0.5)
        )
        down = top + number * lane + lane * (0.94 - 0.88 * share)
        points = [(x * _FINER, y * _FINER) for x, y in zip(across, down, strict=True)]
        if len(points) == 1:
            points *= 2
        draw.line(points, "black", (2 if colours is None else 5) * _FINER, joint="curve")
        for place, colour in enumerate(() if colours is None else colours.tolist()):
            draw.line(points[place : place + 2], tuple(colour), 3 * _FINER)
    page = page.resize((WIDTH, bottom + _AXIS), Image.Resampling.BOX)
    _label(page, values, rate)
    return page


def plot_area(channels: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the lines in the picture of a series."""
    lane = max(_LEAST, min(_CHANNEL, _MOST_HEIGHT // channels))
    return 70, 4, WIDTH - 10, 4 + lane * channels


def _colours(heatmap: Any, steps: int, colormap: str) -> np.ndarray:
    """The colour of the piece between each two steps."""
    row = np.asarray(heatmap, np.float32).reshape(1, -1)
    colorize(row, colormap=colormap)  # refuses what is unfit before it is resized
    at = (np.arange(max(1, steps - 1)) + 1) / steps * row.shape[1] - 0.5
    between = np.interp(at, np.arange(row.shape[1]), row[0])[None]
    return colorize(between, colormap=colormap)[0]


def _label(page: Image.Image, values: Float[np.ndarray, "time channels"], rate: Any) -> None:
    """Write the range of each channel, and the axis of time."""
    draw = ImageDraw.Draw(page)
    left, top, right, bottom = plot_area(values.shape[1])
    lane = (bottom - top) / values.shape[1]
    for number, channel in enumerate(values.T):
        high, low = top + number * lane, top + (number + 1) * lane
        draw.line((left, low, right, low), (190,) * 3)
        Text(f"{channel.max():.3g}", left - 6, _TYPE).draw(draw, left - 6, high + 2, anchor="ra")
        Text(f"{channel.min():.3g}", left - 6, _TYPE).draw(draw, left - 6, low - 2, anchor="rd")
    end = len(values) / (rate or 1)
    ticks = _ticks(end)
    for tick in ticks:
        x = left + tick / end * (right - left)
        draw.line((x, bottom, x, bottom + 4), "black")
        unit = (" s" if rate else "") if tick == ticks[-1] else ""
        Text(f"{tick:g}{unit}", 90, _TYPE).draw(draw, x, bottom + 6, anchor="ma")


def _ticks(end: float) -> Sequence[float]:
    """About six round numbers from 0 up to `end`."""
    step = 10 ** np.floor(np.log10(end / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if end / (step * factor) <= 6)
    return [float(tick) for tick in np.arange(0, end * 0.98, step)]
