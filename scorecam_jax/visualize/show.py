"""The viewer of a report, inside a notebook."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scorecam_jax.visualize.grids import layer_sums
from scorecam_jax.visualize.pictures import Shown, pictured
from scorecam_jax.visualize.report import Photograph, as_sheet, photograph, report
from scorecam_jax.visualize.series import as_series, draw_series, lines_region
from scorecam_jax.visualize.volumes import as_slices


class Viewer:
    """The result of `show`: a page in a frame, or a picture where pages cannot be shown."""

    def __init__(
        self,
        photographs: Sequence[Photograph],
        colormap: str,
        height: int,
        *,
        colorbar: bool = False,
    ) -> None:
        self._photographs, self._colormap, self._height = photographs, colormap, height
        self._colorbar = colorbar

    def save(self, path: str | Path) -> None:
        """Write the page as a self-contained HTML file."""
        Path(path).write_text(self._page("Heatmaps"), "utf-8", "backslashreplace")

    def _page(self, title: str) -> str:
        return report(self._photographs, title=title, colormap=self._colormap)

    def _repr_jpeg_(self) -> bytes:
        file = io.BytesIO()
        drawn = as_sheet(self._photographs, colormap=self._colormap, colorbar=self._colorbar)
        drawn.save(file, "JPEG", quality=85)
        return file.getvalue()

    def _repr_html_(self) -> str:
        # The frame covers the picture. Where frames are removed, as in untrusted notebooks, the
        # picture remains.
        still = base64.b64encode(self._repr_jpeg_()).decode("ascii")
        return (
            '<div style="display:grid">'
            '<img alt="Heatmaps over the pictures they explain" style="grid-area:1/1;'
            f'max-width:100%;max-height:{self._height}px" src="data:image/jpeg;base64,{still}">'
            '<iframe title="Heatmaps" sandbox="allow-scripts" style="grid-area:1/1;width:100%;'
            f'height:{self._height}px;border:0;background:Canvas" '
            f'srcdoc="{html.escape(self._page(""))}"></iframe></div>'
        )


def show(
    explanation: Any,
    images: Any,
    *,
    labels: Sequence[str] | None = None,
    probabilities: Any | None = None,
    names: Sequence[str] | None = None,
    preprocess: Any | None = None,
    channel_axis: int = -1,
    picture: Shown = None,
    rate: int | float | None = None,
    colormap: str = "ember",
    colorbar: bool = False,
    height: int = 640,
) -> Viewer:
    """Show heatmaps over the pictures they explain, in a notebook.

    The viewer is that of a report. It has controls for opacity, threshold, class and method, shows
    the value under the pointer and, for volumes, has a slider through the slices.

    Args:
        explanation: an `Explanation` of B inputs, or a mapping from methods' names to explanations
            of the same inputs and targets.
        images: the explained images, before normalisation: B pictures as in `overlay`, or one if B
            is 1. For volumes, (B, depth, height, width), with or without a last axis of 1; each is
            drawn from its smallest to its largest value. For series, (B, time),
            (B, time, channels) or (B, 1, time, channels), drawn as lines.
        labels: the name of each class of the model; None: numbers.
        probabilities: (B, classes), the probability of each class of the model; None: not shown.
        names: the images' names; None: numbers.
        preprocess: the `models.Preprocess` or `SeriesPreprocess` that made the inputs, which knows
            the part that the network saw. None: the network saw all of each picture.
        channel_axis: the channel axis of the activations.
        picture: how to show images that are not pictures, such as multispectral ones or
            spectrograms in dB; as in `overlay`.
        rate: steps per second of a series; None: its axis counts steps.
        colormap: as in `colorize`.
        colorbar: whether the still picture has a colour bar; the page always has one.
        height: height of the viewer, in pixels.

    Returns:
        A `Viewer`, which notebooks display. Where scripts do not run, it is a still picture.

    Raises:
        ValueError: the images do not fit the explanation, or are neither pictures nor volumes nor
            series.
    """
    by_method = dict(explanation) if isinstance(explanation, Mapping) else {"heatmap": explanation}
    if not by_method:
        raise ValueError("there is nothing to show: the mapping of explanations is empty")
    targets = {name: _targets(one) for name, one in by_method.items()}
    first, indices = next(iter(targets.items()))
    for name, other in targets.items():
        if not np.array_equal(indices, other):
            raise ValueError(f"{name} explains other targets than {first}; use the same targets")
    maps = {name: _heatmaps(one, indices) for name, one in by_method.items()}
    sums = {name: _sums(one, channel_axis) for name, one in by_method.items()}
    series = maps[first].shape[2] == 1 and maps[first].ndim == 4
    pictures = _pictures(
        images, len(indices), maps[first].ndim - 2, series, picture, rate, preprocess
    )
    kind = "series" if series else "volume" if maps[first].ndim == 5 else "image"
    _check_length("labels", labels, int(indices.max(initial=-1)) + 1)
    _check_length("names", names, len(indices))
    shown = []
    for place, (drawn, region) in enumerate(pictures):
        classes = [
            (
                f"class {index}" if labels is None else labels[index],
                None if probabilities is None else float(probabilities[place][index]),
            )
            for index in indices[place].tolist()
        ]
        found = photograph(
            f"{kind} {place}" if names is None else names[place],
            drawn,
            classes,
            {name: values[place] for name, values in maps.items()},
            sums={name: values[place] for name, values in sums.items() if values is not None},
            **region,
        )
        shown.append(found)
    return Viewer(shown, colormap, height, colorbar=colorbar)


def _targets(explanation: Any) -> np.ndarray:
    targets = np.asarray(explanation.targets)
    return targets.reshape(len(targets), -1)


def _heatmaps(explanation: Any, targets: np.ndarray) -> np.ndarray:
    """The heatmaps as (B, T, *spatial), also if the explanation has no targets axis."""
    heatmaps = np.asarray(explanation.heatmap, np.float32)
    spatial = heatmaps.shape[np.ndim(explanation.targets) :]
    if len(spatial) not in (1, 2, 3):
        raise ValueError(
            f"the heatmaps have shape {heatmaps.shape}; series have one spatial axis, pictures "
            "two and volumes three"
        )
    return heatmaps.reshape(*targets.shape, *[1] * (len(spatial) == 1), *spatial)


def _sums(explanation: Any, channel_axis: int) -> np.ndarray | None:
    """The sums at the layer's resolution; those of series have one row."""
    sums = layer_sums(explanation, channel_axis)
    return sums[:, :, None] if sums is not None and sums.ndim == 3 else sums


def _pictures(
    images: Any,
    count: int,
    rank: int,
    series: bool,
    picture: Shown,
    rate: int | float | None,
    preprocess: Any | None,
) -> list[tuple[Any, dict[str, Any]]]:
    """The picture of each input, or the slices of a volume, and the region of the heatmap."""
    if isinstance(images, Image.Image):
        images = [images]
    elif not isinstance(images, list | tuple):
        images = np.asarray(images)
        alone = images.ndim == rank + (images.shape[-1] in (1, 3)) and rank == 2
        if count == 1 and (len(images) != 1 if series else alone):
            images = images[None]
    if len(images) != count:
        raise ValueError(f"found {len(images)} images for an explanation of {count} inputs")
    if series and picture is None:
        lines = [as_series(one) for one in images]
        return [
            (draw_series(one, rate=rate), lines_region(preprocess, *one.shape)) for one in lines
        ]
    if rank == 3:
        return [(as_slices(one), {}) for one in images]
    shown = [pictured(one, picture) for one in images]
    return [(one, _region(preprocess, one)) for one in shown]


def _region(preprocess: Any, picture: Any) -> dict[str, Any]:
    """The part of the picture that the network saw, and its position in the input."""
    if preprocess is None:
        return {}
    left, top, right, bottom = preprocess.box(picture.size)
    whole = np.array([left, top, right - left, bottom - top])
    place = preprocess.boxes(whole, picture.size)
    return {"seen": (left, top, right, bottom), "place": [float(side) for side in place]}


def _check_length(name: str, found: Any, least: int) -> None:
    if found is not None and len(found) < least:
        raise ValueError(f"found {len(found)} {name}, wanted at least {least}")
