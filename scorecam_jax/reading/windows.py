"""Windows: the values of a deep image that become black and white."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Real, UInt8
from PIL import Image

Window = tuple[int | float, int | float]
"""The values that become black and white."""

_AT_ONCE = 2**20


def usual_window(low: int | float, high: int | float, *, integers: bool) -> tuple[float, float]:
    """The default window for values from `low` to `high`.

    Nonnegative integers: 0 to 2ⁿ - 1 with the smallest n of 8, 10, 12, 14 and 16 bits that fits,
    because 12-bit cameras and scanners write 16-bit files. Floats in [0, 1]: 0 to 1. Other values,
    such as CT's with its negative values: `low` to `high`.
    """
    if not integers and low >= 0 and high <= 1:
        return 0.0, 1.0
    if integers and low >= 0 and high < 2**16:
        return 0.0, float(next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if high < 2**bits))
    return float(low), float(high if high > low else low + 1)


def checked_window(window: Window) -> Window:
    """Check a window, and return it.

    Raises:
        ValueError: the first value is not the lower one.
    """
    low, high = window
    if not low < high:
        raise ValueError(f"window is {low:g} to {high:g}; wanted the lower value first")
    return window


def remark_on(window: Window, asked: Window | None) -> str:
    """A remark on the window that was used."""
    low, high = window
    more = "" if asked else "; change with --window LOW,HIGH"
    return f"black is {low:g}, white is {high:g}{more}"


def as_shares(values: Real[np.ndarray, "..."], window: Window) -> Real[np.ndarray, "..."]:
    """Scale a window to [0, 1], and clip values outside it."""
    low, high = window
    # Integers of more than 24 bits, and windows far from zero, need double precision.
    return ((values.astype(np.float64) - low) / (high - low)).clip(0, 1)


def as_bytes(
    values: Real[np.ndarray, "height *rest"], window: Window
) -> UInt8[np.ndarray, "height *rest"]:
    """Scale a window to 0 to 255, a few rows at a time to save memory."""
    found = np.empty(values.shape, np.uint8)
    for rows in bands(values.shape):
        found[rows] = np.rint(255 * as_shares(values[rows], window))
    return found


def bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows that cover an array, with about a million values each."""
    step = max(1, _AT_ONCE // max(1, int(np.prod(shape[1:]))))
    for top in range(0, shape[0], step):
        yield slice(top, min(top + step, shape[0]))


def image_bands(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Cut an image into bands of rows."""
    for rows in bands((image.height, image.width)):
        yield rows, image.crop((0, rows.start, image.width, rows.stop))


def window_of(image: Image.Image) -> tuple[float, float] | None:
    """The values of a deep greyscale image that `as_rgb` makes black and white.

    None for 8 bits per channel. Otherwise as in `usual_window`.

    Raises:
        ValueError: the image contains NaN or infinity.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return None
    ranges = []
    for _, band in image_bands(image):
        values = np.asarray(band)
        ranges.append((values.min(), values.max()))
    low, high = float(np.min(ranges)), float(np.max(ranges))
    if not np.isfinite([low, high]).all():
        raise ValueError("the image contains NaN or infinity: replace them first")
    return usual_window(low, high, integers=image.mode != "F")
