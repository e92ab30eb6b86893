"""Any Pillow image upright, in 8-bit RGB."""

from collections.abc import Callable

import numpy as np
from PIL import ExifTags, Image, ImageOps

from scorecam_jax.reading.windows import (
    Window,
    as_bytes,
    checked_window,
    image_bands,
    window_of,
)


def as_rgb(image: Image.Image, window: Window | None = None) -> Image.Image:
    """The photograph upright, in 8-bit RGB.

    Turns it as its EXIF orientation says; puts transparent images on white; scales deep greyscale
    to 8 bits. An image that is upright and in RGB already is returned itself.

    Args:
        image: of any mode.
        window: the values of deep greyscale that become black and white; what is beyond them is
            clipped. None: as `window_of` says.

    Raises:
        ValueError: the image holds NaN or infinity, or the window has no width or is given for an
            image of 8 bits.
    """
    found = window_of(image)
    if window is not None and found is None:
        raise ValueError("a window is for greyscale of more than 8 bits, and this image has 8")
    if found is not None:
        black_to_white = checked_window(window or found)
        image = upright(image)
        # Pillow's own conversion would clip at 255.
        return _banded(
            image, lambda band: Image.fromarray(as_bytes(np.asarray(band), black_to_white))
        )
    image = upright(image)
    if image.has_transparency_data:
        return _banded(image, _on_white)
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; itself if it is upright."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _banded(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The image converted a band at a time: its large intermediates never exist whole."""
    found = Image.new("RGB", image.size)
    for rows, band in image_bands(image):
        found.paste(convert(band).convert("RGB"), (0, rows.start))
    return found
