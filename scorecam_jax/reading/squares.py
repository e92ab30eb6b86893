"""Resizing images so that their pixels are square."""

import math

from PIL import Image

from scorecam_jax.reading.pillow import check_pixels

# A larger ratio of a pixel's sides is an error in the file.
_MOST = 50

_EQUAL = 0.01


def squared(image: Image.Image, height: float, width: float) -> tuple[Image.Image, list[str]]:
    """Resize an image whose pixels have this height and width so that they become square.

    The image is enlarged along the longer side of its pixels, so that no detail is lost.

    Returns:
        The image, and a remark if it was resized or its pixels' sides are implausible.

    Raises:
        ReadingError: the image would have too many pixels.
    """
    sides = f"{height:g} x {width:g}"
    if not (math.isfinite(height) and math.isfinite(width) and height > 0 and width > 0):
        return image, [f"pixels of {sides} (height x width) are treated as square"]
    ratio = height / width
    if abs(math.log(ratio)) < _EQUAL:
        return image, []
    if not 1 / _MOST <= ratio <= _MOST:
        return image, [f"pixels of {sides} (height x width) are treated as square"]
    size = round(image.width * max(1, 1 / ratio)), round(image.height * max(1, ratio))
    check_pixels(*size)
    before, after = (f"{across} x {down}" for across, down in (image.size, size))
    resized = image.resize(size, Image.Resampling.BICUBIC)
    return resized, [
        f"its pixels are {sides} (height x width): resized from {before} to {after} to make them "
        "square"
    ]
