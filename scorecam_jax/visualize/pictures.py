"""Conversion of Pillow images and arrays to pictures."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from scorecam_jax.visualize.colours import as_bytes

Picture: TypeAlias = Any
"""A Pillow image, or an array (H, W) or (H, W, 3), uint8 or floating point in [0, 1]."""

Shown: TypeAlias = int | Sequence[int] | Callable[[Any], Picture] | None
"""How to show an input that is not a picture: one channel in grey; three channels in red, green
and blue; or a function from the input to a picture. None: the input is a picture."""

# Usual for satellite images, so that a few extreme pixels do not make the rest dark.
_STRETCH = 2, 98


LEAST_SIDE = 256
"""A picture whose longer side is at most half of this is enlarged before it is shown."""


def enlargement(size: Sequence[int]) -> int:
    """The factor by which a picture of this size is enlarged along each side.

    >>> enlargement((48, 48)), enlargement((512, 341))
    (5, 1)
    """
    return max(1, LEAST_SIDE // max(size))


def enlarged(picture: Image.Image, factor: int) -> Image.Image:
    """Enlarge a picture, drawing each pixel as a square."""
    size = picture.width * factor, picture.height * factor
    return picture if factor == 1 else picture.resize(size, Image.Resampling.NEAREST)


def as_picture(image: Picture) -> Image.Image:
    """Convert a picture to an RGB Pillow image."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    values = np.asarray(image)
    if values.dtype != np.uint8:
        if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
            raise ValueError(f"an integer picture must be uint8, found {values.dtype}")
        values = values.astype(np.float32)
        if not (values.size and values.min() >= -1e-3 and values.max() <= 1 + 1e-3):
            raise ValueError(
                "a floating-point picture must be finite, in [0, 1] and not empty; pass the "
                "photograph itself, undo the network's normalisation, or choose the channels to "
                "show with picture=, such as picture=0 or picture=(3, 2, 1)"
            )
        values = as_bytes(values.clip(0, 1))
    if values.shape[2:] == (1,):
        values = values[..., 0]
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)) or not values.size:
        raise ValueError(
            f"a picture must have shape (height, width) or (height, width, 3), found "
            f"{values.shape}; with more channels, choose those to show with picture=, such as "
            "picture=(3, 2, 1)"
        )
    return Image.fromarray(values).convert("RGB")


def pictured(image: Any, picture: Shown = None) -> Image.Image:
    """Make a picture of an input, such as a multispectral image or a spectrogram in dB.

    Args:
        image: (H, W), (H, W, channels), or whatever `picture` takes.
        picture: see `Shown`. Each channel is stretched from its 2nd to its 98th percentile.

    Raises:
        ValueError: there is no such channel, or the result is not a picture.

    >>> pictured(np.arange(12.0).reshape(1, 3, 4) * 100, (3, 2, 1)).getpixel((0, 0))
    (0, 0, 0)
    """
    if picture is None:
        return as_picture(image)
    if callable(picture):
        return as_picture(picture(image))
    values = np.asarray(image)
    values = values[..., None] if values.ndim == 2 else values
    chosen = [picture] if isinstance(picture, int | np.integer) else list(picture)
    count = values.shape[-1]
    if len(chosen) not in (1, 3) or not all(-count <= channel < count for channel in chosen):
        raise ValueError(
            f"picture is {picture!r}; wanted one channel, or three for red, green and blue, from "
            f"the {count} channels of an image of shape {np.shape(image)}"
        )
    shown = values[..., chosen].astype(np.float64)
    if shown.ndim != 3 or not np.isfinite(shown).all():
        raise ValueError(
            f"the image has shape {np.shape(image)}; wanted (height, width, channels), all finite"
        )
    low, high = np.percentile(shown, _STRETCH, axis=(0, 1))
    return as_picture(((shown - low) / np.where(high > low, high - low, 1)).clip(0, 1))
