"""Records as pictures: a sheet of each photograph, or a picture of each class."""

import contextlib
import functools
import importlib.metadata
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from scorecam_jax._internal.text import short
from scorecam_jax.metrics.sanity import correlation
from scorecam_jax.models import Classifier
from scorecam_jax.reading import Source
from scorecam_jax.reading.labels import file_names
from scorecam_jax.study.look import Look
from scorecam_jax.study.material import Material, material
from scorecam_jax.study.outputs import Guard, OutputError, save
from scorecam_jax.study.pipeline import Plan
from scorecam_jax.study.record import Record, Target
from scorecam_jax.study.volumes import draw_volume
from scorecam_jax.visualize import draw_series, mark_crop, overlay, pixelate, sheet, transparent
from scorecam_jax.visualize.axes import Axis, spread, with_axes
from scorecam_jax.visualize.colours import SIGNED
from scorecam_jax.visualize.legend import kinds_of, legend_of
from scorecam_jax.visualize.pictures import enlarged, enlargement
from scorecam_jax.visualize.sheet import Legend

MOST_PIXELS = 50_000_000
"""A larger sheet takes more than about 1.5 GB to draw."""

COMMAND = "Command"
"""The key of a PNG file's text under which a picture tells the command that made it."""

# A wider sheet is shrunk to illegibility on a screen.
_MOST_COLUMNS = 5

# What heads a picture under no heatmap.
_ITSELF = "photograph"

# A best class below this is no more than a guess.
_UNSURE = 0.2


class Job(NamedTuple):
    """One photograph and the files to be made of it.

    Attributes:
        photo: the photograph.
        output: the picture to write.
        map: where to write the heatmaps, if anywhere.
        each: whether `output` only begins the names of a picture for each class.
    """

    photo: Source
    output: Path
    map: Path | None
    each: bool


class Page(NamedTuple):
    """A sheet, and what there is to tell of it.

    Attributes:
        panels: of the sheet; see `scorecam_jax.visualize.sheet` for this and the next three.
        titles: of the panels.
        targets: what there is to tell of each target.
        heatmaps: what is saved: heatmaps of the network's input, along leading axes.
        columns: of the sheet.
        captions: of the panels.
    """

    panels: list[Any]
    titles: list[str]
    targets: list[dict[str, Any]]
    heatmaps: np.ndarray
    columns: int | None = None
    captions: Sequence[str] = ()


Layout = Callable[
    [Any, list[dict[str, Any]], list[str], np.ndarray, list[list[Any]]],
    Page,
]
"""(photograph, targets, methods, heatmaps (methods, targets, ...), drawn) -> Page."""


def by_target(
    photo: Any,
    targets: list[dict[str, Any]],
    methods: list[str],
    heatmaps: np.ndarray,
    drawn: list[list[Any]],
) -> Page:
    """What is explained, and then one method's heatmap of each class."""
    told = [
        {**target, "empty": not heatmap.any()}
        for target, heatmap in zip(targets, heatmaps[0], strict=True)
    ]
    titles = [f"{_title(target)}{', nothing found' * target['empty']}" for target in told]
    return Page([photo, *drawn[0]], [_ITSELF, *titles], told, heatmaps[0])


def by_method(
    photo: Any,
    targets: list[dict[str, Any]],
    methods: list[str],
    heatmaps: np.ndarray,
    drawn: list[list[Any]],
) -> Page:
    """Methods in columns, classes in rows, with each heatmap's correlation with the first."""
    told: list[dict[str, Any]] = []
    panels: list[Any] = []
    captions: list[str] = []
    for row, target in enumerate(targets):
        maps: list[dict[str, Any]] = [
            {
                "method": name,
                "empty": not heatmap.any(),
                "correlation": _correlation(heatmap, heatmaps[0, row]),
            }
            for name, heatmap in zip(methods, heatmaps[:, row], strict=True)
        ]
        told.append({**target, "maps": maps})
        # The photograph once; in later rows its column names their class.
        panels += [_title(target) if row else photo, *(each[row] for each in drawn)]
        captions += ["", *(_likeness(one, methods[0]) for one in maps)]
    titles = [_title(told[0]), *methods]
    columns: int | None = 1 + len(methods)
    if len(told) == 1 and len(methods) >= _MOST_COLUMNS:
        columns = None
    return Page(panels, titles, told, heatmaps, columns, captions)


def in_one_column(page: Page) -> Page:
    """The same for panels that are wide: each below the other, with its class in its title."""
    columns = page.columns or len(page.panels)
    if len(page.titles) == len(page.panels):
        return page._replace(columns=1)
    panels: list[Any] = []
    titles: list[str] = []
    captions: list[str] = []
    several = len(page.panels) > columns
    for place, panel in enumerate(page.panels):
        row, column = divmod(place, columns)
        if isinstance(panel, str):
            continue
        heading = page.panels[row * columns] if row else page.titles[0]
        title = page.titles[column]
        if several:
            title = f"{title}, {heading}" if column else _ITSELF
        panels.append(panel)
        titles.append(title)
        captions.append(page.captions[place])
    return page._replace(panels=panels, titles=titles, captions=captions, columns=1)


def _likeness(told: dict[str, Any], first: str) -> str:
    """What stands below a heatmap: how like the first method's it is."""
    if told["empty"]:
        return "nothing found"
    if told["method"] == first or told["correlation"] is None:
        return ""
    return f"r = {told['correlation']:.2f} with {first}"


def draw(
    plan: Plan,
    record: Record,
    job: Job,
    look: Look,
    layout: Layout,
    guard: Guard,
    scale: Float[np.ndarray, " methods"] | None = None,
) -> dict[str, Any]:
    """Draw and write a record's pictures; return what there is to tell of it, for JSON.

    Args:
        plan: what was asked.
        record: what was found, with whole heatmaps.
        job: the files to write.
        look: how heatmaps are drawn.
        layout: of the sheet.
        guard: keeps files from being overwritten.
        scale: the peak that each method's heatmaps are drawn in relation to; None: its own.

    Raises:
        OutputError: a file cannot be written.
        ReadingError: the photograph cannot be read again.
    """
    classifier = plan.classifier
    pictures = _pictures(record, job, classifier, guard)
    factor = 1
    results = list(record.results.values())
    maps = np.stack([one.heatmaps for one in results if one.heatmaps is not None])
    peaks = np.array([one.peaks for one in results], float)
    relative = _relative(peaks, scale)
    shown = np.stack(_cells(record)) if look.pixels else maps
    if scale is not None:
        factors = relative.reshape(*relative.shape, *[1] * (maps.ndim - 2)).astype(maps.dtype)
        maps, shown = maps * factors, shown * factors

    def describe(one: Target) -> dict[str, Any]:
        name = classifier.labels[one.index]
        return {"index": one.index, "name": name, "probability": one.probability}

    targets = [
        {
            **describe(target),
            "rather_than": plan.other_name,
            "peaks": relative[:, place].tolist(),
            "findings": record.findings(place),
        }
        for place, target in enumerate(record.targets)
    ]
    methods = list(record.results)
    found = material(classifier, record.item, plan.window)
    axes = getattr(classifier.preprocess, "axes", None)
    signs = [one.signed for one in results]
    shared = scale is not None
    size: tuple[int, ...] = record.size
    if look.only and (found.shown is None or axes):
        raise OutputError(
            "--only writes the pictures of photographs, and this is a "
            f"{'volume' if len(size) == 3 else 'series'}: leave it out for a sheet"
        )
    if found.shown is None and len(size) == 3:
        page = layout(None, targets, methods, maps, [[None] * len(targets) for _ in methods])
        note = _small_print(plan, methods, look, factor, shared=shared)
        legend = _legend(look, signs, shared=shared)
        ready: Iterable[Any] = [
            draw_volume(plan, record, found, maps, page.targets, look, note, legend)
        ]
    elif found.shown is None:
        lines = functools.partial(_lines, found, classifier.preprocess)
        maps_drawn = [
            [lines(one, SIGNED if sign else look.colormap) for one in row]
            for row, sign in zip(shown, signs, strict=True)
        ]
        page = layout(lines(None, look.colormap), targets, methods, maps, maps_drawn)
        opaque = look._replace(alpha=1.0, fade=False)  # as lines are
        page = _called("series", in_one_column(page))
        seen = _seen_steps(classifier.preprocess, found)
        note = "" if seen == (0, *size) else "Grey: not seen by the network."
        ready = [
            _sheet(plan, page, methods, opaque, factor, signs, shared=shared, note=note, size=22)
        ]
    else:
        photo = spread(found.shown) if axes else found.shown
        size = _drawn_size(photo.size, panels=1 if look.only else 1 + maps[..., 0, 0].size)
        if size != photo.size:
            photo = photo.resize(size, Image.Resampling.LANCZOS)
        rows = _draw(photo, shown, signs, classifier, look)
        # A sheet needs all at once; single pictures are drawn when they are written.
        undrawn: list[Any] = [None] * len(targets)
        drawn = [undrawn if look.only else list(row) for row in rows]
        ready = rows[0]
        page = layout(photo, targets, methods, maps, drawn)
        if not look.only:
            factor = 1 if axes else enlargement(size)
            if axes:
                size, page = record.size, _called("input", page)
            panels = [
                panel if isinstance(panel, str) else _framed(panel, axes, factor)
                for panel in page.panels
            ]
            page = page._replace(panels=panels)
            ready = [_sheet(plan, page, methods, look, factor, signs, shared=shared)]
    classes = [_title(target) for target in targets]
    if len(pictures) < len(classes):
        classes = ["; ".join(classes)]
    for path, picture, title in zip(pictures, ready, classes, strict=True):
        text = _metadata(plan, methods, title, look)
        save(path, functools.partial(_write_picture, picture, path, text))
    if job.map:
        save(
            job.map,
            lambda file: _write_maps(page.heatmaps, classifier.preprocess, record.size, file),
        )
    measured = {name: one.metrics for name, one in record.results.items() if one.metrics}
    return {
        "size": list(record.size),
        "drawn": list(size),
        "enlarged": factor,
        "seen": _seen(classifier, record.size),
        "top": [describe(one) for one in record.top],
        "targets": page.targets,
        "boxes": [list(map(float, box)) for box in record.boxes],
        "metrics": measured,
        "unsure": not plan.targets.named and record.top[0].probability < _UNSURE,
        "notes": record.remarks,
        "interpolated": {
            name: one.interpolated for name, one in record.results.items() if one.interpolated
        },
        "outputs": list(map(str, pictures)),
        "map": str(job.map) if job.map else None,
    }


def _sheet(
    plan: Plan,
    page: Page,
    methods: Sequence[str],
    look: Look,
    factor: int,
    signs: Sequence[bool],
    *,
    shared: bool,
    note: str = "",
    size: int | None = None,
) -> Image.Image:
    small = _small_print(plan, methods, look, factor, shared=shared)
    return sheet(
        page.panels,
        page.titles,
        columns=page.columns,
        captions=page.captions,
        note=f"{small} {note}".strip(),
        legend=_legend(look, signs, shared=shared),
        size=size,
    )


def _framed(panel: Image.Image, axes: Sequence[Axis] | None, factor: int) -> Image.Image:
    return with_axes(panel, axes)[0] if axes else enlarged(panel, factor)


def _called(name: str, page: Page) -> Page:
    """The same where what is explained is no photograph."""
    return page._replace(titles=[name if one == _ITSELF else one for one in page.titles])


def _lines(found: Material, preprocess: Any, heatmap: Any, colormap: str) -> Image.Image:
    """A series, under a heatmap of the network's input if there is one."""
    whole = None if heatmap is None else preprocess.restore(heatmap, found.size)
    return draw_series(
        found.content, whole, colormap=colormap, rate=found.rate, names=found.names,
        seen=_seen_steps(preprocess, found),
    )  # fmt: skip


def _seen_steps(preprocess: Any, found: Material) -> tuple[int, int]:
    (steps,) = found.size
    return preprocess.span(steps)[0] if hasattr(preprocess, "span") else (0, steps)


def percent(probability: float) -> str:
    """A probability with one decimal, such as 94.3%."""
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"


def _title(target: dict[str, Any]) -> str:
    title = f"{short(target['name'])} {percent(target['probability'])}"
    return f"{title} rather than {short(target['rather_than'])}" if target["rather_than"] else title


def _small_print(
    plan: Plan, methods: Sequence[str], look: Look, factor: int, *, shared: bool
) -> str:
    """What a sheet tells of itself at its foot."""
    layers = ("layers " if plan.layers else "layer ") + _layers(plan, look)
    how = [_methods(plan, methods), look.network, layers]
    parts = ["; ".join(part for part in how if part)]
    if shared:
        parts.append("Each method's heatmaps are on one scale, for all classes and photographs.")
    if factor > 1:
        parts.append(f"Drawn at {factor} times its size, without smoothing.")
    return " ".join(f"{part.rstrip('.')}." for part in parts)


def _legend(look: Look, signed: Sequence[bool], *, shared: bool) -> Legend | None:
    """The colour bars of a sheet: of signs and of a shared scale always, else if asked for."""
    return legend_of(
        kinds_of(signed, look.colormap, wanted=look.colorbar or shared),
        alpha=look.alpha,
        fade=look.fade,
        highest="the strongest of a method's heatmaps" if shared else "",
    )


def _metadata(plan: Plan, methods: Sequence[str], title: str, look: Look) -> dict[str, str]:
    """What a picture's file tells of it."""
    told = {
        "Title": title,
        "Software": _software(),
        "Network": look.network,
        "Layer": _layers(plan, look),
        "Method": _methods(plan, methods),
        COMMAND: look.command,
    }
    return {name: text for name, text in told.items() if text}


def _methods(plan: Plan, names: Sequence[str]) -> str:
    """The methods themselves, where names tell their layers too."""
    return ", ".join(dict.fromkeys(plan.layers.get(name, (name,))[0] for name in names))


def _layers(plan: Plan, look: Look) -> str:
    if plan.layers:
        return ", ".join(dict.fromkeys(layer for _, layer in plan.layers.values()))
    earlier = look.layers - 1
    return f"{plan.classifier.layer}{f' and {earlier} before it' if earlier else ''}"


def _software() -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return f"scorecam_jax {importlib.metadata.version('scorecam_jax')}"
    return "scorecam_jax"


def _pictures(record: Record, job: Job, classifier: Classifier, guard: Guard) -> list[Path]:
    """The picture to write, or one for each class."""
    if not job.each:
        return [job.output]
    names = file_names(classifier.labels)
    stem = job.output.stem
    paths = [job.output.with_stem(f"{stem}-{names[one.index]}") for one in record.targets]
    for path in paths:
        guard.check(path, job.photo.path)
    return paths


def _relative(peaks: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Peaks as shares of each method's strongest, or of the scale."""
    strongest = (peaks.max(1) if scale is None else scale)[:, None]
    return np.divide(peaks, strongest, out=np.zeros_like(peaks), where=strongest > 0)


def _cells(record: Record) -> list[np.ndarray]:
    """Each method's heatmaps in the layer's cells, at the size of the network's input."""
    found = []
    for name, result in record.results.items():
        assert result.heatmaps is not None
        assert result.sums is not None  # as was checked beforehand
        try:
            pairs = zip(result.heatmaps, result.sums, strict=True)
            found.append(np.stack([pixelate(heatmap, sums) for heatmap, sums in pairs]))
        except ValueError as error:
            raise OutputError(f"--pixels: {name}: {error}; leave out --pixels") from error
    return found


def _seen(classifier: Classifier, size: Sequence[int]) -> list[float] | None:
    if len(size) != 2:
        return None
    return [float(edge) for edge in classifier.preprocess.box((size[0], size[1]))]


def _drawn_size(size: Sequence[int], panels: int) -> tuple[int, int]:
    """The size at which a photograph is drawn, so that the whole sheet fits in memory."""
    share = min(1.0, math.sqrt(MOST_PIXELS / (size[0] * size[1] * panels)))
    return max(1, int(size[0] * share)), max(1, int(size[1] * share))


def _draw(
    photo: Image.Image,
    heatmaps: np.ndarray,
    signed: Sequence[bool],
    classifier: Classifier,
    look: Look,
) -> list[Iterator[Image.Image]]:
    """The heatmaps by method, drawn one after the other to save memory."""
    preprocess = classifier.preprocess
    box = preprocess.box(photo.size)

    def draw(heatmap: np.ndarray, colormap: str) -> Image.Image:
        whole = preprocess.restore(heatmap, photo.size, nearest=look.pixels)
        if look.only == "heatmap":
            return transparent(whole, colormap=colormap, alpha=look.alpha)
        drawn = overlay(photo, whole, colormap=colormap, alpha=look.alpha, fade=look.fade)
        return mark_crop(drawn, box)

    return [
        map(functools.partial(draw, colormap=SIGNED if has_sign else look.colormap), row)
        for row, has_sign in zip(heatmaps, signed, strict=True)
    ]


def _write_picture(
    picture: Image.Image, path: Path, text: Mapping[str, str], file: BinaryIO
) -> None:
    lossy = path.suffix.lower() in (".jpg", ".jpeg", ".webp")
    # Pillow's default level of compression takes three times as long for a tenth of the size.
    how: dict[str, Any] = {"quality": 92} if lossy else {"compress_level": 3}
    if path.suffix.lower() == ".png":
        how["pnginfo"] = PngInfo()
        for name, value in text.items():
            how["pnginfo"].add_itxt(name, value)
    # Pillow does not notice when a full disk takes only a part of what it writes to a file.
    content = io.BytesIO()
    picture.save(content, Image.registered_extensions()[path.suffix.lower()], **how)
    file.write(content.getbuffer())


def _write_maps(heatmaps: np.ndarray, preprocess: Any, size: Sequence[int], file: BinaryIO) -> None:
    """Write heatmaps at the photograph's size in NumPy's format, one at a time to save memory."""
    # Pillow tells the width of a picture first; the sides of a volume are in the order of its axes.
    space = size[::-1] if len(size) == 2 else size
    lead = heatmaps.shape[: heatmaps.ndim - len(size)]
    header = {"descr": "<f4", "fortran_order": False, "shape": (*lead, *space)}
    np.lib.format.write_array_header_1_0(file, header)
    for heatmap in heatmaps.reshape(-1, *heatmaps.shape[len(lead) :]):
        file.write(preprocess.restore(heatmap, tuple(size)).astype("<f4").tobytes())


def _correlation(heatmap: np.ndarray, other: np.ndarray) -> float | None:
    """Pearson's correlation, or None if one of the heatmaps is constant."""
    if not (heatmap.max() > heatmap.min() and other.max() > other.min()):
        return None
    return float(correlation(jnp.asarray(heatmap), jnp.asarray(other)))
