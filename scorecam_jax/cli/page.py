"""What a command is given of a photograph, and the page that it makes of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Found(NamedTuple):
    """What was found in a photograph.

    Attributes:
        photo: a Pillow image, at the size at which it is drawn.
        targets: index, name and probability of each class explained.
        heatmaps: of the network's input, (methods, targets, height, width).
        drawn: the heatmaps laid over the photograph, by method and target.
    """

    photo: Any
    targets: list[dict[str, Any]]
    heatmaps: Any
    drawn: list[list[Any]]


class Page(NamedTuple):
    """What a command makes of it: a sheet and what there is to tell.

    Attributes:
        panels: of the sheet; see `scorecam_jax.visualize.sheet` for this and the next three.
        titles: of the panels.
        targets: what there is to tell of each target.
        heatmaps: what `--save-map` saves: heatmaps of the network's input, along leading axes.
        columns: of the sheet.
        row_labels: of the sheet.
    """

    panels: list[Any]
    titles: list[str]
    targets: list[dict[str, Any]]
    heatmaps: Any
    columns: int | None = None
    row_labels: Sequence[str] = ()
