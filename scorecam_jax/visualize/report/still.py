"""Still pictures of packed photographs, for reports without scripts and for sheets."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageChops

from scorecam_jax._internal.text import short
from scorecam_jax.visualize.colours import SIGNED
from scorecam_jax.visualize.grids import Grid, draw, unpack
from scorecam_jax.visualize.legend import kinds_of, legend_of
from scorecam_jax.visualize.overlay import grey, mark_crop
from scorecam_jax.visualize.pictures import enlarged, enlargement
from scorecam_jax.visualize.report.packing import Photograph, is_line, signed_methods
from scorecam_jax.visualize.report.words import percent
from scorecam_jax.visualize.sheet import sheet
from scorecam_jax.visualize.transparent import transparent

_CELLS = 14


def as_sheet(
    photographs: Sequence[Photograph], *, colormap: str = "ember", colorbar: bool = False
) -> Image.Image:
    """Draw a report as one picture: photographs in rows, methods and classes in columns.

    Args:
        photographs: results of `photograph`.
        colormap: as in `colorize`.
        colorbar: whether to draw a colour bar. Signed heatmaps always have one.
    """
    panels, titles = [], []
    signed = signed_methods(photographs)
    for one in photographs:
        at = hottest(one)
        with Image.open(io.BytesIO(base64.b64decode(one.frames[at]))) as frame:
            picture = frame.convert("RGB")
        for method, grids in one.maps.items():
            for (label, share), grid in zip(one.classes, grids, strict=True):
                drawn = _drawn(one, grid, picture, at, SIGNED if method in signed else colormap)
                panels.append(enlarged(drawn, enlargement(drawn.size)))
                probability = "" if share is None else f" {percent(share)}"
                titles.append(f"{one.name}, {method}: {short(label)}{probability}")
    columns = len(photographs[0].maps) * len(photographs[0].classes)
    signs = [method in signed for method in photographs[0].maps]
    return sheet(
        panels,
        titles,
        columns=columns if len(photographs) > 1 else None,
        legend=legend_of(kinds_of(signs, colormap, wanted=colorbar)),
    )


def small(one: Photograph, method: str, colormap: str) -> Image.Image:
    """The heatmap of the first class in few pixels, with opacity growing with its values."""
    size = (1, _CELLS**2) if is_line(one) else (_CELLS, _CELLS)
    values = _part_seen(one, one.maps[method][0], size, hottest(one))
    return transparent(values, colormap=colormap)


def _drawn(
    one: Photograph, grid: Grid, picture: Image.Image, frame: int, colormap: str
) -> Image.Image:
    """The grey photograph under a heatmap, at its stored size."""
    share = picture.width / one.size[0], picture.height / one.size[1]
    left, top, right, bottom = (
        round(edge * share[place % 2]) for place, edge in enumerate(one.seen)
    )
    size = max(1, bottom - top), max(1, right - left)
    values = _part_seen(one, grid, size, frame)
    colours = transparent(values, colormap=colormap, alpha=0.7)
    if is_line(one):
        paper = Image.new("RGBA", picture.size, "white")
        paper.alpha_composite(colours, (left, top))
        return ImageChops.multiply(picture, paper.convert("RGB"))
    drawn = grey(picture, signed=colormap == SIGNED).convert("RGBA")
    drawn.alpha_composite(colours, (left, top))
    return drawn.convert("RGB") if one.axes else mark_crop(drawn, (left, top, right, bottom))


def _part_seen(
    one: Photograph, grid: Grid, size: tuple[int, int], frame: int
) -> Float[np.ndarray, "height width"]:
    """The heatmap on the part of the photograph that the network saw."""
    (rows, columns), (left, top, across, down) = one.input, one.place
    frames = grid.shape[:-2]
    values = draw(
        grid,
        (*frames, *size),
        [
            *[(0.0, 1.0)] * len(frames),
            (top / rows, down / rows),
            (left / columns, across / columns),
        ],
    )
    return values[frame] if frames else values


def hottest(one: Photograph) -> int:
    """The frame with the largest sum of the first map's absolute values; 0 for a single frame."""
    values = unpack(next(iter(one.maps.values()))[0])
    return int(np.abs(values).sum((1, 2)).argmax()) if values.ndim == 3 else 0
