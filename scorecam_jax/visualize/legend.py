"""Colour bars."""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from scorecam_jax.visualize.colours import SIGNED
from scorecam_jax.visualize.overlay import overlay
from scorecam_jax.visualize.sheet import Legend
from scorecam_jax.visualize.text import Text


def colour_bar(
    width: int,
    size: int,
    *,
    colormap: str = "ember",
    alpha: int | float = 0.7,
    fade: bool = True,
    highest: str = "",
) -> Image.Image:
    """Draw the colours of a heatmap over a medium grey, with labels at the ends.

    Args:
        width: width of the bar, in pixels.
        size: size of the type, in pixels.
        colormap: as in `overlay`.
        alpha: opacity of the colours where a heatmap is 1, as in `overlay`.
        fade: whether opacity grows with the heatmap, as in `overlay`.
        highest: the meaning of 1, written after the number.
    """
    signed = colormap == SIGNED
    values = np.broadcast_to(np.linspace(-1 if signed else 0, 1, width), (size, width))
    grey = Image.new("RGB", (width, size), (128,) * 3)
    bar = overlay(grey, values, colormap=colormap, alpha=alpha, fade=fade)
    above = f"1 {highest}".strip()
    ends = ("-1 against the class", "0", "1 for it") if signed else ("0", "", above)
    left, middle, right = (Text(text, width // (2 if signed else 1), size) for text in ends)
    height = size + size // 3 + max(left.height, right.height) + size // 3
    drawn = Image.new("RGB", (width, height), "white")
    drawn.paste(bar, (0, 0))
    draw = ImageDraw.Draw(drawn)
    draw.rectangle((0, 0, width - 1, size - 1), outline="black")
    below = size + size // 3
    left.draw(draw, 0, below, anchor="la")
    middle.draw(draw, width / 2, below, anchor="ma")
    right.draw(draw, width, below, anchor="ra")
    return drawn


def legend_of(
    kinds: Sequence[str], *, alpha: int | float = 0.7, fade: bool = True, highest: str = ""
) -> Legend | None:
    """The colour bars of a sheet, below one another; None if there are none.

    Args:
        kinds: the colour maps, which may include `"signed"`.
        alpha: as in `colour_bar`.
        fade: as in `colour_bar`.
        highest: as in `colour_bar`.
    """
    if not kinds:
        return None
    bars = [
        functools.partial(colour_bar, colormap=kind, alpha=alpha, fade=fade, highest=highest)
        for kind in kinds
    ]
    return lambda width, size: _stacked([bar(width, size) for bar in bars])


def kinds_of(signed: Sequence[bool], colormap: str, *, wanted: bool) -> list[str]:
    """The colour maps that get a colour bar: the signed one always, another one if `wanted`."""
    plain = [colormap] if wanted and not all(signed) and colormap != SIGNED else []
    return [SIGNED] * any(signed) + plain


def _stacked(bars: Sequence[Image.Image]) -> Image.Image:
    """Stack colour bars vertically."""
    gap = bars[0].height // 2
    height = sum(bar.height for bar in bars) + gap * (len(bars) - 1)
    drawn = Image.new("RGB", (max(bar.width for bar in bars), height), "white")
    top = 0
    for bar in bars:
        drawn.paste(bar, (0, top))
        top += bar.height + gap
    return drawn
