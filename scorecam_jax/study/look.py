"""How records are drawn."""

from typing import NamedTuple


class Look(NamedTuple):
    """How heatmaps are drawn.

    Attributes:
        colormap: as in `colorize`.
        alpha: opacity of the colours where a heatmap is 1.
        fade: as in `overlay`.
        pixels: draw the layer's cells with sharp edges.
        only: "overlay" or "heatmap": a picture of each class instead of a sheet.
        colorbar: show what the colours stand for on a sheet, even where they have no signs.
        network: its name, for the small print.
        layers: how many are explained together, that of the classifier and those before it.
        command: what the user typed, for the file's metadata.
    """

    colormap: str = "ember"
    alpha: float = 0.7
    fade: bool = True
    pixels: bool = False
    only: str | None = None
    colorbar: bool = False
    network: str = ""
    layers: int = 1
    command: str = ""
