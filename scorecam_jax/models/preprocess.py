"""From a photograph to a network's input, and from its heatmap back to the photograph."""

import dataclasses

import numpy as np
from jaxtyping import Array, Float, Real, UInt8
from PIL import Image

from scorecam_jax.reading.rgb import as_rgb


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Turns Pillow images into inputs of one network, and its heatmaps back.

    Calling it on an image returns (height, width, 3) float32, `(values - mean) / std`.
    Image sizes are Pillow's, (width, height), of the image turned upright (`as_rgb`).

    Attributes:
        size: height and width of the input.
        mean: subtracted from 0..255 values, by channel.
        std: divided by, by channel.
        fit: how the photograph meets the input's shape. `"crop"`: the largest centred region of
            that shape; `"pad"`: the whole photograph, between margins of the mean colour;
            `"stretch"`: the whole photograph, its aspect changed.
        zoom: with `"crop"`, the share of that region's height and width that is taken.
        resample: the Pillow filter that resizes.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: str = "crop"
    zoom: float = 1.0
    resample: Image.Resampling = Image.Resampling.BICUBIC

    def __post_init__(self) -> None:
        if self.fit not in ("crop", "pad", "stretch"):
            raise ValueError(f"fit is {self.fit!r}; choose 'crop', 'pad' or 'stretch'")
        if not 0 < self.zoom <= 1:
            raise ValueError(f"zoom is {self.zoom}; it must be above 0 and at most 1")

    def __call__(self, image: Image.Image) -> Float[np.ndarray, "height width 3"]:
        """The network's input for a photograph of any mode and size."""
        pixels = self.pixels(image)
        return (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)

    def pixels(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """What the network sees, as 8-bit RGB."""
        image = as_rgb(image)
        height, width = self.size
        left, top, across, down = self._place(image.size)
        canvas = Image.new("RGB", (width, height), tuple(round(value) for value in self.mean))
        seen = image.resize((across, down), self.resample, box=self.box(image.size))
        canvas.paste(seen, (left, top))
        return np.asarray(canvas)

    def box(self, image_size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part of the photograph the network sees: left, top, right, bottom in its pixels."""
        width, height = image_size
        across, down = float(width), float(height)
        if self.fit == "crop":
            scale = self.zoom * min(width / self.size[1], height / self.size[0])
            across, down = scale * self.size[1], scale * self.size[0]
        # Rounding must not put an edge outside the photograph.
        left, top = max(0.0, (width - across) / 2), max(0.0, (height - down) / 2)
        return left, top, width - left, height - top

    def boxes(
        self, boxes: Real[Array | np.ndarray, "... 4"], image_size: tuple[int, int]
    ) -> Float[np.ndarray, "... 4"]:
        """Carry COCO boxes (left, top, width, height) from the photograph into the input.

        What lies outside the part the network sees is cut off; a box all outside gets no area.
        """
        corners = np.asarray(boxes, np.float64).reshape(*np.shape(boxes)[:-1], 2, 2).copy()
        corners[..., 1, :] += corners[..., 0, :]
        box = np.reshape(self.box(image_size), (2, 2))
        place = np.reshape(self._place(image_size), (2, 2))
        corners = np.clip(corners, box[0], box[1])
        corners = place[0] + (corners - box[0]) / (box[1] - box[0]) * place[1]
        corners[..., 1, :] -= corners[..., 0, :]
        return corners.reshape(np.shape(boxes))

    def restore(
        self,
        heatmap: Float[Array | np.ndarray, "*batch height width"],
        image_size: tuple[int, int],
        *,
        nearest: bool = False,
    ) -> Float[np.ndarray, "*batch rows columns"]:
        """Put a heatmap of the input where it belongs on the photograph, at its resolution.

        Args:
            heatmap: of the input.
            image_size: width and height of the photograph.
            nearest: take the nearest value, so that edges stay sharp. False: bilinear.

        Returns:
            The heatmap, pixel centres at halves; 0 where the network did not see.
        """
        left, top, right, bottom = self.box(image_size)
        x, y, across, down = self._place(image_size)
        columns = _interpolation(image_size[0], (left, right), self.size[1], (x, across), nearest)
        rows = _interpolation(image_size[1], (top, bottom), self.size[0], (y, down), nearest)
        return rows @ np.asarray(heatmap, np.float32) @ columns.T

    def _place(self, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where the input shows that part: left, top, width, height, in whole pixels."""
        height, width = self.size
        if self.fit != "pad":
            return 0, 0, width, height
        scale = min(width / image_size[0], height / image_size[1])
        across, down = (max(1, round(side * scale)) for side in image_size)
        return (width - across) // 2, (height - down) // 2, across, down


def _interpolation(
    pixels: int,
    seen: tuple[float, float],
    size: int,
    place: tuple[int, int],
    nearest: bool,
) -> Float[np.ndarray, "pixels size"]:
    """The matrix that samples an axis of the input at the centres of the photograph's pixels."""
    centres = np.arange(pixels) + 0.5
    first, last = seen
    start, length = place
    position = start + (centres - first) * (length / (last - first)) - 0.5
    position = np.clip(position, start, start + length - 1)
    if nearest:
        position = np.floor(position + 0.5)
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(size)))
    inside = (first < centres) & (centres < last)
    return (weights * inside[:, None]).astype(np.float32)
