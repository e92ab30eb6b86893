"""Heatmaps of photographs, each drawn in a picture of its own: what explain and compare share."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from scorecam_jax import models
from scorecam_jax.cli.common import (
    UserError,
    check_output,
    find_class,
    input_shape,
    load,
    open_photo,
    output_paths,
    percent,
    reported,
    save,
    translated,
)
from scorecam_jax.cli.progress import Progress
from scorecam_jax.visualize import mark_crop, overlay


class Job(NamedTuple):
    """One photograph and the files to be made of it."""

    photo: Path
    output: Path
    map: Path | None


class Found(NamedTuple):
    """What came of a photograph.

    Attributes:
        photo: upright, in RGB.
        targets: index, name and probability of each class explained.
        inputs_maps: the heatmaps of the network's input, (methods, targets, height, width).
        maps: the same at the photograph's own size.
        drawn: these laid over the photograph, by method and target.
    """

    photo: Image.Image
    targets: list[dict[str, Any]]
    inputs_maps: np.ndarray
    maps: np.ndarray
    drawn: list[list[Image.Image]]


class Page(NamedTuple):
    """What a command makes of it.

    Attributes:
        picture: the sheet.
        targets: what there is to tell of each target.
        maps: what `--save-map` saves.
    """

    picture: Image.Image
    targets: list[dict[str, Any]]
    maps: np.ndarray


def explain_photos(
    options: argparse.Namespace,
    methods: Mapping[str, Callable[..., Any]],
    *,
    ending: str,
    present: Callable[[Found], Page],
    remarks: Callable[[list[dict[str, Any]]], list[str]],
    asked: Mapping[str, Any],
) -> int:
    """Explain each photograph by each method.

    Args:
        options: as parsed.
        methods: called as `score_cam` is.
        ending: of the files' names, such as "-scorecam".
        present: makes the sheet.
        remarks: further lines to print, of a photograph's targets.
        asked: further options for the head of the JSON document.

    Returns:
        The exit status.
    """
    photos = options.photos
    outputs = output_paths(photos, options.output or ".", f"{ending}.png")
    maps: list[Any] = [None] * len(photos)
    if options.save_map:
        maps = output_paths(photos, options.save_map, f"{ending}.npy")
    jobs = list(map(Job, photos, outputs, maps))
    records = [_check(job, force=options.force) for job in jobs]
    todo = [pair for pair in zip(jobs, records, strict=True) if "error" not in pair[1]]
    layer = options.layer
    if todo:
        with Progress(len(todo), enabled=not options.quiet) as progress:
            progress.start("loading the model")
            classifier = load(options)
            layer = classifier.layer
            targets = [find_class(name, classifier.labels) for name in options.target]
            progress.start("compiling")
            run = _compile(classifier, methods, targets, options.top or int(not targets))
            for job, record in todo:
                progress.start(str(job.photo))
                with reported(record, progress):
                    record.update(_explain(job, run, classifier, present, options))
                    if not options.json:
                        progress.hide()
                        _print(record, remarks)
                progress.advance()
    if options.json:
        head = {"model": options.model, "layer": layer, **asked}
        print(json.dumps({**head, "photos": records}, indent=2))
    return 1 if any("error" in record for record in records) else 0


def _check(job: Job, *, force: bool) -> dict[str, Any]:
    """The record of a job to be done; with an `error` in it if it cannot be done."""
    record: dict[str, Any] = {"photo": str(job.photo)}
    with reported(record):
        open_photo(job.photo, header_only=True)
        for path in filter(None, (job.output, job.map)):
            check_output(path, job.photo, force=force)
    return record


def _compile(
    classifier: models.Classifier,
    methods: Mapping[str, Callable[..., Any]],
    targets: list[int],
    top: int,
) -> Callable[..., Any]:
    """The whole computation, compiled once for all photographs."""

    @jax.jit
    def run(model: Any, inputs: Any) -> Any:
        outputs, _ = model(inputs)
        likeliest = jax.lax.top_k(outputs, top)[1]
        classes = jnp.append(jnp.array([targets], likeliest.dtype), likeliest, axis=1)
        maps = [method(model, inputs, classes).heatmap[0] for method in methods.values()]
        return jnp.stack(maps), classes[0], jax.nn.softmax(outputs)[0]

    if top > len(classifier.labels):
        raise UserError(f"--top {top}: the model knows only {len(classifier.labels)} classes")
    inputs = jax.ShapeDtypeStruct(input_shape(classifier), "float32")
    try:
        return run.lower(classifier.model, inputs).compile()
    except (TypeError, ValueError) as error:
        raise translated(error) from error


def _explain(
    job: Job,
    run: Callable[..., Any],
    classifier: models.Classifier,
    present: Callable[[Found], Page],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Do a job; what there is to tell of it."""
    photo = open_photo(job.photo)
    inputs = classifier.preprocess(photo)[None]
    try:
        maps, targets, probabilities = map(np.asarray, run(classifier.model, inputs))
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"{error}\na smaller --batch-size needs less memory") from error

    def describe(index: Any) -> dict[str, Any]:
        probability = float(probabilities[index])
        return {"index": int(index), "name": classifier.labels[index], "probability": probability}

    # A class may be both asked for and among the likeliest.
    indices = list(dict.fromkeys(targets.tolist()))
    maps = maps[:, [targets.tolist().index(index) for index in indices]]
    restored = classifier.preprocess.restore(maps, photo.size)
    box = classifier.preprocess.box(photo.size)
    look = {name: getattr(options, name) for name in ("colormap", "alpha", "fade")}
    drawn = [
        [mark_crop(overlay(photo, heatmap, **look), box) for heatmap in heatmaps]
        for heatmaps in restored
    ]
    page = present(Found(photo, [describe(index) for index in indices], maps, restored, drawn))
    lossy = job.output.suffix.lower() in (".jpg", ".jpeg", ".webp")
    # Pillow's own level of compression takes three times as long for a tenth of the size.
    how: dict[str, Any] = {"quality": 92} if lossy else {"compress_level": 3}
    save(job.output, lambda path: page.picture.save(path, **how))
    if job.map:
        save(job.map, lambda path: np.save(path, page.maps))
    return {
        "size": list(photo.size),
        "seen": [float(edge) for edge in box],
        "top": [describe(index) for index in np.argsort(-probabilities, kind="stable")[:5]],
        "targets": page.targets,
        "output": str(job.output),
        "map": str(job.map) if job.map else None,
    }


def _print(record: dict[str, Any], remarks: Callable[[list[dict[str, Any]]], list[str]]) -> None:
    explained = {found["index"] for found in record["targets"]}
    likeliest = {found["index"] for found in record["top"]}
    rest = [found for found in record["targets"] if found["index"] not in likeliest]
    print(record["photo"])
    for found in [*record["top"], *rest]:
        mark = "*" if found["index"] in explained else " "
        print(f"  {mark} {percent(found['probability']):>6}  {found['name']} ({found['index']})")
    for line in remarks(record["targets"]):
        print(f"  {line}")
    for path in filter(None, (record["output"], record["map"])):
        print(f"  wrote {path}")
