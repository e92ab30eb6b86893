"""One self-contained HTML file in which photographs and their heatmaps can be looked through."""

import base64
import hashlib
import html
import importlib.resources
import io
import json
import math
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from PIL import Image

from scorecam_jax.visualize.colours import colorize
from scorecam_jax.visualize.grids import SMALL, Grid, coarse, draw, enlarge, pack, unpack
from scorecam_jax.visualize.overlay import mark_crop
from scorecam_jax.visualize.sheet import sheet
from scorecam_jax.visualize.transparent import AGAINST, FOR, transparent

LONGEST = 800
"""The most pixels that a stored photograph has along a side."""

# What a photograph may take in all besides the picture, less room for names and findings; and what
# each static figure and the frame of each map take of it.
_BYTES, _FIGURE_BYTES, _MAP_BYTES = 54_000, 1_900, 80
_STATIC_CELLS = 14
_BINS = 16


Lengths: TypeAlias = Sequence[int | float]


class Photograph(NamedTuple):
    """A photograph and its heatmaps, in nothing but numbers and text, so that JSON can hold it.

    Lengths are in pixels of the original photograph unless another unit is named.

    Attributes:
        name: its file name.
        size: width and height.
        frames: JPEG files in base64; several are slices of a volume or frames of a video.
        classes: the name and the probability of each class explained; None if it has none.
        input: height and width of the network's input.
        seen: left, top, right and bottom of the part that the network saw.
        place: left, top, width and height of that part in the network's input.
        boxes: (x, y, width, height) of each annotated object.
        maps: by method, one grid for each class, (rows, columns) or (frames, rows, columns).
        findings: by method, for each class a list of (kind, sentence).
        metrics: by method, what was measured of the first class; None where there is no value.
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

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Photograph":
        """The photograph whose `_asdict()` was written as JSON."""
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
) -> Photograph:
    """Pack a photograph and its heatmaps for a report.

    All of it but the picture itself takes at most 60 kB. A map is stored at the layer's resolution
    where `sums` gives it exactly. Another map is stored with at most 56 values along an axis, and
    fewer where there are many maps.

    Args:
        name: what to call it.
        picture: upright; or the slices of a volume.
        classes: name and probability of each class explained.
        heatmaps: by method, (classes, height, width) at the size of the network's input, or
            (classes, depth, height, width) for a volume; in [0, 1] or [-1, 1]. Or packed already:
            a `Grid` for each class, and then `input_size` too.
        sums: by method, the sums (classes, *grid) at the layer's resolution; see `grids.coarse`.
        input_size: height and width of the network's input; None: the heatmaps'.
        seen: left, top, right and bottom of what the network saw; None: all of the picture.
        place: left, top, width and height of that in the network's input; None: all of the input.
        boxes: (x, y, width, height) of each annotated object.
        findings: by method, for each class a list of (kind, sentence).
        metrics: by method, what was measured.

    Raises:
        ValueError: there are no heatmaps, or not one for each class.
    """
    frames = [picture] if isinstance(picture, Image.Image) else list(picture)
    if not heatmaps or not frames or not classes:
        raise ValueError("a report needs a picture, a class and a heatmap for each photograph")
    for method, maps in heatmaps.items():
        if len(maps) != len(classes):
            raise ValueError(
                f"{name}: {method} has {len(maps)} heatmaps for {len(classes)} classes; wanted one "
                "a class, (classes, height, width)"
            )
    cells = cells_for(len(heatmaps), len(heatmaps) * len(classes) * len(frames))
    width, height = frames[0].size
    rows, columns = input_size or np.shape(next(iter(heatmaps.values())))[-2:]
    return Photograph(
        name=name,
        size=[width, height],
        frames=[_jpeg(frame) for frame in frames],
        classes=[(label, probability) for label, probability in classes],
        input=[rows, columns],
        seen=list(seen or (0, 0, width, height)),
        place=list(place or (0, 0, columns, rows)),
        boxes=[[float(side) for side in box] for box in boxes],
        maps={
            method: [
                _packed(heatmap, (sums or {}).get(method), index, len(frames), cells)
                for index, heatmap in enumerate(maps)
            ]
            for method, maps in heatmaps.items()
        },
        findings=findings or {},
        metrics=metrics or {},
    )


def cells_for(methods: int, maps: int) -> int:
    """How many values along an axis each map of a photograph may have, of so many in all."""
    room = _BYTES - _FIGURE_BYTES * methods - _MAP_BYTES * maps
    values = max(room * 3 // 4 // maps, 0)  # base64 makes four bytes of three
    if values <= 2 * SMALL:
        return max(4, math.isqrt(min(values // 2, SMALL)))
    return min(56, math.isqrt(values))


def _packed(heatmap: Any, sums: Any, index: int, frames: int, cells: int) -> Grid:
    if isinstance(heatmap, Grid):
        if len(heatmap.shape) == 2:
            return heatmap
        grid = unpack(heatmap)
        return pack(enlarge(grid, (frames, *grid.shape[1:])), signed=heatmap.signed)
    heatmap = np.asarray(heatmap)
    known = None if sums is None or max(np.shape(sums)[-2:]) > cells else sums[index]
    grid = coarse(heatmap, known, cells=cells)
    if heatmap.ndim == 3:
        grid = enlarge(grid, (frames, *grid.shape[1:]))
    return pack(grid, signed=bool(heatmap.min() < 0))


def _jpeg(picture: Image.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return _encoded(small, "JPEG", quality=85)


def _encoded(picture: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return base64.b64encode(file.getvalue()).decode("ascii")


def report(
    photographs: Iterable[Photograph],
    *,
    title: str = "What the network looked at",
    columns: Sequence[Any] = (),
    left_out: Sequence[tuple[str, str]] = (),
    manifest: Mapping[str, Any] | None = None,
    command: str | None = None,
    colormap: str = "ember",
) -> str:
    """Write photographs and their heatmaps as one HTML file that needs nothing else.

    Without scripts, as in some mail programs, the file is a sheet: each photograph under each
    method's heatmap of its first class. No script or picture of another origin can run in it.

    Args:
        photographs: made by `photograph`; the first one's methods are those of all.
        title: the heading.
        columns: of the table of means over the photographs, as `evaluate.tables.Column`.
        left_out: what could not be used, and why.
        manifest: what the figures depend on, such as the model, its layer and versions.
        command: what the user typed to make the report.
        colormap: as in `colorize`.

    Returns:
        The text of the file.

    Raises:
        ValueError: there are no photographs, or their methods differ.
    """
    shown = list(photographs)
    if not shown:
        raise ValueError("a report needs at least one photograph, found none")
    methods = list(shown[0].maps)
    for one in shown:
        if list(one.maps) != methods:
            raise ValueError(f"{one.name} has maps by {list(one.maps)}, and others by {methods}")
    script = _part("page.js")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    count = f"{len(shown)} photograph{'s' * (len(shown) != 1)}, {_listing(methods)}"
    return string.Template(_part("page.html")).substitute(
        title=html.escape(title),
        heading=f"<header><h1>{html.escape(title)}</h1><p>{html.escape(count)}</p></header>"
        if title
        else "",
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'",
        style=_part("page.css"),
        script=script,
        index=_json(_index(shown, methods, columns, colormap)),
        summary=_summary(shown, methods, columns),
        left_out=_left_out(left_out),
        about=_about(manifest or {}, command),
        articles="\n".join(_article(number, one, colormap) for number, one in enumerate(shown)),
    )


def as_sheet(photographs: Sequence[Photograph], *, colormap: str = "ember") -> Image.Image:
    """The same as one picture: photographs in rows, methods and classes in columns.

    Args:
        photographs: made by `photograph`.
        colormap: as in `colorize`.
    """
    panels, titles = [], []
    for one in photographs:
        at = _hottest(one)
        with Image.open(io.BytesIO(base64.b64decode(one.frames[at]))) as frame:
            picture = frame.convert("RGB")
        for method, grids in one.maps.items():
            for (label, share), grid in zip(one.classes, grids, strict=True):
                panels.append(_drawn(one, grid, picture, at, colormap))
                probability = "" if share is None else f" {percent(share)}"
                titles.append(f"{one.name}, {method}: {_short(label)}{probability}")
    columns = len(photographs[0].maps) * len(photographs[0].classes)
    return sheet(panels, titles, columns=columns if len(photographs) > 1 else None)


def percent(share: int | float) -> str:
    """A probability in words that are never "0 %" unless it is 0.

    >>> percent(0.863), percent(0.0004), percent(1e-9)
    ('86.3 %', '0.04 %', 'under 0.001 %')
    """
    value = 100 * share
    if 0 < value < 0.001:
        return "under 0.001 %"
    digits = 1 if value >= 1 or not value else -math.floor(math.log10(value))
    return f"{value:.{digits}f} %"


def _part(name: str) -> str:
    return (
        importlib.resources.files("scorecam_jax.visualize")
        .joinpath("page", name)
        .read_text("utf-8")
    )


def _json(document: Any) -> str:
    """JSON for a script element: no `<` that could end the element or begin a comment."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _index(
    shown: Sequence[Photograph],
    methods: Sequence[str],
    columns: Sequence[Any],
    colormap: str,
) -> dict[str, Any]:
    """What searching, sorting and filtering need, and the colours."""
    return {
        "methods": methods,
        "signed": [
            method
            for method in methods
            if any(grid.signed for one in shown for grid in one.maps[method])
        ],
        "metrics": _metric_names(shown),
        "titles": {column.name: column.title for column in columns},
        "colours": colorize(np.linspace(0, 1, 256)[None], colormap=colormap).tobytes().hex(),
        "against": AGAINST,
        "for": FOR,
        "photographs": [
            {
                "name": one.name,
                "classes": [
                    [name, "" if share is None else percent(share), share]
                    for name, share in one.classes
                ],
                "metrics": {
                    method: {
                        name: value
                        for name, value in values.items()
                        if value is not None and math.isfinite(value)
                    }
                    for method, values in one.metrics.items()
                },
                "findings": sorted({kind for _, _, kind, _ in _findings(one)}),
            }
            for one in shown
        ],
    }


def _metric_names(shown: Sequence[Photograph]) -> list[str]:
    return list(
        dict.fromkeys(name for one in shown for values in one.metrics.values() for name in values)
    )


def _findings(one: Photograph) -> list[tuple[str, str, str, str]]:
    """Method, class, kind and sentence of each finding."""
    return [
        (method, label, kind, sentence)
        for method, by_class in one.findings.items()
        for (label, _), found in zip(one.classes, by_class, strict=True)
        for kind, sentence in found
    ]


def _article(number: int, one: Photograph, colormap: str) -> str:
    """A photograph's part of the page: a sheet of it, and what the script needs to do better."""
    data = {
        name: getattr(one, name) for name in ("size", "input", "seen", "place", "boxes", "maps")
    }
    if len(one.frames) > 1:
        data["frames"] = one.frames
        data["frame"] = _hottest(one)
    views = "".join(
        _figure(number, one, method, colormap, first=place == 0)
        for place, method in enumerate(one.maps)
    )
    classes = "".join(
        f"<li>{html.escape(label)}"
        + ("" if share is None else f" <span>{percent(share)}</span>")
        + "</li>"
        for label, share in one.classes
    )
    findings = "".join(
        f"<li>{html.escape(f'{method}, {_short(label)}: {sentence}')}</li>"
        for method, label, _, sentence in _findings(one)
    )
    return (
        f'<article id="photograph-{number}" tabindex="0" aria-labelledby="name-{number}">'
        f'<h2 id="name-{number}">{html.escape(one.name)}</h2>'
        f'<div class="views">{views}</div>'
        f'<ol class="classes" aria-label="Classes">{classes}</ol>'
        + (f'<ul class="findings" aria-label="Findings">{findings}</ul>' if findings else "")
        + _measured(one)
        + f'<script type="application/json">{_json(data)}</script></article>'
    )


def _figure(
    number: int,
    one: Photograph,
    method: str,
    colormap: str,
    *,
    first: bool,
) -> str:
    """The photograph under a method's heatmap of its first class, without any script."""
    width, height = one.size
    left, top, right, bottom = one.seen
    whole = f'width="{width}" height="{height}"'
    label, share = one.classes[0]
    caption = f"{method}: {_short(label)}" + ("" if share is None else f" {percent(share)}")
    photo = (
        f'<image id="picture-{number}" {whole} '
        f'href="data:image/jpeg;base64,{one.frames[_hottest(one)]}"/>'
        if first
        else f'<use href="#picture-{number}"/>'
    )
    heat = _encoded(_static(one, method, colormap), "PNG")
    frame = (
        f'<path class="unseen" fill-rule="evenodd" d="M0 0H{width}V{height}H0Z'
        f'M{left} {top}V{bottom}H{right}V{top}Z"/>'
    )
    boxes = "".join(
        f'<rect class="{kind}" x="{x}" y="{y}" width="{across}" height="{down}"/>'
        for x, y, across, down in one.boxes
        for kind in ("halo", "box")
    )
    return (
        f'<figure><div class="stack" role="img" aria-label="{html.escape(caption)}">'
        f'<svg class="photo" aria-hidden="true" viewBox="0 0 {width} {height}">{photo}</svg>'
        f'<svg class="heat" aria-hidden="true" viewBox="0 0 {width} {height}">'
        f'<image preserveAspectRatio="none" x="{left}" y="{top}" '
        f'width="{right - left}" height="{bottom - top}" '
        f'href="data:image/png;base64,{heat}"/></svg>'
        f'<svg class="marks" aria-hidden="true" viewBox="0 0 {width} {height}">{frame}{boxes}</svg>'
        "</div>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _static(one: Photograph, method: str, colormap: str) -> Image.Image:
    """The heatmap of the first class in few pixels: colours as opaque as it is high."""
    size = (_STATIC_CELLS, _STATIC_CELLS)
    values = _part_seen(one, one.maps[method][0], size, _hottest(one))
    return transparent(values, colormap=colormap)


def _drawn(
    one: Photograph, grid: Grid, picture: Image.Image, frame: int, colormap: str
) -> Image.Image:
    """The photograph in grey under a heatmap, at the size at which it is stored."""
    share = picture.width / one.size[0], picture.height / one.size[1]
    left, top, right, bottom = (
        round(edge * share[place % 2]) for place, edge in enumerate(one.seen)
    )
    size = max(1, bottom - top), max(1, right - left)
    values = _part_seen(one, grid, size, frame)
    drawn = picture.convert("L").convert("RGBA")
    drawn.alpha_composite(transparent(values, colormap=colormap, alpha=0.7), (left, top))
    return mark_crop(drawn, (left, top, right, bottom))


def _part_seen(
    one: Photograph, grid: Grid, size: tuple[int, int], frame: int
) -> Float[np.ndarray, "height width"]:
    """A heatmap over the part of the photograph that the network saw."""
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


def _hottest(one: Photograph) -> int:
    """The frame that the first map has most of; 0 of a single one."""
    values = unpack(next(iter(one.maps.values()))[0])
    return int(np.abs(values).sum((1, 2)).argmax()) if values.ndim == 3 else 0


def _measured(one: Photograph) -> str:
    names = _metric_names([one])
    if not names:
        return ""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(method)}</th>'
        + "".join(f"<td>{_number(values.get(name))}</td>" for name in names)
        + "</tr>"
        for method, values in one.metrics.items()
    )
    return (
        '<div class="wide"><table class="measured"><caption>Measured</caption><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _number(value: Any) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _summary(shown: Sequence[Photograph], methods: Sequence[str], columns: Sequence[Any]) -> str:
    """The table of means, each above a plot of the values it is the mean of."""
    if not columns:
        return ""
    values = {
        (column.name, method): _values(shown, method, column.name)
        for column in columns
        for method in methods
    }
    ranges = {
        column.name: _range([values[column.name, method] for method in methods])
        for column in columns
    }
    head = "".join(f'<th scope="col">{html.escape(column.title)}</th>' for column in columns)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(method)}</th>'
        + "".join(
            f"<td>{_mean(column, method)}"
            + _histogram(values[column.name, method], ranges[column.name], method, column.name)
            + "</td>"
            for column in columns
        )
        + "</tr>"
        for method in methods
    )
    axes = "".join(
        f'<td><span class="axis"><span>{_number(low)}</span> <span>{_number(high)}</span></span>'
        "</td>"
        for low, high in ranges.values()
    )
    return (
        '<section aria-labelledby="summary"><h2 id="summary">All photographs</h2>'
        "<p>Means over photographs and their 95 % bootstrap intervals. ↑ more is better, ↓ less is "
        "better. The bars count photographs by value.</p>"
        f'<div class="wide"><table class="summary"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{rows}</tbody><tfoot><tr><td></td>{axes}</tr></tfoot></table></div></section>"
    )


def _values(shown: Sequence[Photograph], method: str, name: str) -> Float[np.ndarray, " images"]:
    found = [one.metrics.get(method, {}).get(name) for one in shown]
    return np.array([value for value in found if value is not None and math.isfinite(value)], float)


def _range(groups: Sequence[Float[np.ndarray, " _"]]) -> tuple[float, float]:
    every = np.concatenate(groups)
    return (float(every.min()), float(every.max())) if len(every) else (0.0, 0.0)


def _mean(column: Any, method: str) -> str:
    found = column.figures.get(method)
    if found is None or not found.count:
        return "–"
    mean, low, high = (f"{value:.{column.digits}f}" for value in found[:3])
    return f"<b>{mean}</b> [{low}, {high}]"


def _histogram(
    values: Float[np.ndarray, " images"], limits: tuple[float, float], method: str, metric: str
) -> str:
    if not len(values):
        return ""
    low, high = limits
    counts, _ = np.histogram(values, _BINS, (low, high if high > low else low + 1))
    bars = "".join(
        f'<rect x="{6 * place}" y="{24 - 24 * count / counts.max():.1f}" width="5" '
        f'height="{24 * count / counts.max():.1f}"/>'
        for place, count in enumerate(counts)
        if count
    )
    quarters = ", ".join(_number(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    label = (
        f"{metric} of {method}: from {_number(values.min())} to {_number(values.max())}, "
        f"quartiles {quarters}, {len(values)} photographs"
    )
    return (
        f'<svg class="bars" viewBox="0 0 {6 * _BINS - 1} 24" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(label)}"><title>{html.escape(label)}</title>{bars}</svg>'
    )


def _left_out(notes: Sequence[tuple[str, str]]) -> str:
    if not notes:
        return ""
    items = "".join(
        f"<li><b>{html.escape(str(what))}</b>: {html.escape(str(why))}</li>" for what, why in notes
    )
    return (
        f'<details class="left-out" open><summary>{len(notes)} left out</summary>'
        f"<ul>{items}</ul></details>"
    )


def _about(manifest: Mapping[str, Any], command: str | None) -> str:
    items = "".join(
        f"<dt>{html.escape(str(name))}</dt><dd>{html.escape(str(value))}</dd>"
        for name, value in manifest.items()
    )
    parts = (f"<dl>{items}</dl>" if items else "") + (
        f"<p>Made by</p><pre><code>{html.escape(command)}</code></pre>" if command else ""
    )
    if not parts:
        return ""
    return f'<details class="about" open><summary>How this was made</summary>{parts}</details>'


def _short(label: str) -> str:
    """The first of the names in a label."""
    return label.split(",")[0]


def _listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
