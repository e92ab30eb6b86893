"""What is known of one photograph: the record that every table, report and picture is made of."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from scorecam_jax.reading import Note, Source
from scorecam_jax.visualize.grids import Grid, unpack
from scorecam_jax.visualize.report.packing import packed_map


class Given(NamedTuple):
    """A photograph, a volume or a series that is in memory already.

    Attributes:
        name: what results call it.
        image: upright RGB; a volume (depth, height, width); or a series, as in `draw_series`.
    """

    name: str
    image: Any


class Target(NamedTuple):
    """A class and its probability."""

    index: int  # type: ignore[assignment]
    probability: float


class Result(NamedTuple):
    """What one method found in a photograph. Axis T: the record's targets.

    Attributes:
        heatmaps: (T, *input), in [0, 1], or [-1, 1] if `signed`; None where only grids were kept.
        sums: (T, *grid), the method's sums at the layer's resolution, if it weights whole maps.
        grids: the heatmaps packed for a report, one for each target; None until they are needed.
        peaks: of each target, what 1 stands for in its heatmap.
        findings: of each target, a kind, a figure and a text for each thing that `diagnose` finds.
        metrics: what was measured of the first target, by name; None where there is no value.
        seconds: the photograph's share of the call's time, without compilation.
        signed: whether the heatmaps show evidence against a class too.
        interpolated: "scored", "channels" and "deviation" if scores were interpolated.
    """

    heatmaps: Float[np.ndarray, "targets *spatial"] | None
    sums: Float[np.ndarray, "targets *grid"] | None
    grids: list[Grid] | None
    peaks: list[float]
    findings: list[list[tuple[str, float, str]]]
    metrics: dict[str, Any]
    seconds: float
    signed: bool
    interpolated: dict[str, Any] | None


class Record(NamedTuple):
    """One photograph, the classes explained, and what each method found.

    Attributes:
        item: the photograph.
        sha256: of its file; "" if it came from memory.
        size: of the photograph: width and height; of a volume its three sides; of a series (time,).
        targets: the classes explained, each once.
        top: the likeliest classes, at most five.
        score: of the first target.
        live: the number of channels of the layer, or of all layers, that are not constant.
        boxes: (x, y, width, height) of the objects that the metrics compare with.
        results: by method.
        remarks: notes on how the file was read.
        left_out: annotations that could not be used, such as boxes.
    """

    item: Source | Given
    sha256: str
    size: tuple[int, ...]
    targets: list[Target]
    top: list[Target]
    score: float
    live: int
    boxes: list[Sequence[float]]
    results: dict[str, Result]
    remarks: list[str]
    left_out: list[Note]

    @property
    def name(self) -> str:
        """What results call the photograph."""
        return self.item.name

    def findings(self, target: int) -> list[dict[str, Any]]:
        """What `diagnose` finds of a target, once for all methods of which it finds the same."""
        merged: dict[tuple[str, str], dict[str, Any]] = {}
        for method, result in self.results.items():
            for kind, figure, text in result.findings[target]:
                new = {"kind": kind, "figure": figure, "text": text, "methods": []}
                methods = merged.setdefault((kind, text), new)["methods"]
                if method not in methods:
                    methods.append(method)
        return list(merged.values())


def packed(result: Result, cells: int) -> list[Grid]:
    """A result's heatmaps as grids with at most `cells` values along an axis."""
    if result.grids is not None:
        return result.grids
    assert result.heatmaps is not None
    return [
        packed_map(heatmap, None if result.sums is None else result.sums[place], cells)
        for place, heatmap in enumerate(result.heatmaps)
    ]


def as_row(record: Record, method: str, cells: int) -> dict[str, Any]:
    """What a method found in a photograph, for a journal: nothing but numbers and text.

    Heatmaps have at most `cells` values along an axis.
    """
    result = record.results[method]
    maps = packed(result, cells)
    return {
        "image": record.name,
        "method": method,
        "sha256": record.sha256,
        "size": list(record.size),
        "targets": [list(target) for target in record.targets],
        "top": [list(target) for target in record.top],
        "score": record.score,
        "live": record.live,
        "boxes": [list(map(float, box)) for box in record.boxes],
        "remarks": record.remarks,
        "left_out": [list(note) for note in record.left_out],
        **result._replace(heatmaps=None, sums=None, grids=maps)._asdict(),
    }


def from_rows(item: Source | Given, rows: Mapping[str, Mapping[str, Any]]) -> Record:
    """The record whose rows a journal kept, by method.

    Raises:
        KeyError, TypeError, ValueError: a row is damaged.
    """
    row = next(iter(rows.values()))
    return Record(
        item,
        str(row["sha256"]),
        tuple(map(int, row["size"])),
        _targets(row["targets"]),
        _targets(row["top"]),
        _number(row["score"]),
        int(row["live"]),
        [tuple(map(_number, box)) for box in row["boxes"]],
        {method: _result(row) for method, row in rows.items()},
        [str(remark) for remark in row["remarks"]],
        [Note(str(what), str(why)) for what, why in row["left_out"]],
    )


def is_row(row: Any) -> bool:
    """Whether a document from a journal is a whole row."""
    try:
        names = all(isinstance(row[name], str) for name in ("image", "method", "sha256"))
        found = from_rows(Given("", Image.new("RGB", (1, 1))), {"": row}).results[""]
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    count = len(row["targets"])
    per_target = (found.grids, found.peaks, found.findings)
    return names and count > 0 and all(len(each or []) == count for each in per_target)


def _result(row: Mapping[str, Any]) -> Result:
    grids = [Grid(*grid) for grid in row["grids"]]
    for grid in grids:
        unpack(grid)
    metrics = {str(name): _measured(value) for name, value in row["metrics"].items()}
    interpolated = row["interpolated"]
    return Result(
        heatmaps=None,
        sums=None,
        grids=grids,
        peaks=[_number(peak) for peak in row["peaks"]],
        findings=[
            [(str(kind), _number(figure), str(text)) for kind, figure, text in each]
            for each in row["findings"]
        ],
        metrics=metrics,
        seconds=_number(row["seconds"]),
        signed=bool(row["signed"]),
        interpolated=None if interpolated is None else dict(interpolated),
    )


def _targets(values: Any) -> list[Target]:
    return [Target(int(index), _number(probability)) for index, probability in values]


def _measured(value: Any) -> Any:
    if value is None:
        return None
    return [_measured(one) for one in value] if isinstance(value, list) else _number(value)


def _number(value: Any) -> float:
    if isinstance(value, str) or not math.isfinite(value):
        raise ValueError(f"found {value!r}, wanted a number")
    return value
