"""A heatmap laid over the photograph that it explains."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from scorecam_jax.visualize.colours import SIGNED, as_bytes, checked, colorize, hues
from scorecam_jax.visualize.pictures import Picture, Shown, as_picture, pictured


def overlay(
    image: Picture,
    heatmap: Any,
    *,
    colormap: str = "ember",
    alpha: int | float = 0.7,
    fade: bool = True,
    picture: Shown = None,
) -> Image.Image:
    """Lay a heatmap over the picture it explains.

    The picture is grey. The opacity of the colours is the square root of the heatmap. All colour
    therefore comes from the heatmap, and the photograph remains visible where the heatmap is low.

    A signed heatmap has two hues: orange is evidence for the class, and blue evidence against it.
    Opacity is the square root of the absolute value. The grey picture has half its contrast, so
    that its light and dark parts are not mistaken for evidence.

    Args:
        image: a Pillow image, or an array (H, W) or (H, W, 3), uint8 or floating point in [0, 1].
        heatmap: (H, W) in [0, 1], at the picture's size; with `colormap="signed"` in [-1, 1].
        colormap: as in `colorize`.
        alpha: opacity of the colours where the heatmap is 1, in [0, 1].
        fade: `False` keeps the picture's own colours and uses the same opacity everywhere, as
            most papers do.
        picture: how to show an image that is not a picture: the index of a channel, three indices
            for red, green and blue, or a function of the image. Channels are stretched from their
            2nd to their 98th percentile.

    Returns:
        An RGB image of the picture's size.

    Raises:
        ValueError: the heatmap has another size or cannot be drawn (see `colorize`), `alpha` is
            outside [0, 1], or the array is not a picture.

    >>> overlay(np.zeros((2, 3, 3)), np.ones((2, 3)), colormap="gray", alpha=1.0).getpixel((0, 0))
    (255, 255, 255)
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], found {alpha}")
    shown, values = pictured(image, picture), checked(heatmap, signed=colormap == SIGNED)
    height, width = values.shape
    if shown.size != (width, height):
        raise ValueError(
            f"the heatmap is {width} x {height} pixels (width x height) and the picture is "
            f"{shown.width} x {shown.height}; resize the heatmap first, for example "
            f"jax.image.resize(heatmap, ({shown.height}, {shown.width}), 'linear')"
        )
    signed = fade and colormap == SIGNED
    colours = Image.fromarray(hues(values) if signed else colorize(values, colormap=colormap))
    # Linear opacity would leave the middle of the scale too faint to tell from the picture.
    opacity = np.sqrt(np.abs(values)) if fade else np.ones_like(values)
    if fade:
        shown = grey(shown, signed=signed)
    return Image.composite(colours, shown, Image.fromarray(as_bytes(opacity * np.float32(alpha))))


def grey(picture: Image.Image, *, signed: bool = False) -> Image.Image:
    """The picture in grey, at half its contrast for a signed heatmap."""
    plain = picture.convert("L").convert("RGB")
    return Image.blend(plain, Image.new("RGB", plain.size, (128,) * 3), 0.5) if signed else plain


def mark_crop(image: Picture, box: Sequence[int | float]) -> Image.Image:
    """Frame `box`, the part of a photograph that the network saw, and lighten the rest.

    Args:
        image: as in `overlay`.
        box: (left, top, right, bottom) in pixels, as in Pillow.

    Returns:
        An RGB image, unchanged inside the box. If the box covers the picture, all is unchanged.
    """
    picture = as_picture(image)
    left, top, right, bottom = (round(edge) for edge in box)
    if left <= 0 and top <= 0 and right >= picture.width and bottom >= picture.height:
        return picture
    marked = Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.5)
    region = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    frame = max(1, min(picture.size) // 200)
    outer = (region[0] - frame, region[1] - frame, region[2] + frame - 1, region[3] + frame - 1)
    ImageDraw.Draw(marked).rectangle(outer, outline="black", width=frame)
    marked.paste(picture.crop(region), region[:2])
    return marked
