"""The report's viewer inside a notebook."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from scorecam_jax.visualize.grids import layer_sums
from scorecam_jax.visualize.overlay import overlay
from scorecam_jax.visualize.pictures import as_picture
from scorecam_jax.visualize.report import Photograph, photograph, report
from scorecam_jax.visualize.sheet import sheet
from scorecam_jax.visualize.transparent import transparent
from scorecam_jax.visualize.volumes import as_slices, hottest

_MOST_PANELS = 12


class Viewer:
    """What `show` returns: a page in a frame, and a picture where no page can be shown."""

    def __init__(self, page: str, picture: Image.Image, height: int) -> None:
        self._page, self._picture, self._height = page, picture, height

    def _repr_html_(self) -> str:
        # The frame covers the picture. Where frames are taken out, as in notebooks that are not
        # trusted, the picture is left.
        still = base64.b64encode(self._repr_png_()).decode("ascii")
        return (
            '<div style="display:grid">'
            f'<img alt="Heatmaps over the pictures they explain" style="grid-area:1/1;'
            f'max-width:100%;max-height:{self._height}px" src="data:image/png;base64,{still}">'
            f'<iframe title="Heatmaps" sandbox="allow-scripts" style="grid-area:1/1;width:100%;'
            f'height:{self._height}px;border:0;background:Canvas" '
            f'srcdoc="{html.escape(self._page)}"></iframe></div>'
        )

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self._picture.save(file, "PNG")
        return file.getvalue()

    def __repr__(self) -> str:
        return f"Viewer({self._picture.width} x {self._picture.height})"

    def save(self, path: Any) -> None:
        """Write the page as an HTML file of its own."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self._page)


def show(
    explanation: Any,
    images: Any,
    *,
    labels: Sequence[str] | None = None,
    probabilities: Any | None = None,
    names: Sequence[str] | None = None,
    preprocess: Any | None = None,
    channel_axis: int = -1,
    colormap: str = "ember",
    height: int = 640,
) -> Viewer:
    """Show heatmaps over the pictures they explain, in a notebook.

    The viewer has what a report has: opacity, threshold, classes and methods to choose, the value
    under the pointer; for a volume, a slider through its slices.

    Args:
        explanation: an `Explanation` of B inputs, or a mapping of methods' names to those of the
            same inputs and targets.
        images: what was explained, as people see it rather than normalised: B pictures as in
            `overlay`, or one if B is 1. For volumes, an array (B, depth, height, width) or (B,
            depth, height, width, 1) in any range, drawn from its least value to its largest.
        labels: the name of each class of the model; None: numbers.
        probabilities: (B, classes), of each class; None: none are shown.
        names: of the images; None: numbers.
        preprocess: what made inputs of the pictures, a `models.Preprocess`, so that the part that
            the network saw is known. None: the network saw all of each picture.
        channel_axis: of the activations.
        colormap: as in `colorize`.
        height: of the viewer, in pixels.

    Returns:
        A `Viewer`, which notebooks draw. Where scripts do not run it is a picture.

    Raises:
        ValueError: the images do not fit the explanation, or are neither pictures nor volumes.
    """
    by_method = dict(explanation) if isinstance(explanation, Mapping) else {"": explanation}
    maps = {name: _with_targets(one) for name, one in by_method.items()}
    sums = {name: layer_sums(one, channel_axis) for name, one in by_method.items()}
    (targets,) = {np.asarray(one.targets).tobytes() for one in by_method.values()} or {b""}
    del targets
    indices = np.asarray(next(iter(by_method.values())).targets)
    indices = indices.reshape(len(indices), -1)
    count, rank = len(indices), next(iter(maps.values())).ndim - 2
    pictures = _pictures(images, count, rank)
    shown = []
    panels: list[Image.Image] = []
    titles: list[str] = []
    for place, picture in enumerate(pictures):
        classes = [
            (
                labels[index] if labels is not None else f"class {index}",
                None if probabilities is None else float(probabilities[place][index]),
            )
            for index in indices[place]
        ]
        name = names[place] if names is not None else f"image {place}" if count > 1 else ""
        heatmaps = {method or "heatmap": values[place] for method, values in maps.items()}
        at_layer = {
            method or "heatmap": values[place]
            for method, values in sums.items()
            if values is not None
        }
        shown.append(_photograph(name, picture, classes, heatmaps, at_layer, preprocess))
    return Viewer(report(shown, title="", colormap=colormap), sheet(panels, titles), height)
