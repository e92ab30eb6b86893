"""Colour of 16 bits per channel, of which Pillow keeps eight."""

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

# TIFF's tags of bits by channel and of how channels are stored.
_BITS, _LAYOUT, _PLANES = 258, 284, 2


class Deep(NamedTuple):
    """How to have Pillow decode both bytes of each value.

    Attributes:
        high: the raw mode that keeps the upper byte.
        low: the raw mode that keeps the lower byte; None where `high` keeps both bytes of grey and
            of alpha, as the four channels of an RGBA image.
    """

    high: str
    low: str | None


def deep_colour(image: Image.Image) -> Deep | None:
    """How to decode an image that is opened but not loaded; None if it is not deep colour.

    Raises:
        SyntaxError: it is deep, and stored in a way that Pillow decodes wrongly.
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
        how: as `deep_colour` says.
        window: the values that become black and white. None: as `usual_window` says.

    Returns:
        The image in RGB or RGBA, and the window.
    """
    high = _decoded(opened, how.high)
    if how.low is None:
        grey = high[..., 0].astype(np.uint16) * 256 + high[..., 1]
        shown = checked_window(window or usual_window(0, float(grey.max()), integers=True))
        high[..., :3], high[..., 3] = as_bytes(grey, shown)[..., None], high[..., 2].copy()
        return Image.fromarray(high), shown
    # The usual windows end at one less than a multiple of 256: the upper bytes tell them apart.
    top = 256 * float(high[..., :3].max()) + 255
    shown = checked_window(window or usual_window(0, top, integers=True))
    with opened() as image:
        _take(image, how.low)
        for rows, band in image_bands(image):
            values = high[rows, :, :3].astype(np.uint16) * 256 + np.asarray(band)[..., :3]
            high[rows, :, :3] = as_bytes(values, shown)
    return Image.fromarray(high), shown


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
    """Have an image that is opened decoded in another raw mode."""
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
