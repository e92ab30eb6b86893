"""Conversion of Pillow images to upright 8-bit RGB."""

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
    """Convert an image to upright 8-bit RGB.

    Rotates it by its EXIF orientation, puts transparent images on white, and scales deep greyscale
    to 8 bits. An upright RGB image is returned unchanged.

    Args:
        image: an image of any mode.
        window: the values of deep greyscale that become black and white; values beyond are
            clipped. None: as in `window_of`.

    Raises:
        ValueError: the image contains NaN or infinity, the window has no width, or a window is
            given for an 8-bit image.
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
    """Rotate an image by its EXIF orientation; an upright image is returned unchanged."""
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _banded(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert an image one band at a time, so that large intermediates never exist whole."""
    found = Image.new("RGB", image.size)
    for rows, band in image_bands(image):
        found.paste(convert(band).convert("RGB"), (0, rows.start))
    return found
