"""From a series, such as a signal or sound, to a network's input, and from a heatmap back."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from scorecam_jax.models.preprocess import Preprocess
from scorecam_jax.reading import Takes


@dataclasses.dataclass(frozen=True)
class SeriesPreprocess:
    """Turns series into a network's inputs, and maps heatmaps back to the series.

    Calling it on a series (time, channels) returns (length, channels) float32,
    `(values - mean) / std`.

    Attributes:
        length: the number of time steps in an input.
        channels: the number of channels in an input.
        mean: the mean to subtract, in the file's units: one number, or one per channel.
        std: the divisor: one number, or one per channel.
        rate: the sampling rate in steps per second. Files of other rates are resampled. None:
            files are never resampled.
        fit: how a series is fitted to the input's length. `"crop"`: a longer series is cropped to
            its middle, a shorter one is padded with the mean at its end; `"stretch"`: the whole
            series, resized linearly.
        mix: average all channels, as is usual for sound.
        row: whether inputs are (1, length, channels), as for networks of images.
        channels_first: whether the channel axis comes first.
    """

    length: int
    channels: int = 1
    mean: int | float | tuple[int | float, ...] = 0.0
    std: int | float | tuple[int | float, ...] = 1.0
    rate: int | float | None = None
    fit: str = "crop"
    mix: bool = False
    row: bool = False
    channels_first: bool = False

    takes: ClassVar[Takes] = "series"

    def __post_init__(self) -> None:
        if self.fit not in ("crop", "stretch"):
            raise ValueError(f"fit is {self.fit!r}; choose 'crop' or 'stretch'")
        if self.length < 1:
            raise ValueError(f"length is {self.length}; it must be at least 1")
        if not np.min(self.std) > 0:
            raise ValueError(f"std is {self.std}; it must be above 0")

    def __call__(self, series: Float[np.ndarray, "time channels"]) -> Float[np.ndarray, "..."]:
        """The network's input for a series of any length.

        Raises:
            ValueError: the series has the wrong number of channels.
        """
        values = _mixed(series, self.channels, mix=self.mix)
        values = (values - np.asarray(self.mean)) / np.asarray(self.std)
        (first, last), (start, stop) = self.span(len(values))
        inputs = np.zeros((self.length, self.channels), np.float32)
        if self.fit == "stretch":
            at = (np.arange(self.length) + 0.5) / self.length * len(values) - 0.5
            for channel in range(self.channels):
                inputs[:, channel] = np.interp(at, np.arange(len(values)), values[:, channel])
        else:
            inputs[start:stop] = values[first:last]
        if self.row:
            inputs = inputs[None]
        return np.moveaxis(inputs, -1, 0) if self.channels_first else inputs

    def span(self, steps: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The range of steps that the network sees, and where they are in its input."""
        if self.fit == "stretch":
            return (0, steps), (0, self.length)
        seen = min(steps, self.length)
        first = (steps - seen) // 2
        return (first, first + seen), (0, seen)

    def restore(
        self, heatmap: Float[Array | np.ndarray, "..."], shape: Sequence[int]
    ) -> Float[np.ndarray, " time"]:
        """Map a heatmap of the input back to the series.

        Args:
            heatmap: (length,) or (1, length).
            shape: (time,), the length of the series.

        Returns:
            The heatmap; 0 where the network saw nothing.
        """
        (steps,) = shape
        values = np.asarray(heatmap, np.float32).reshape(-1)
        (first, last), (start, stop) = self.span(steps)
        at = start + (np.arange(last - first) + 0.5) / (last - first) * (stop - start) - 0.5
        restored = np.zeros(steps, np.float32)
        restored[first:last] = np.interp(at, np.arange(len(values)), values)
        return restored


@dataclasses.dataclass(frozen=True)
class SpectrogramPreprocess:
    """Turns sound into spectrograms for a network, and maps heatmaps back to the spectrograms.

    Calling it on a series (time, channels) returns (bins, frames, 1) float32: the power of each
    frequency in decibels, scaled from 0 at `floor` to 1 at the loudest point. Rows run from the
    highest frequency to the lowest, as spectrograms are drawn; if a network expects the opposite
    order, flip them in its model. Channels are averaged. Samples after the last frame are cut off,
    and short sounds are padded with silence.

    Attributes:
        frames: the number of spectra in an input.
        rate: the sampling rate in steps per second. Files of other rates are resampled.
        window: the steps in one spectrum, under a Hann window. There are `window // 2` rows.
        hop: the steps from one spectrum to the next.
        floor: the smallest power shown, in decibels below the loudest point.
    """

    frames: int
    rate: int | float
    window: int = 512
    hop: int = 256
    floor: int | float = 80.0

    takes: ClassVar[Takes] = "series"
    channels: ClassVar[int] = 1

    @property
    def size(self) -> tuple[int, int]:
        """The rows and columns of an input."""
        return self.window // 2, self.frames

    def __call__(
        self, series: Float[np.ndarray, "time channels"]
    ) -> Float[np.ndarray, "bins frames 1"]:
        """The network's input for sound of any length."""
        needed = self.window + (self.frames - 1) * self.hop
        values = np.asarray(series, np.float64).mean(-1)[:needed]
        values = np.pad(values, (0, needed - len(values)))
        pieces = np.lib.stride_tricks.sliding_window_view(values, self.window)[:: self.hop]
        spectra = np.abs(np.fft.rfft(pieces * np.hanning(self.window), axis=1))[:, 1:]
        least = max(spectra.max(), np.finfo(np.float32).tiny) * 10 ** (-self.floor / 20)
        decibels = 20 * np.log10(np.maximum(spectra, least) / least)
        return (decibels.T[::-1, :, None] / self.floor).astype(np.float32)

    def picture(self, series: Float[np.ndarray, "time channels"]) -> Image.Image:
        """The spectrogram as a grey picture, to look at."""
        return Image.fromarray(np.rint(self(series)[..., 0] * 255).astype(np.uint8)).convert("RGB")

    @property
    def axes(self) -> tuple[tuple[str, float, float], tuple[str, float, float]]:
        """The axes of the picture, across and down: a label, and the values at both edges."""
        start, step = (self.window - self.hop) / 2 / self.rate, self.hop / self.rate
        spacing = self.rate / self.window
        return (
            ("time (s)", start, start + self.frames * step),
            ("frequency (Hz)", (self.window // 2 + 0.5) * spacing, 0.5 * spacing),
        )

    def box(self, image_size: tuple[int, int]) -> tuple[float, float, float, float]:
        """As `Preprocess.box`: the network sees all of the picture."""
        return self._stretched.box(image_size)

    def boxes(self, boxes: Any, image_size: tuple[int, int]) -> Float[np.ndarray, "... 4"]:
        """As `Preprocess.boxes`."""
        return self._stretched.boxes(boxes, image_size)

    def restore(
        self, heatmap: Any, image_size: tuple[int, int], *, nearest: bool = False
    ) -> Float[np.ndarray, "*batch rows columns"]:
        """As `Preprocess.restore`."""
        return self._stretched.restore(heatmap, image_size, nearest=nearest)

    @property
    def _stretched(self) -> Preprocess:
        return Preprocess(self.size, (0.0,) * 3, (255.0,) * 3, fit="stretch")


def _mixed(
    series: Float[np.ndarray, "time channels"], channels: int, *, mix: bool
) -> Float[np.ndarray, "time taken"]:
    """The series with its channels averaged if `mix`; ValueError unless `channels` remain."""
    values = np.asarray(series, np.float32)
    if mix:
        values = values.mean(-1, keepdims=True)
    if values.shape[-1] != channels:
        raise ValueError(
            f"has {values.shape[-1]} channels, but the network takes {channels}; "
            "SeriesPreprocess(mix=True) averages all channels"
        )
    return values
