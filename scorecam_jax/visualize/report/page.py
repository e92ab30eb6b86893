"""Interactive reports of photographs and their heatmaps, as one self-contained HTML file."""

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

from scorecam_jax._internal.text import short
from scorecam_jax.visualize.colours import AGAINST, FOR, SIGNED, colorize
from scorecam_jax.visualize.pictures import enlargement
from scorecam_jax.visualize.report.figures import figures, measured, metric_names, summary, surprise
from scorecam_jax.visualize.report.packing import Photograph, encoded, is_line, signed_methods
from scorecam_jax.visualize.report.still import hottest, small
from scorecam_jax.visualize.report.words import percent, plural


def report(
    photographs: Iterable[Photograph],
    *,
    title: str = "What the network looked at",
    columns: Sequence[Any] = (),
    left_out: Sequence[tuple[str, str]] = (),
    manifest: Mapping[str, Any] | None = None,
    command: str | None = None,
    colormap: str = "ember",
    meanings: Mapping[str, str] | None = None,
    kind: str | None = None,
    layers: Mapping[str, tuple[str, str]] | None = None,
) -> str:
    """Write photographs and their heatmaps as one self-contained HTML file.

    Without scripts, as in some mail programs, the file shows each photograph under each method's
    heatmap of its first class. Its policy blocks scripts and pictures from other origins.

    Args:
        photographs: results of `photograph`, all with the same methods.
        title: the heading.
        columns: the columns of the table of means, each as `evaluate.tables.Column`.
        left_out: inputs that could not be used, and why.
        manifest: the settings behind the figures, such as the model, its layer and versions.
        command: the command that made the report.
        colormap: as in `colorize`.
        meanings: the definition of each metric or column, with its unit.
        kind: the kind of input, in the singular. None: "photograph", "volume" or "series".
        layers: if several layers are explained, the method and the layer behind each name in the
            maps. The page then has a choice of layers in addition to that of methods.

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
    kind = kind or _kind(shown)
    apart = layers or {}
    named = list(dict.fromkeys(apart.get(method, (method,))[0] for method in methods))
    count = f"{len(shown)} {kind if len(shown) == 1 else plural(kind)}, {_listing(named)}"
    if apart:
        count += f" at {len({layer for _, layer in apart.values()})} layers"
    told = meanings or {}
    styles = {method: SIGNED if method in signed_methods(shown) else colormap for method in methods}
    return string.Template(_part("page.html")).substitute(
        title=html.escape(title),
        heading=f"<header><h1>{html.escape(title)}</h1><p>{html.escape(count)}</p></header>"
        if title
        else "",
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{allowed}'",
        style=_part("page.css"),
        script=script,
        index=_json(_index(shown, methods, columns, colormap, kind, apart)),
        legend=_legend(shown, methods, colormap),
        kinds=plural(kind),
        summary=summary(shown, methods, columns, told, plural(kind)),
        left_out=_left_out(left_out),
        about=_about(manifest or {}, command),
        articles="\n".join(_article(number, one, styles, told) for number, one in enumerate(shown)),
    )


def _part(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


def _json(document: Any) -> str:
    """JSON for a script element, without `<`, which could end the element or begin a comment."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _index(
    shown: Sequence[Photograph],
    methods: Sequence[str],
    columns: Sequence[Any],
    colormap: str,
    kind: str,
    layers: Mapping[str, tuple[str, str]],
) -> dict[str, Any]:
    """The data for searching, sorting and filtering, and the colours."""
    return {
        "methods": methods,
        "named": [layers.get(method, (method, "")) for method in methods],
        "signed": signed_methods(shown),
        "metrics": metric_names(shown),
        "titles": {column.name: column.title for column in columns},
        "kind": kind,
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
                    for method, values in figures(one).items()
                },
                "findings": sorted({kind for _, _, kind, _ in _findings(one)}),
                "surprise": surprise(one),
            }
            for one in shown
        ],
    }


def _findings(one: Photograph) -> list[tuple[str, int, str, str]]:
    """(method, index of the class, kind, sentence) of each finding."""
    return [
        (method, place, kind, sentence)
        for method, by_class in one.findings.items()
        for place, found in enumerate(by_class)
        for kind, sentence in found
    ]


def _kind(shown: Sequence[Photograph]) -> str:
    """The kind of input that the report shows, in the singular."""
    if all(is_line(one) for one in shown):
        return "series"
    return "volume" if all(len(one.frames) > 1 for one in shown) else "photograph"


def _legend(shown: Sequence[Photograph], methods: Sequence[str], colormap: str) -> str:
    """The legend of the colours and lines that occur in the report."""
    signed_ones = signed_methods(shown)
    table = colorize(np.linspace(0, 1, 9)[None], colormap=colormap)[0].tolist()
    plain = [(colour, place / 8) for place, colour in enumerate(table)]
    signed = [(AGAINST if place < 4 else FOR, abs(place / 4 - 1)) for place in range(9)]
    items = [
        _scale("unsigned", plain, "0 to 1; no colour at 0", hidden=signed_ones == list(methods)),
        _scale(
            "signed",
            signed,
            "−1 (against the class) to 1 (for it); no colour at 0",
            hidden=not signed_ones,
        ),
    ]
    if any(one.boxes for one in shown):
        items.append(_key("box", "annotated box"))
    items.append(_key("implied", "box implied by the threshold", hidden=True))
    return "\n".join(items)


def _scale(
    kind: str, stops: Sequence[tuple[Sequence[int], float]], text: str, *, hidden: bool
) -> str:
    colours = ", ".join(
        f"rgb({red} {green} {blue} / {math.sqrt(size):.3f})" for (red, green, blue), size in stops
    )
    return (
        f'<span class="key {kind}"{" hidden" * hidden}><span class="scale" aria-hidden="true" '
        f'style="background-image: linear-gradient(to right, {colours})"></span> {text}</span>'
    )


def _key(kind: str, text: str, *, hidden: bool = False) -> str:
    lines = "".join(
        f'<rect class="{name}" x="2" y="2" width="20" height="8"/>' for name in ("halo", kind)
    )
    return (
        f'<span class="key of-{kind}"{" hidden" * hidden}><svg viewBox="0 0 24 12" '
        f'aria-hidden="true">{lines}</svg> {text}</span>'
    )


def _article(
    number: int, one: Photograph, colormaps: Mapping[str, str], meanings: Mapping[str, str]
) -> str:
    """A photograph's card: still pictures, and the data with which the script replaces them."""
    data = {
        name: getattr(one, name) for name in ("size", "input", "seen", "place", "boxes", "maps")
    }
    if len(one.frames) > 1:
        data["frames"] = one.frames
        data["frame"] = hottest(one)
        data["cuts"], data["at"] = one.cuts, one.at
    views = "".join(
        _figure(number, one, method, colormaps[method], first=place == 0)
        for place, method in enumerate(one.maps)
    )
    classes = "".join(
        f"<li>{html.escape(label)}"
        + ("" if share is None else f" <span>{percent(share)}</span>")
        + "</li>"
        for label, share in one.classes
    )
    findings = "".join(
        f'<li data-class="{place}" data-method="{list(one.maps).index(method)}">'
        f"{html.escape(f'{method}, {short(label)}: {sentence}')}</li>"
        for place, (label, _) in enumerate(one.classes)
        for method, of, _, sentence in _findings(one)
        if of == place
    )
    return (
        f'<article id="photograph-{number}" tabindex="0" aria-labelledby="name-{number}">'
        f'<h2 id="name-{number}">{html.escape(one.name)}</h2>'
        f'<div class="views">{views}</div>'
        f'<ol class="classes" aria-label="Classes">{classes}</ol>'
        + (f'<ul class="findings" aria-label="Findings">{findings}</ul>' if findings else "")
        + measured(one, meanings)
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
    """The photograph under a method's heatmap of its first class, without scripts."""
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
    tiny, signed = enlargement(one.size) > 1, colormap == SIGNED
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
    view = f'aria-hidden="true" viewBox="0 0 {width} {height}"'
    return (
        f'<figure><div class="stack{" signs" * signed}{" line" * is_line(one)}'
        f'{" axes" * one.axes}" role="img" '
        f'aria-label="{html.escape(caption)}">'
        f'<svg class="photo{" tiny" * tiny}" {view}>{photo}</svg>'
        f'<svg class="heat" {view}>'
        f'<image preserveAspectRatio="none" x="{left}" y="{top}" '
        f'width="{right - left}" height="{bottom - top}" '
        f'href="data:image/png;base64,{heat}"/></svg>'
        f'<svg class="marks" {view}>{frame}{boxes}</svg>'
        "</div>"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
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
        f"<p>Command</p><pre><code>{html.escape(command)}</code></pre>" if command else ""
    )
    if not parts:
        return ""
    return f'<details class="about" open><summary>How this was made</summary>{parts}</details>'


def _listing(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
