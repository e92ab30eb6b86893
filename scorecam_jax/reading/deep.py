"""Colour images of 16 bits per channel, of which Pillow alone keeps eight."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from scorecam_jax.reading.windows import (
    Window,
    as_bytes,
    checked_window,
    image_bands,
    usual_window,
)

_NATIVE = "L" if sys.byteorder == "little" else "B"
_OTHER = {"L": "B", "B": "L"}

# TIFF's tags for the bits per channel and for the channels' layout.
_BITS, _LAYOUT, _PLANES = 258, 284, 2


class Deep(NamedTuple):
    """The raw modes with which Pillow decodes both bytes of each value.

    Attributes:
        high: the raw mode that keeps the upper byte.
        low: the raw mode that keeps the lower byte. None if `high` keeps both bytes of grey and of
            alpha, as the four channels of an RGBA image.
    """

    high: str
    low: str | None


def deep_colour(image: Image.Image) -> Deep | None:
    """The raw modes to decode an opened, not yet loaded image; None if it is not deep colour.

    Raises:
        SyntaxError: the image is deep, and stored in a way that Pillow decodes wrongly.
    """
    if image.mode not in ("RGB", "RGBA") or not getattr(image, "tile", None):
        return None
    rawmode = _rawmode(image)
    if rawmode == "LA;16B":
        return Deep("RGBA", None)
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(_BITS, (8,))[0] > 8 and tags.get(_LAYOUT) == _PLANES:
        raise SyntaxError("planes of more than 8 bits")
    colours, separator, order = rawmode.partition(";16")
    if not separator or colours not in ("RGB", "RGBA", "RGBX"):
        return None
    order = _NATIVE if order == "N" else order
    return Deep(f"{colours};16{order}", f"{colours};16{_OTHER[order]}")


def read_deep(
    opened: Callable[[], AbstractContextManager[Image.Image]], how: Deep, window: Window | None
) -> tuple[Image.Image, Window]:
    """Decode an image of 16 bits per channel through a window.

    Args:
        opened: opens the image; called once for each byte of its values.
        how: the result of `deep_colour`.
        window: the values that become black and white. None: as in `usual_window`.

    Returns:
        The image in RGB or RGBA, and the window.
    """
    upper = None if how.low is None else _decoded(opened, how.high)
    with opened() as image:
        _take(image, how.low or how.high)
        shown = checked_window(window or usual_window(0, _largest(image, upper), integers=True))
        # Drawn into the image itself, to save memory.
        for rows, band in image_bands(image):
            pixels = np.array(band)
            if upper is None:
                grey = pixels[..., 0].astype(np.uint16) * 256 + pixels[..., 1]
                pixels[..., 3] = pixels[..., 2]
                pixels[..., :3] = as_bytes(grey, shown)[..., None]
            else:
                values = upper[rows, :, :3].astype(np.uint16) * 256 + pixels[..., :3]
                pixels[..., :3] = as_bytes(values, shown)
                pixels[..., 3:] = upper[rows, :, 3:]
            image.paste(Image.fromarray(pixels), (0, rows.start))
        return image, shown


def _largest(image: Image.Image, upper: UInt8[np.ndarray, "height width channels"] | None) -> int:
    """The largest value in the colour channels, with its lower byte rounded up to 255.

    That is enough for `usual_window`: each of its windows ends at 255 modulo 256.
    """
    if upper is not None:
        return 256 * int(upper[..., :3].max()) + 255
    return 256 * max(int(np.asarray(band)[..., 0].max()) for _, band in image_bands(image)) + 255


def _decoded(
    opened: Callable[[], AbstractContextManager[Image.Image]], rawmode: str
) -> UInt8[np.ndarray, "height width channels"]:
    with opened() as image:
        _take(image, rawmode)
        found = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
        for rows, band in image_bands(image):
            found[rows] = np.asarray(band)
        return found


def _take(image: Image.Image, rawmode: str) -> None:
    """Decode an opened image in another raw mode."""
    opened: Any = image
    opened.tile = [
        tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
        for tile in opened.tile
    ]
    opened.load()


def _rawmode(image: Any) -> str:
    args = image.tile[0].args
    found = args[0] if isinstance(args, tuple) and args else args
    return found if isinstance(found, str) else ""
