"""Heatmaps as transparent pictures, to lay over other pictures."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from scorecam_jax.visualize.colours import SIGNED, checked, colorize, hues


def transparent(heatmap: Any, *, colormap: str = "ember", alpha: int | float = 1.0) -> Image.Image:
    """Draw the heatmap alone, with opacity growing with its absolute value.

    Args:
        heatmap: (H, W), in [0, 1] or, signed, in [-1, 1].
        colormap: as in `colorize`. With `"signed"`, or if any value is below zero, negative values
            are blue and others orange, and only opacity shows their strength.
        alpha: opacity where the heatmap is 1 or -1, in [0, 1].

    Returns:
        An RGBA image of the heatmap's size. Opacity grows as the square root of the value.

    Raises:
        ValueError: the heatmap is not (H, W) or not in range, or `alpha` is not in [0, 1].

    >>> transparent(np.array([[0.0, 1.0]])).getpixel((0, 0))[3]
    0
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], found {alpha}")
    values = np.asarray(heatmap)
    colours = colorize(np.abs(values), colormap="gray" if colormap == SIGNED else colormap)
    if colormap == SIGNED or values.min() < 0:
        colours = hues(checked(values, signed=True))
    return Image.fromarray(_with_opacity(colours, np.abs(values).clip(0, 1), alpha))


def _with_opacity(
    colours: UInt8[np.ndarray, "height width 3"],
    size: Float[np.ndarray, "height width"],
    alpha: int | float,
) -> UInt8[np.ndarray, "height width 4"]:
    opacity = np.rint(np.sqrt(size) * (255 * alpha)).astype(np.uint8)
    return np.concatenate([colours, opacity[..., None]], axis=-1)
