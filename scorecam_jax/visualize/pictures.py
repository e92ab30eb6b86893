"""Pictures: Pillow images and arrays."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from scorecam_jax.visualize.colours import as_bytes

Picture: TypeAlias = Any
"""A Pillow image, or an array (H, W) or (H, W, 3), uint8 or floating point in [0, 1]."""

Shown: TypeAlias = int | Sequence[int] | Callable[[Any], Picture] | None
"""What to show of an input that is no picture. A channel, in grey; three channels, in red, green
and blue; or a function that makes a picture of the input. None: it is a picture."""

# As is usual for satellite images: a few extreme pixels shall not make the rest dark.
_STRETCH = 2, 98


LEAST_SIDE = 256
"""A picture whose longer side is half of this or less is enlarged before it is shown."""


def enlargement(size: Sequence[int]) -> int:
    """How many pixels along each side show one pixel of a picture of this size.

    >>> enlargement((48, 48)), enlargement((512, 341))
    (5, 1)
    """
    return max(1, LEAST_SIDE // max(size))


def enlarged(picture: Image.Image, factor: int) -> Image.Image:
    """A picture with each pixel drawn as a square, so that one sees what there is."""
    size = picture.width * factor, picture.height * factor
    return picture if factor == 1 else picture.resize(size, Image.Resampling.NEAREST)


def as_picture(image: Picture) -> Image.Image:
    """Any picture as an RGB Pillow image."""
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
                "photograph itself, undo the network's normalisation, or name the channels to "
                "show with picture=, such as picture=0 or picture=(3, 2, 1)"
            )
        values = as_bytes(values.clip(0, 1))
    if values.shape[2:] == (1,):
        values = values[..., 0]
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)) or not values.size:
        raise ValueError(
            f"a picture has the shape (height, width) or (height, width, 3), found {values.shape}; "
            "of more channels, name those to show with picture=, such as picture=(3, 2, 1)"
        )
    return Image.fromarray(values).convert("RGB")


def pictured(image: Any, picture: Shown = None) -> Image.Image:
    """The picture that stands for an input, such as a multispectral image or a spectrogram in dB.

    Args:
        image: (H, W), (H, W, channels), or whatever `picture` takes.
        picture: see `Shown`. Each channel named is stretched from its 2nd to its 98th percentile.

    Raises:
        ValueError: there is no such channel, or what is to be shown is no picture.

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
            f"picture is {picture!r}; wanted one channel, or three for red, green and blue, of "
            f"the {count} of an image of shape {np.shape(image)}"
        )
    shown = values[..., chosen].astype(np.float64)
    if shown.ndim != 3 or not np.isfinite(shown).all():
        raise ValueError(
            f"the image has the shape {np.shape(image)}; wanted (height, width, channels), finite"
        )
    low, high = np.percentile(shown, _STRETCH, axis=(0, 1))
    return as_picture(((shown - low) / np.where(high > low, high - low, 1)).clip(0, 1))
