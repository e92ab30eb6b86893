"""Colour maps, which turn heatmaps into pictures. Uses only NumPy."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

# Seventeen colours at equal CIEDE2000 distances along a curve in CIELAB that rises from lightness
# 4 to 95 while its hue turns from blue through magenta and orange to yellow.
_EMBER = (
    "0e0d19 111732 1d2359 442b75 6c2b81 942783 b7247c d32b71 e73a64 "
    "f54e57 fe634b ff7942 ff8f3c ffa63e ffbf4d ffd96d fff19b"
)

# Colours of the tables published with the two papers cited in `colorize`.
_VIRIDIS = (
    "440154 481769 472a7a 433d84 3d4e8a 355e8d 2e6d8e 297b8e 23898e 1f978b 21a585 2eb37c "
    "46c06f 65cb5e 89d548 b0dd2f d8e219 fde725"
)
_CIVIDIS = (
    "00224e 00285a 002d68 003271 163770 243c6e 2e416d 37476c 3f4c6c 47516c 4e566c 555b6d "
    "5c616e 62666f 696b71 6f7073 767676 7c7b78 838179 8a8778 928c78 999277 a09875 a89e73 "
    "afa471 b7aa6e bfb06b c7b667 cfbd62 d7c45d dfca57 e7d14f f0d846 f9df3b fee838"
)

AGAINST, FOR = (0, 105, 255), (255, 120, 0)
"""The hues of the two signs: blue and orange, distinct in all common types of colour blindness."""


def _between(colours: str) -> Float[np.ndarray, "256 3"]:
    """The table that interpolates linearly between the listed colours."""
    anchors = np.array([list(bytes.fromhex(colour)) for colour in colours.split()]) / 255
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


SIGNED = "signed"
COLORMAPS: dict[str, Callable[[], Float[np.ndarray, "256 3"]]] = {
    "ember": functools.partial(_between, _EMBER),
    "viridis": functools.partial(_between, _VIRIDIS),
    "cividis": functools.partial(_between, _CIVIDIS),
    "jet": _jet,
    "gray": _gray,
}
"""The colours of heatmaps in [0, 1], by name: each returns 256 colours, from 0 to 1."""

_TABLES: dict[str, Callable[[], Float[np.ndarray, "256 3"]]] = {
    **COLORMAPS,
    SIGNED: functools.partial(_between, f"{bytes(AGAINST).hex()} ffffff {bytes(FOR).hex()}"),
}


def colorize(
    heatmap: Any, *, colormap: str = "ember"
) -> UInt8[np.ndarray, "height width channels=3"]:
    """Draw a heatmap in colours.

    Args:
        heatmap: (H, W) in [0, 1], a NumPy or JAX array; with `"signed"` in [-1, 1].
        colormap: `"ember"` (dark blue to light yellow; perceptually uniform, so that equal steps
            of the heatmap look equally large, also in greyscale print and to the colour-blind),
            `"viridis"` (Smith and van der Walt 2015, as in Matplotlib), `"cividis"` (Nuñez,
            Anderton and Renslow 2018: looks nearly the same with red-green blindness), `"jet"`
            (the rainbow of most published figures, as in Matplotlib), `"gray"`, or `"signed"`
            (blue below zero, orange above, white at zero) for heatmaps of `variants.SIGNED`.

    Returns:
        The colours (H, W, 3), uint8.

    Raises:
        ValueError: the heatmap is not (H, W), is empty, contains NaN or values out of range, or
            the colour map is unknown.

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
    """Check a heatmap, and return it as float32 in [0, 1], or in [-1, 1] if it is signed."""
    values = np.asarray(heatmap)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"a heatmap must have shape (height, width), found {values.shape}; "
            "for a batch or several targets, draw heatmap[i] one at a time"
        )
    values = values.astype(np.float32)
    if np.isnan(values).any():
        raise ValueError(f"the heatmap contains NaN in {np.isnan(values).sum()} places")
    low, high = float(values.min()), float(values.max())
    least = -1 if signed else 0
    if low < least - 1e-3 or high > 1 + 1e-3:  # interpolation may overshoot by a rounding error
        raise ValueError(
            f"heatmap values must lie in [{least}, 1], found {low:.4g} to {high:.4g}; "
            "rescale it, for example (h - h.min()) / (h.max() - h.min()), or draw signed values "
            'in [-1, 1] with colormap="signed"'
        )
    return values.clip(least, 1)


def hues(values: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """The hue of each value's sign, for maps whose strength is shown by opacity."""
    against, speaking = np.array(AGAINST, np.uint8), np.array(FOR, np.uint8)
    return np.where(values[..., None] < 0, against, speaking)


def as_bytes(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Convert values in [0, 1] to bytes."""
    return np.rint(values * np.float32(255)).astype(np.uint8)
