"""Heatmaps of photographs, each drawn on a sheet of its own: what explain and compare share."""

import argparse
import contextlib
import functools
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from PIL import Image

from scorecam_jax import models
from scorecam_jax.cli.answers import Answer, Job, answers, check_outputs
from scorecam_jax.cli.beside import work_beside
from scorecam_jax.cli.choice import check_options, chosen, given
from scorecam_jax.cli.classes import find_class
from scorecam_jax.cli.errors import (
    UserError,
    complain,
    memory_told,
    percent,
    reported,
    say,
    short,
)
from scorecam_jax.cli.files import (
    is_folder,
    large_photos,
    open_photo,
    output_paths,
    pages_of,
    save,
)
from scorecam_jax.cli.loading import load
from scorecam_jax.cli.page import Found, Page
from scorecam_jax.cli.patience import is_exact, shortcut
from scorecam_jax.cli.programs import Programs, compile_programs
from scorecam_jax.cli.progress import Progress
from scorecam_jax.engine.tuning import inputs_together
from scorecam_jax.visualize import mark_crop, overlay, sheet, transparent

# What can be written with an opacity for each pixel.
_TRANSPARENT = (".png", ".webp", ".tif", ".tiff")

# A larger sheet takes more than about 1.5 GB to draw.
_MOST_PIXELS = 50_000_000


# While a sheet of so many pixels is drawn.
_MOST_THREADS = 4

# A best class below this is no more than a guess.
_UNSURE = 0.2


def explain_photos(
    options: argparse.Namespace,
    methods: Sequence[str],
    *,
    ending: str,
    present: Callable[[Found], Page],
    remarks: Callable[[list[dict[str, Any]]], list[str]],
    head: Mapping[str, Any],
) -> int:
    """Explain each photograph by each method.

    Args:
        options: as parsed.
        methods: by name; see `choice.named`.
        ending: of the files' names, such as "-scorecam".
        present: makes the page.
        remarks: further lines to print about a photograph's targets.
        head: what the JSON document begins with, besides model, layer and options.

    Returns:
        The exit status.

    Raises:
        UserError: the options do not fit together, the network, or its classes.
    """
    check_options(options, methods)
    only = getattr(options, "only", None)
    if only:
        _check_only(only, options)
    photos = [one for path in options.photos for one in pages_of(path, options.page)]
    outputs = output_paths(photos, options.output or ".", f"{ending}.png")
    maps: list[Any] = [None] * len(photos)
    if options.save_map:
        maps = output_paths(photos, options.save_map, f"{ending}.npy")
    each = bool(only) and is_folder(options.output or ".")
    jobs = [Job(*paths, each) for paths in zip(photos, outputs, maps, strict=True)]
    records = [_check(job, options) for job in jobs]
    todo = [pair for pair in zip(jobs, records, strict=True) if "error" not in pair[1]]
    layer = options.layer
    if todo:
        with Progress(len(todo), enabled=not options.quiet) as progress:
            progress.start("loading the model")
            classifier = load(options.model, options.weights, layer=options.layer)
            layer = classifier.layer
            targets = [find_class(name, classifier.labels) for name in options.target]
            _check_contrast(options, classifier, targets)
            progress.start("compiling")
            by_name = {name: chosen(options, name, classifier) for name in methods}

            def compiled(size: int) -> Programs:
                top = options.top or int(not targets)
                with memory_told():
                    return compile_programs(classifier, by_name, targets, top, size)

            programs = compiled(inputs_together(len(todo)))
            if options.pixels:
                _check_pixels(programs)
            if any(map(is_exact, by_name.values())) and not options.quiet:
                _tell_if_slow(todo[0][0], programs, classifier, options, progress)
            asked = answers(
                [job for job, _ in todo],
                programs,
                lambda: compiled(1),
                classifier,
                options,
                progress,
            )
            with large_photos(), contextlib.closing(asked):
                threads = min(_MOST_THREADS, programs.size)
                _draw_all(todo, asked, threads, classifier, present, remarks, options, progress)
    if options.json:
        about = {"model": options.model, "layer": layer, **head, **given(options)}
        say(json.dumps({**about, "photos": records}, indent=2))
    return 1 if any("error" in record for record in records) else 0


def _draw_all(
    todo: Sequence[tuple[Job, dict[str, Any]]],
    asked: Iterable[Answer | UserError],
    threads: int,
    classifier: models.Classifier,
    present: Callable[[Found], Page],
    remarks: Callable[[list[dict[str, Any]]], list[str]],
    options: argparse.Namespace,
    progress: Progress,
) -> None:
    """Draw the pages in threads while the network answers, and tell of them in order."""
    scale = None
    if options.scale == "shared":
        asked = list(asked)
        strongest = [one.peaks.max(1) for one in asked if isinstance(one, Answer)]
        scale = np.max(strongest, axis=0) if strongest else None

    def draw(item: tuple[Any, Answer | UserError]) -> dict[str, Any]:
        (job, _), answer = item
        if isinstance(answer, UserError):
            raise answer
        with memory_told():
            return _draw_page(job, answer, scale, classifier, present, options)

    def tell(item: tuple[Any, Answer | UserError], drawn: Future[dict[str, Any]]) -> None:
        (_, record), _ = item
        with reported(record, progress):
            record.update(drawn.result())
            if not options.json:
                progress.hide()
                _print(record, remarks)

    work_beside(zip(todo, asked, strict=True), draw, tell, threads=threads)


def _tell_if_slow(
    job: Job,
    programs: Programs,
    classifier: models.Classifier,
    options: argparse.Namespace,
    progress: Progress,
) -> None:
    # What is wrong with the photograph is told when it is explained.
    with contextlib.suppress(UserError, MemoryError, jax.errors.JaxRuntimeError):
        photo = open_photo(job.photo.path, window=options.window, page=job.photo.page)
        inputs = classifier.preprocess(photo)[None]
        advice = shortcut(programs.predict, classifier.model, inputs)
        if advice:
            progress.hide()
            complain(advice)


def _check_only(only: str, options: argparse.Namespace) -> None:
    """Refuse what does not go with a picture of each class."""
    if only == "heatmap" and not options.fade:
        raise UserError(
            "--only heatmap is as opaque as the heatmap is high: leave out --no-fade, or ask for "
            "--only overlay"
        )
    out = options.output or "."
    if is_folder(out):
        return
    path = Path(out)
    classes = len(set(options.target)) + (options.top or int(not options.target))
    if classes > 1:
        raise UserError(
            f"{out!r} is one file for the pictures of {classes} classes; name a folder, such as "
            f"{path.with_suffix('')}/"
        )
    if only == "heatmap" and path.suffix.lower() not in _TRANSPARENT:
        raise UserError(
            f"a transparent picture cannot be written as {path.suffix}; name "
            f"{path.with_suffix('.png')}, or .webp or .tif"
        )


def _check_pixels(programs: Programs) -> None:
    """Refuse methods whose maps are not sums of the layer's."""
    for name, program in programs.methods.items():
        tree: Any = program.out_tree
        if jax.tree.unflatten(tree, [True] * tree.num_leaves).weights is None:
            raise UserError(
                f"--pixels: {name} does not make its map by weighting the layer's maps, so it has "
                "no cells of the layer; leave out --pixels, or choose another method"
            )


def _check(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """The record of a job to be done; with an `error` in it if it cannot be done."""
    record: dict[str, Any] = {"photo": job.photo.name}
    with reported(record):
        open_photo(job.photo.path, header_only=True, page=job.photo.page)
        pictures = [] if job.each else [job.output]
        check_outputs(job, [*pictures, *filter(None, [job.map])], options)
    return record


def _check_contrast(
    options: argparse.Namespace, classifier: models.Classifier, targets: Sequence[int]
) -> None:
    if options.rather_than is not None:
        other = find_class(options.rather_than, classifier.labels)
        if other in targets:
            raise UserError(
                f"--rather-than {options.rather_than} is also a --target: nothing tells a class "
                "from itself"
            )


def _draw_page(
    job: Job,
    answer: Answer,
    scale: np.ndarray | None,
    classifier: models.Classifier,
    present: Callable[[Found], Page],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Draw and write what was found; return what there is to tell of it.

    `scale` holds the peak that each method's heatmaps are drawn in relation to; None: its own.
    """
    probabilities, maps, peaks = answer.probabilities, answer.heatmaps, answer.peaks
    shown = maps if answer.cells is None else answer.cells
    only = getattr(options, "only", None)
    strongest = peaks.max(1) if scale is None else scale
    relative = np.divide(
        peaks, strongest[:, None], out=np.zeros_like(peaks), where=strongest[:, None] > 0
    )
    if scale is not None:
        maps, shown = (values * relative[..., None, None] for values in (maps, shown))

    def describe(index: Any) -> dict[str, Any]:
        probability = float(probabilities[index])
        name = classifier.labels[index]
        return {"index": int(index), "name": name, "probability": probability}

    photo = open_photo(job.photo.path, window=options.window, page=job.photo.page)
    whole_size = photo.size
    size = _drawn_size(whole_size, panels=1 if only else 1 + maps[..., 0, 0].size)
    if size != whole_size:
        photo = photo.resize(size, Image.Resampling.LANCZOS)
    pictures = _draw(photo, shown, answer.signed, classifier.preprocess, options)
    # A sheet needs all at once; single pictures are drawn when they are written.
    drawn = [[] if only else list(row) for row in pictures]
    targets = [
        {
            **describe(index),
            "peaks": relative[:, place].tolist(),
            "findings": answer.findings[place],
        }
        for place, index in enumerate(answer.indices)
    ]
    page = present(Found(photo, targets, maps, drawn))
    ready: Iterable[Image.Image] = pictures[0]
    if not only:
        ready = [sheet(page.panels, page.titles, columns=page.columns, row_labels=page.row_labels)]
    for path, picture in zip(answer.pictures, ready, strict=True):
        save(path, functools.partial(_write_picture, picture, path))
    if job.map:
        save(
            job.map,
            lambda file: _write_maps(page.heatmaps, classifier.preprocess, whole_size, file),
        )
    return {
        "size": list(whole_size),
        "drawn": list(size),
        "seen": [float(edge) for edge in classifier.preprocess.box(whole_size)],
        "top": [describe(index) for index in np.argsort(-probabilities, kind="stable")[:5]],
        "targets": page.targets,
        "unsure": not options.target and bool(probabilities.max() < _UNSURE),
        "notes": answer.notes,
        "interpolated": answer.interpolated,
        "outputs": list(map(str, answer.pictures)),
        "map": str(job.map) if job.map else None,
    }


def _drawn_size(size: tuple[int, int], panels: int) -> tuple[int, int]:
    """The size at which a photograph is drawn, so that the whole sheet fits in memory."""
    share = min(1.0, math.sqrt(_MOST_PIXELS / (size[0] * size[1] * panels)))
    return max(1, int(size[0] * share)), max(1, int(size[1] * share))


def _draw(
    photo: Image.Image,
    heatmaps: np.ndarray,
    signed: Sequence[bool],
    preprocess: models.Preprocess,
    options: argparse.Namespace,
) -> list[Iterator[Image.Image]]:
    """The heatmaps by method, drawn one after the other to save memory."""
    box = preprocess.box(photo.size)

    def draw(heatmap: np.ndarray, colormap: str) -> Image.Image:
        whole = preprocess.restore(heatmap, photo.size, nearest=options.pixels)
        if getattr(options, "only", None) == "heatmap":
            return transparent(whole, colormap=colormap, alpha=options.alpha)
        drawn = overlay(photo, whole, colormap=colormap, alpha=options.alpha, fade=options.fade)
        return mark_crop(drawn, box)

    return [
        map(functools.partial(draw, colormap="signed" if has_sign else options.colormap), row)
        for row, has_sign in zip(heatmaps, signed, strict=True)
    ]


def _write_picture(picture: Image.Image, path: Path, file: BinaryIO) -> None:
    lossy = path.suffix.lower() in (".jpg", ".jpeg", ".webp")
    # Pillow's default level of compression takes three times as long for a tenth of the size.
    how: dict[str, Any] = {"quality": 92} if lossy else {"compress_level": 3}
    # Pillow does not notice when a full disk takes only a part of what it writes to a file.
    content = io.BytesIO()
    picture.save(content, Image.registered_extensions()[path.suffix.lower()], **how)
    file.write(content.getbuffer())


def _write_maps(
    heatmaps: np.ndarray, preprocess: models.Preprocess, size: tuple[int, int], file: BinaryIO
) -> None:
    """Write heatmaps at the photograph's size in NumPy's format, one at a time to save memory."""
    *lead, height, width = heatmaps.shape
    header = {"descr": "<f4", "fortran_order": False, "shape": (*lead, size[1], size[0])}
    np.lib.format.write_array_header_1_0(file, header)
    for heatmap in heatmaps.reshape(-1, height, width):
        file.write(preprocess.restore(heatmap, size).astype("<f4").tobytes())


def _print(record: dict[str, Any], remarks: Callable[[list[dict[str, Any]]], list[str]]) -> None:
    explained = {found["index"] for found in record["targets"]}
    likeliest = {found["index"] for found in record["top"]}
    rest = [found for found in record["targets"] if found["index"] not in likeliest]
    lines = [record["photo"]]
    for found in [*record["top"], *rest]:
        mark = "*" if found["index"] in explained else " "
        lines.append(
            f"  {mark} {percent(found['probability']):>6}  {found['name']} ({found['index']})"
        )
    lines += [f"  {line}" for line in record["notes"]]
    if record["unsure"]:
        best = percent(record["top"][0]["probability"])
        lines.append(
            f"  the network is unsure: it gives its best class {best}; --target names another"
        )
    lines += [f"  {line}" for line in remarks(record["targets"])]
    lines += [f"  {line}" for line in _doubts(record["targets"])]
    lines += [
        f"  {name} scored {told['scored']} of {told['channels']} channels: standard deviation of "
        f"the heatmap at most {told['deviation']:.2f}"
        for name, told in record["interpolated"].items()
    ]
    if record["drawn"] != record["size"]:
        size, drawn = (" x ".join(map(str, record[name])) for name in ("size", "drawn"))
        lines.append(f"  drawn at {drawn} instead of {size} pixels, to save memory")
    lines += [f"  wrote {path}" for path in filter(None, (*record["outputs"], record["map"]))]
    say("\n".join(lines))


def _doubts(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    """What `diagnose` found, in lines. That a heatmap is empty has been told."""
    return [
        f"{short(target['name'])} by {', '.join(finding['methods'])}: {finding['text']}"
        for target in targets
        for finding in target["findings"]
        if finding["kind"] != "empty"
    ]
