"""Pictures: Pillow images and arrays."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from scorecam_jax.visualize.colours import as_bytes

Picture: TypeAlias = Any
"""A Pillow image, or an array (H, W) or (H, W, 3), uint8 or floating point in [0, 1]."""


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
                "a floating-point picture must be finite, in [0, 1] and not empty; undo the "
                "network's normalisation, or pass the photograph itself"
            )
        values = as_bytes(values.clip(0, 1))
    if values.shape[2:] == (1,):
        values = values[..., 0]
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)) or not values.size:
        raise ValueError(
            f"a picture has the shape (height, width) or (height, width, 3), found {values.shape}"
        )
    return Image.fromarray(values).convert("RGB")
