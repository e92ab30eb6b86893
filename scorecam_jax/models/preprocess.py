"""From a photograph to a network's input, and from a heatmap back to the photograph."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real, UInt8
from PIL import Image

from scorecam_jax.reading.rgb import as_rgb
from scorecam_jax.reading.windows import bands

# The statistics of ImageNet's training images, 0 to 255, by channel.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
"""The mean of ImageNet's photographs by channel, for values from 0 to 255."""

IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
"""The standard deviation of ImageNet's photographs by channel, for values from 0 to 255."""

# The largest plausible input: a raw 8-bit value, with room for rounding.
_LARGEST = 256.0


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Turns Pillow images into a network's inputs, and maps heatmaps back to the images.

    Calling it on an image returns (height, width, 3) float32, `(values - mean) / std`.
    Image sizes are Pillow's, (width, height), of the image turned upright (`as_rgb`).

    Attributes:
        size: (height, width) of the input.
        mean: the mean of each channel, subtracted from values from 0 to 255.
        std: the divisor of each channel. Statistics of values from 0 to 1 are refused where they
            give inputs beyond ±256.
        fit: how the photograph is fitted to the input's shape. `"crop"`: the largest centred
            region with the input's aspect ratio; `"pad"`: the whole photograph, with margins of
            the mean colour; `"stretch"`: the whole photograph, its aspect ratio changed.
        zoom: the fraction of that region's height and width that is kept, around its centre.
        resample: the Pillow filter for resizing.
        channels_first: whether inputs are (3, height, width), as Equinox's networks take them.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: str = "crop"
    zoom: float = 1.0
    resample: Image.Resampling = Image.Resampling.BICUBIC
    channels_first: bool = False

    def __post_init__(self) -> None:
        if self.fit not in ("crop", "pad", "stretch"):
            raise ValueError(f"fit is {self.fit!r}; choose 'crop', 'pad' or 'stretch'")
        if not 0 < self.zoom <= 1:
            raise ValueError(f"zoom is {self.zoom}; it must be above 0 and at most 1")
        if not min(self.std) > 0:
            raise ValueError(f"std is {self.std}; it must be above 0")
        bounds = np.subtract([[0.0], [255.0]], [self.mean]) / np.asarray(self.std)
        if np.abs(bounds).max() > _LARGEST:
            low, high = bounds.min(), bounds.max()
            raise ValueError(
                f"mean {self.mean} and std {self.std} give inputs from {low:.4g} to {high:.4g}: "
                "they apply to values from 0 to 255, so multiply statistics of values from 0 to 1 "
                "by 255"
            )

    def __call__(self, image: Image.Image) -> Float[np.ndarray, "a b c"]:
        """The network's input for a photograph of any mode and size."""
        pixels = self.pixels(image)
        values = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.moveaxis(values, -1, 0) if self.channels_first else values

    def pixels(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """The image that the network sees, as 8-bit RGB."""
        image = as_rgb(image)
        height, width = self.size
        left, top, across, down = self._place(image.size)
        canvas = Image.new("RGB", (width, height), tuple(round(value) for value in self.mean))
        seen = image.resize((across, down), self.resample, box=self.box(image.size))
        canvas.paste(seen, (left, top))
        return np.asarray(canvas)

    def box(self, image_size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part that the network sees: left, top, right, bottom in the photograph's pixels."""
        width, height = image_size
        if self.fit == "stretch":
            across, down = self.zoom * width, self.zoom * height
        else:
            scale = self._scale(image_size)
            across = min(width, scale * self.size[1])
            down = min(height, scale * self.size[0])
        # Rounding must not put an edge outside the photograph.
        left, top = max(0.0, (width - across) / 2), max(0.0, (height - down) / 2)
        return left, top, width - left, height - top

    def boxes(
        self, boxes: Real[Array | np.ndarray, "... 4"], image_size: tuple[int, int]
    ) -> Float[np.ndarray, "... 4"]:
        """Map COCO boxes (left, top, width, height) from the photograph to the input.

        Boxes are clipped to the part that the network sees. A box entirely outside has no area.
        """
        corners = np.asarray(boxes, np.float64).reshape(*np.shape(boxes)[:-1], 2, 2).copy()
        corners[..., 1, :] += corners[..., 0, :]
        box = np.reshape(self.box(image_size), (2, 2))
        place = np.reshape(self._place(image_size), (2, 2))
        corners = np.clip(corners, box[0], box[1])
        corners = place[0] + (corners - box[0]) / (box[1] - box[0]) * place[1]
        corners[..., 1, :] -= corners[..., 0, :]
        return corners.reshape(np.shape(boxes))

    def masks(
        self, masks: Bool[np.ndarray, "*batch rows columns"], image_size: tuple[int, int]
    ) -> Bool[np.ndarray, "*batch height width"]:
        """Map masks from the photograph to the input, by the nearest pixel.

        Masks are False where the input does not show the photograph.
        """
        left, top, right, bottom = self.box(image_size)
        x, y, across, down = self._place(image_size)

        def along(
            size: int, first: int, shown: int, low: float, high: float
        ) -> tuple[np.ndarray, np.ndarray]:
            share = (np.arange(size) + 0.5 - first) / shown
            inside = (share >= 0) & (share < 1)
            return (low + np.where(inside, share, 0) * (high - low)).astype(int), inside

        rows, in_rows = along(self.size[0], y, down, top, bottom)
        columns, in_columns = along(self.size[1], x, across, left, right)
        return masks[..., rows[:, None], columns] & in_rows[:, None] & in_columns

    def restore(
        self,
        heatmap: Float[Array | np.ndarray, "*batch height width"],
        image_size: tuple[int, int],
        *,
        nearest: bool = False,
    ) -> Float[np.ndarray, "*batch rows columns"]:
        """Map a heatmap of the input back to the photograph, at the photograph's resolution.

        Pixel centres are at half-integers.

        Args:
            heatmap: the heatmap of the input.
            image_size: (width, height) of the photograph.
            nearest: take the nearest value, so that edges stay sharp. False: bilinear.

        Returns:
            The heatmap; 0 where the network saw nothing.
        """
        left, top, right, bottom = self.box(image_size)
        x, y, across, down = self._place(image_size)
        columns = _neighbours(image_size[0], (left, right), (x, across), nearest)
        rows = _neighbours(image_size[1], (top, bottom), (y, down), nearest)
        values = np.asarray(heatmap, np.float32)
        restored = np.empty((*values.shape[:-2], image_size[1], image_size[0]), np.float32)
        # In bands of rows, because either axis may be long.
        for some in bands((image_size[1], max(*self.size, image_size[0]))):
            share, inside = rows.share[some, None], rows.inside[some, None]
            narrow = values[..., rows.first[some], :] * (inside - share)
            narrow += values[..., rows.second[some], :] * share
            part = restored[..., some, :]
            part[...] = narrow[..., columns.first] * (columns.inside - columns.share)
            part += narrow[..., columns.second] * columns.share
        return restored

    def _place(self, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where the input shows the part in `box`: left, top, width, height, in whole pixels."""
        height, width = self.size
        if self.fit != "pad":
            return 0, 0, width, height
        left, top, right, bottom = self.box(image_size)
        scale = self._scale(image_size)
        across, down = (max(1, round(side / scale)) for side in (right - left, bottom - top))
        return (width - across) // 2, (height - down) // 2, across, down

    def _scale(self, image_size: tuple[int, int]) -> float:
        """The photograph's pixels per pixel of the input, for `"crop"` and `"pad"`."""
        ratios = image_size[0] / self.size[1], image_size[1] / self.size[0]
        return self.zoom * (max(ratios) if self.fit == "pad" else min(ratios))


def imagenet(side: int, resized: int, resample: Image.Resampling) -> Preprocess:
    """The usual preprocessing for ImageNet: a centre crop, normalised by ImageNet's statistics.

    Args:
        side: the height and the width of the input.
        resized: the length to which the photograph's shorter side is resized before the crop.
        resample: the Pillow filter for resizing.
    """
    return Preprocess(
        (side, side), IMAGENET_MEAN, IMAGENET_STD, zoom=side / resized, resample=resample
    )


class _Neighbours(NamedTuple):
    """The two input pixels that each pixel along an axis of the photograph interpolates.

    Attributes:
        first: the input pixel at or before the photograph pixel's centre.
        second: the next input pixel, or the same at the end.
        share: the weight of `second`; 0 outside the part that the network saw.
        inside: the sum of both weights: 1 in the part that the network saw, 0 elsewhere.
    """

    first: Int[np.ndarray, " pixels"]
    second: Int[np.ndarray, " pixels"]
    share: Float[np.ndarray, " pixels"]
    inside: Float[np.ndarray, " pixels"]


def _neighbours(
    pixels: int, seen: tuple[float, float], place: tuple[int, int], nearest: bool
) -> _Neighbours:
    """Locate the centres of an axis's pixels between the pixels of the input."""
    centres = np.arange(pixels) + 0.5
    first, last = seen
    start, length = place
    position = start + (centres - first) * (length / (last - first)) - 0.5
    position = np.clip(position, start, start + length - 1)
    if nearest:
        position = np.floor(position + 0.5)
    below = np.floor(position).astype(int)
    inside = ((first < centres) & (centres < last)).astype(np.float32)
    share = (position - below).astype(np.float32) * inside
    return _Neighbours(below, np.minimum(below + 1, start + length - 1), share, inside)
