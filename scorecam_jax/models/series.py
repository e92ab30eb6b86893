"""From a series, such as a signal or sound, to a network's input, and back."""

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
    """Turns series into inputs of one network, and its heatmaps back.

    Calling it on a series (time, channels) returns (length, channels) float32,
    `(values - mean) / std`.

    Attributes:
        length: how many steps an input has.
        channels: of an input.
        mean: subtracted from the values, which are in the file's units: a number, or one a channel.
        std: divided by.
        rate: steps per second: files of other rates are resampled. None: none are.
        fit: how a series meets the input's length. `"crop"`: the middle of a longer one, and after
            a shorter one the mean; `"stretch"`: all of it, resized linearly.
        mix: take the mean of all channels, as is usual for sound.
        row: whether inputs are (1, length, channels), as of networks for images.
        channels_first: whether the axis of channels is the first.
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
            ValueError: the series has another number of channels.
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
        """The steps of a series that the network sees, and where they lie in its input."""
        if self.fit == "stretch":
            return (0, steps), (0, self.length)
        seen = min(steps, self.length)
        first = (steps - seen) // 2
        return (first, first + seen), (0, seen)

    def restore(
        self, heatmap: Float[Array | np.ndarray, "..."], shape: Sequence[int]
    ) -> Float[np.ndarray, " time"]:
        """Put a heatmap (length,) or (1, length) of the input where it belongs on the series.

        Args:
            heatmap: of the input.
            shape: (time,) of the series.

        Returns:
            The heatmap, 0 where the network did not see.
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
    """Turns sound into spectrograms for one network, and its heatmaps back.

    Calling it on a series (time, channels) returns (bins, frames, 1) float32, the power of each
    frequency in decibels, from 0 at `floor` to 1 at the loudest place. The first row is the highest
    frequency: a spectrogram is as it is drawn. Turn it around in front of a network that wants it
    otherwise. A series' channels are averaged. What is beyond the last frame is cut off, and what
    is missing is silence.

    Attributes:
        frames: how many spectra an input has.
        rate: steps per second: files of other rates are resampled.
        window: steps of a spectrum, under Hann's window. There are `window // 2` rows.
        hop: steps from one spectrum to the next.
        floor: in decibels below the loudest place.
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
        """Rows and columns of an input."""
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
        """What people look at: the spectrogram in grey."""
        return Image.fromarray(np.rint(self(series)[..., 0] * 255).astype(np.uint8)).convert("RGB")

    @property
    def axes(self) -> tuple[tuple[str, float, float], tuple[str, float, float]]:
        """Across and down: a label, and what the first and the last edge of the picture are."""
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
    """The series with as many channels as the network takes."""
    values = np.asarray(series, np.float32)
    if mix:
        values = values.mean(-1, keepdims=True)
    if values.shape[-1] != channels:
        raise ValueError(
            f"has {values.shape[-1]} channels, and the network takes {channels}; "
            "SeriesPreprocess(mix=True) takes their mean"
        )
    return values
