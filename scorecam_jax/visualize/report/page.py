"""One self-contained HTML file in which photographs and their heatmaps can be looked through."""

import base64
import hashlib
import html
import importlib.resources
import json
import math
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from scorecam_jax.visualize.colours import AGAINST, FOR, colorize
from scorecam_jax.visualize.report.packing import Photograph, encoded
from scorecam_jax.visualize.report.still import hottest, small
from scorecam_jax.visualize.report.words import percent, short

_BINS = 16


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


def _part(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


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
        data["frame"] = hottest(one)
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
        f"<li>{html.escape(f'{method}, {short(label)}: {sentence}')}</li>"
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
    caption = f"{method}: {short(label)}" + ("" if share is None else f" {percent(share)}")
    photo = (
        f'<image id="picture-{number}" {whole} '
        f'href="data:image/jpeg;base64,{one.frames[hottest(one)]}"/>'
        if first
        else f'<use href="#picture-{number}"/>'
    )
    heat = encoded(small(one, method, colormap), "PNG")
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


def _listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
