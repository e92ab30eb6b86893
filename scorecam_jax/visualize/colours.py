"""Colour maps: heatmaps as pictures. NumPy only."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

# Seventeen colours at equal CIEDE2000 distances along a curve in CIELAB that rises from lightness
# 4 to 95 while its hue turns from blue through magenta and orange to yellow.
_EMBER = (
    "0e0d19 111732 1d2359 442b75 6c2b81 942783 b7247c d32b71 e73a64 "
    "f54e57 fe634b ff7942 ff8f3c ffa63e ffbf4d ffd96d fff19b"
)


def _ember() -> Float[np.ndarray, "256 3"]:
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _EMBER.split()]) / 255
    at = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(np.linspace(0, 1, 256), at, c) for c in anchors.T], axis=-1)


def _jet() -> Float[np.ndarray, "256 3"]:
    value = np.linspace(0, 1, 256)
    red = np.interp(value, [0.35, 0.66, 0.89, 1], [0, 1, 1, 0.5])
    green = np.interp(value, [0.125, 0.375, 0.64, 0.91], [0, 1, 1, 0])
    blue = np.interp(value, [0, 0.11, 0.34, 0.65], [0.5, 1, 1, 0])
    return np.stack([red, green, blue], axis=-1)


def _gray() -> Float[np.ndarray, "256 3"]:
    return np.repeat(np.linspace(0, 1, 256)[:, None], 3, axis=1)


def _signed() -> Float[np.ndarray, "256 3"]:
    """From blue over white to orange, which every kind of colour vision tells apart."""
    colours = ("0b3c6f", "3f8fcf", "ffffff", "f08a24", "8c3b00")
    anchors = np.array([list(bytes.fromhex(colour)) for colour in colours]) / 255
    at = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(np.linspace(0, 1, 256), at, c) for c in anchors.T], axis=-1)


SIGNED = "signed"
COLORMAPS = {"ember": _ember, "jet": _jet, "gray": _gray}
_TABLES = {**COLORMAPS, SIGNED: _signed}


def colorize(
    heatmap: Any, *, colormap: str = "ember"
) -> UInt8[np.ndarray, "height width channels=3"]:
    """Draw a heatmap in colours.

    Args:
        heatmap: (H, W) in [0, 1], a NumPy or JAX array; with `"signed"` in [-1, 1].
        colormap: `"ember"` (dark blue to light yellow; perceptually uniform, so that equal steps
            of the heatmap look equally large, in greyscale print too), `"jet"` (the rainbow of
            most published figures, as Matplotlib defines it), `"gray"`, or `"signed"` (blue
            below zero, orange above it, white at zero) for heatmaps of `variants.SIGNED`.

    Returns:
        The colours (H, W, 3), uint8.

    Raises:
        ValueError: the heatmap is not (H, W), is empty, holds NaN or values out of range, or the
            colour map is unknown.

    >>> colorize(np.eye(2), colormap="gray")[..., 0]
    array([[255,   0],
           [  0, 255]], dtype=uint8)
    """
    if colormap not in _TABLES:
        raise ValueError(f"unknown colour map {colormap!r}; choose from {', '.join(_TABLES)}")
    table = np.rint(_TABLES[colormap]() * 255).astype(np.uint8)
    values = checked(heatmap, signed=colormap == SIGNED)
    return table[as_bytes((values + 1) / 2 if colormap == SIGNED else values)]


def checked(heatmap: Any, *, signed: bool = False) -> Float[np.ndarray, "height width"]:
    """The heatmap as float32 in [0, 1], or in [-1, 1] if it is signed."""
    values = np.asarray(heatmap)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"a heatmap to draw has the shape (height, width), found {values.shape}; "
            "for a batch or several targets, draw heatmap[i] one at a time"
        )
    values = values.astype(np.float32)
    if np.isnan(values).any():
        raise ValueError(f"the heatmap holds NaN in {np.isnan(values).sum()} places")
    low, high = float(values.min()), float(values.max())
    least = -1 if signed else 0
    if low < least - 1e-3 or high > 1 + 1e-3:  # interpolation may overshoot by a rounding error
        raise ValueError(
            f"heatmap values must lie in [{least}, 1], found {low:.4g} to {high:.4g}; "
            "rescale it, for example (h - h.min()) / (h.max() - h.min()), or draw signed values "
            'in [-1, 1] with colormap="signed"'
        )
    return values.clip(least, 1)


def as_bytes(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Values in [0, 1] as 0 to 255."""
    return np.rint(values * np.float32(255)).astype(np.uint8)
