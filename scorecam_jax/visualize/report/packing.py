"""Photographs and heatmaps as numbers and text, small enough for a web page."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from scorecam_jax.visualize.grids import SMALL, Grid, coarse, enlarge, pack, unpack

LONGEST = 800
"""The maximum side of a stored photograph, in pixels."""

# The bytes that a photograph may take without its picture, names and findings; and the bytes of
# this that each static figure and each frame of a map take.
_BYTES, _FIGURE_BYTES, _MAP_BYTES = 54_000, 1_900, 80

# The number of values that are finely quantised: along a line, coarse steps would be visible.
_MOST_STEPS = SMALL

Lengths: TypeAlias = Sequence[int | float]


class Photograph(NamedTuple):
    """A photograph and its heatmaps as numbers and text, so that they can be stored as JSON.

    Lengths are in pixels of the original photograph unless another unit is given.

    Attributes:
        name: the file name.
        size: width and height.
        frames: JPEG files in base64; several are slices of a volume or frames of a video.
        classes: the name and the probability, or None, of each explained class.
        input: height and width of the network's input.
        seen: left, top, right and bottom of the part that the network saw.
        place: left, top, width and height of that part in the network's input.
        boxes: (x, y, width, height) of each annotated object.
        maps: by method, one grid per class, (rows, columns) or (frames, rows, columns).
        findings: by method, for each class a list of (kind, sentence).
        metrics: by method, the metrics of the first class; None where there is no value.
        aside: further figures by method, for sorting and summaries, not shown in the card.
        cuts: for a volume, two JPEG files in base64: cuts along a row and along a column of its
            slices, the last slice at the top.
        at: the positions of the cuts, as fractions of the slices' height and width.
        axes: whether axes, rather than more of the photograph, surround the part that the network
            saw.
    """

    name: str
    size: Sequence[int]
    frames: Sequence[str]
    classes: Sequence[tuple[str, int | float | None]]
    input: Sequence[int]
    seen: Lengths
    place: Lengths
    boxes: Sequence[Lengths]
    maps: Mapping[str, Sequence[Grid]]
    findings: Mapping[str, Sequence[Sequence[tuple[str, str]]]]
    metrics: Mapping[str, Mapping[str, int | float | None]]
    aside: Mapping[str, Mapping[str, int | float | None]] = {}
    cuts: Sequence[str] = ()
    at: Sequence[float] = ()
    axes: bool = False

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Photograph":
        """Restore a photograph from its `_asdict()`, written as JSON."""
        maps = {name: [Grid(*grid) for grid in grids] for name, grids in record["maps"].items()}
        return cls(**{**record, "maps": maps})


def photograph(
    name: str,
    picture: Image.Image | Sequence[Image.Image],
    classes: Sequence[tuple[str, int | float | None]],
    heatmaps: Mapping[str, Any],
    *,
    sums: Mapping[str, Any] | None = None,
    input_size: Sequence[int] | None = None,
    seen: Lengths | None = None,
    place: Lengths | None = None,
    boxes: Sequence[Lengths] = (),
    findings: Mapping[str, Sequence[Sequence[tuple[str, str]]]] | None = None,
    metrics: Mapping[str, Mapping[str, int | float | None]] | None = None,
    aside: Mapping[str, Mapping[str, int | float | None]] | None = None,
    thickness: int | float = 1,
    axes: bool = False,
) -> Photograph:
    """Pack a photograph and its heatmaps for a report.

    Everything except the picture takes at most 60 kB. A map is stored at the layer's resolution if
    `sums` determines it. Other maps are stored with at most 56 values along an axis, and fewer if
    there are many maps.

    Args:
        name: the name to show.
        picture: the upright photograph, or the slices of a volume.
        classes: name and probability of each explained class.
        heatmaps: by method, (classes, height, width) at the size of the network's input, or
            (classes, depth, height, width) for a volume; in [0, 1] or [-1, 1]. Alternatively, a
            packed `Grid` for each class; `input_size` is then required.
        sums: by method, the sums (classes, *grid) at the layer's resolution; see `grids.coarse`.
        input_size: height and width of the network's input; None: those of the heatmaps.
        seen: left, top, right and bottom of the part that the network saw; None: the whole picture.
        place: left, top, width and height of that part in the network's input; None: all of it.
        boxes: (x, y, width, height) of each annotated object.
        findings: by method, for each class a list of (kind, sentence).
        metrics: by method, the metrics.
        aside: by method, further figures, for sorting and summaries.
        thickness: thickness of a volume's slices, in pixels. For a volume, two cuts across the
            slices, through the peak of the first heatmap, are stored too.
        axes: whether axes surround the part that the network saw, as around a spectrogram.

    Raises:
        ValueError: there are no heatmaps, or the number of heatmaps is not that of the classes.
    """
    frames = [picture] if isinstance(picture, Image.Image) else list(picture)
    if not heatmaps or not frames or not classes:
        raise ValueError("each photograph of a report needs a picture, a class and a heatmap")
    for method, maps in heatmaps.items():
        if len(maps) != len(classes):
            raise ValueError(
                f"{name}: {method} has heatmaps of shape {_shape(maps)} for {len(classes)} "
                "classes; wanted one per class, (classes, height, width)"
            )
    cells = cells_for(len(heatmaps), len(heatmaps) * len(classes) * len(frames))
    width, height = frames[0].size
    rows, columns = input_size or np.shape(next(iter(heatmaps.values())))[-2:]
    known = sums or {}
    packed = {
        method: [
            _in_frames(
                heatmap, known[method][place] if method in known else None, len(frames), cells
            )
            for place, heatmap in enumerate(maps)
        ]
        for method, maps in heatmaps.items()
    }
    at, cuts = _cuts(frames, next(iter(packed.values())), thickness)
    return Photograph(
        name=name,
        size=[width, height],
        frames=[_jpeg(frame) for frame in frames],
        classes=[(label, probability) for label, probability in classes],
        input=[rows, columns],
        seen=list(seen or (0, 0, width, height)),
        place=list(place or (0, 0, columns, rows)),
        boxes=[[float(side) for side in box] for box in boxes],
        maps=packed,
        findings=findings or {},
        metrics=metrics or {},
        aside=aside or {},
        cuts=[_jpeg(cut) for cut in cuts],
        at=at,
        axes=axes,
    )


def _cuts(
    frames: Sequence[Image.Image], grids: Sequence[Grid], thickness: int | float
) -> tuple[list[float], list[Image.Image]]:
    """The peak of the first map within slices, and cuts through it, the last slice at the top.

    A single picture is not cut.
    """
    if len(frames) == 1:
        return [], []
    values = unpack(grids[0])
    _, row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
    at = [(float(row) + 0.5) / values.shape[1], (float(column) + 0.5) / values.shape[2]]
    volume = np.stack([np.asarray(frame.convert("RGB")) for frame in reversed(frames)])
    y, x = int(at[0] * volume.shape[1]), int(at[1] * volume.shape[2])
    height = max(1, round(len(frames) * thickness))
    cuts = [Image.fromarray(cut) for cut in (volume[:, y], volume[:, :, x].copy())]
    how = Image.Resampling.NEAREST if thickness == round(thickness) else Image.Resampling.BICUBIC
    return at, [cut.resize((cut.width, height), how) for cut in cuts]


def signed_methods(shown: Sequence[Photograph]) -> list[str]:
    """The methods with any value below zero: all their maps are drawn as signed."""
    return [
        method
        for method in shown[0].maps
        if any(grid.signed for one in shown for grid in one.maps[method])
    ]


def is_line(one: Photograph) -> bool:
    """Whether this is a series: the network's input has one row."""
    return one.input[0] == 1 < one.input[1]


def _shape(maps: Any) -> tuple[int, ...]:
    packed = len(maps) and isinstance(maps[0], Grid)
    return (len(maps), *maps[0].shape) if packed else np.shape(maps)


def cells_for(methods: int, maps: int) -> int:
    """The maximum number of values along an axis of each of a photograph's maps."""
    room = _BYTES - _FIGURE_BYTES * methods - _MAP_BYTES * maps
    values = max(room * 3 // 4 // maps, 0)  # base64 makes four bytes of three
    if values <= 2 * SMALL:
        return max(4, math.isqrt(min(values // 2, SMALL)))
    return min(56, math.isqrt(values))


def packed_map(heatmap: Any, sums: Any | None, cells: int) -> Grid:
    """Pack a heatmap in few values.

    Args:
        heatmap: (height, width), (depth, height, width), or for a series (time,) or (1, time).
        sums: the sums at the layer's resolution, as in `grids.coarse`; None: unknown.
        cells: the maximum number of values along an axis. A series, with a single axis, may have as
            many values as a picture in total, up to `SMALL`.
    """
    values = np.atleast_2d(np.asarray(heatmap))
    sums = None if sums is None else np.atleast_2d(np.asarray(sums))
    if values.shape[0] == 1:
        cells = max(cells, min(cells**2, _MOST_STEPS))
    known = None if sums is None or max(sums.shape[-2:]) > cells else sums
    return pack(coarse(values, known, cells=cells), signed=bool(values.min() < 0))


def _in_frames(heatmap: Any, sums: Any | None, frames: int, cells: int) -> Grid:
    """Pack a map; that of a volume gets one slice per frame."""
    packed = heatmap if isinstance(heatmap, Grid) else packed_map(heatmap, sums, cells)
    if len(packed.shape) == 2:
        return packed
    grid = unpack(packed)
    return pack(enlarge(grid, (frames, *grid.shape[1:])), signed=packed.signed)


def _jpeg(picture: Image.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return encoded(small, "JPEG", quality=85)


def encoded(picture: Image.Image, kind: str, **options: Any) -> str:
    """Encode a picture as a file in base64."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode("ascii")
