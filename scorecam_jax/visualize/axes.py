"""Axes around a picture, such as those of a spectrogram."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from scorecam_jax.visualize.text import Text

Axis: TypeAlias = tuple[str, int | float, int | float]
"""(label, value at the first edge, value at the last edge)."""

_WIDTH, _HEIGHT = 480, 280
_LEFT, _TOP, _RIGHT, _BOTTOM = 78, 8, 24, 46
_TYPE, _TICK = 13, 4


def spread(picture: Image.Image) -> Image.Image:
    """Enlarge a picture to a readable size; its pixels may become oblong."""
    width, height = (
        side * max(1, round(wanted / side))
        for side, wanted in zip(picture.size, (_WIDTH, _HEIGHT), strict=True)
    )
    return picture.resize((width, height), Image.Resampling.NEAREST)


def with_axes(
    picture: Image.Image, axes: Sequence[Axis]
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Draw axes around a picture.

    Args:
        picture: an RGB picture.
        axes: the horizontal and the vertical axis; the last edge is the right or the lower one.

    Returns:
        The new picture, and (left, top, right, bottom) of the old one in it.
    """
    (along, left, right), (upright, top, bottom) = axes
    width, height = picture.size
    area = _LEFT, _TOP, _LEFT + width, _TOP + height
    page = Image.new("RGB", (area[2] + _RIGHT, area[3] + _BOTTOM), "white")
    page.paste(picture, area[:2])
    draw = ImageDraw.Draw(page)
    draw.rectangle((area[0] - 1, area[1] - 1, area[2], area[3]), outline="black")
    for tick in ticks(left, right):
        x = area[0] + (tick - left) / (right - left) * width
        draw.line((x, area[3], x, area[3] + _TICK), "black")
        Text(f"{tick:g}", 90, _TYPE).draw(draw, x, area[3] + _TICK + 2, anchor="ma")
    for tick in ticks(top, bottom):
        y = area[1] + (tick - top) / (bottom - top) * height
        draw.line((area[0] - 1 - _TICK, y, area[0] - 1, y), "black")
        Text(f"{tick:g}", 60, _TYPE).draw(draw, area[0] - _TICK - 4, y, anchor="rm")
    label = Text(along, width, _TYPE)
    label.draw(draw, area[0] + width / 2, page.height - 4, anchor="md")
    label = Text(upright, height, _TYPE)
    turned = Image.new("RGB", (label.width + 4, label.height + 8), "white")
    label.draw(ImageDraw.Draw(turned), turned.width / 2, turned.height / 2, anchor="mm")
    turned = turned.transpose(Image.Transpose.ROTATE_90)
    page.paste(turned, (2, area[1] + (height - turned.height) // 2))
    return page, area


def ticks(first: int | float, last: int | float) -> list[float]:
    """About four to six round numbers between the ends of an axis, which may be descending.

    >>> ticks(0, 3.2), ticks(8000, 0)
    ([0.0, 1.0, 2.0, 3.0], [0.0, 2000.0, 4000.0, 6000.0, 8000.0])
    """
    low, high = sorted((float(first), float(last)))
    step = 10 ** np.floor(np.log10((high - low) / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    least, most = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
    return [float(f"{tick * step:.12g}") + 0.0 for tick in np.arange(least, most + 1)]
