"""Shared by commands on photographs: loading the network, planning, drawing heatmaps."""

import argparse
import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scorecam_jax import models
from scorecam_jax._internal.files import digest
from scorecam_jax._internal.signatures import accepts
from scorecam_jax._internal.text import short
from scorecam_jax.cli.choice import check_options, chosen, given, named
from scorecam_jax.cli.errors import (
    UserError,
    at_the_terminal,
    complain,
    complain_of,
    reported,
    say,
    translated,
)
from scorecam_jax.cli.progress import Progress
from scorecam_jax.cli.system import raise_if_stopped
from scorecam_jax.engine.tuning import inputs_together
from scorecam_jax.methods.several import layers_of
from scorecam_jax.models.checkpoints.folder import stored
from scorecam_jax.models.checkpoints.hub import fetched, is_address
from scorecam_jax.models.own import is_own
from scorecam_jax.models.prompts import TOKENIZER
from scorecam_jax.reading import Note, ReadingError, Takes, check_picture
from scorecam_jax.reading.labels import find_class
from scorecam_jax.study import questions
from scorecam_jax.study.beside import work_beside
from scorecam_jax.study.choosing import RULES
from scorecam_jax.study.cost import advice
from scorecam_jax.study.drawing import Job, Layout, draw, percent
from scorecam_jax.study.journal import Journal
from scorecam_jax.study.layers import by_layer, every_layer
from scorecam_jax.study.look import Look
from scorecam_jax.study.outputs import Guard, OutputError, is_folder, output_paths
from scorecam_jax.study.pipeline import Plan, Wait, out_of_memory, records
from scorecam_jax.study.programs import Programs
from scorecam_jax.study.record import Record
from scorecam_jax.study.registry import LOCALIZATION, named_metrics
from scorecam_jax.study.study import (
    Listed,
    Study,
    asked_targets,
    conduct,
    with_boxes,
    without_repeats,
)

# What can be written with an opacity for each pixel.
_TRANSPARENT = (".png", ".webp", ".tif", ".tiff")

# While a sheet of 50 million pixels is drawn.
_MOST_THREADS = 4


def load(
    asked: argparse.Namespace,
    *,
    layer: str | None = None,
    layers: int | None = None,
    dtype: str | None = None,
    or_random: bool = False,
    any_weights: bool = False,
) -> models.Classifier:
    """Load the requested classifier.

    Args:
        asked: the options, with the network's name, its weights and its labels. A name that was
            not given is set; and so is the folder of weights that were fetched.
        layer: to explain; None: its usual layer.
        layers: how many to explain together, with that one.
        dtype: to run it in.
        or_random: initialise a network without weights at random.
        any_weights: do so unless weights are named, though a package may have some.

    Raises:
        UserError: it cannot be loaded, or its weights are not finite.
    """
    name, weights = asked.model, asked.weights
    if name and ":" in name and not {"", str(Path.cwd())} & set(sys.path):
        # A function of the user's own is sought where the command runs, as `python -m` does.
        sys.path.insert(0, str(Path.cwd()))
    asks = getattr(asked, "like", None) or getattr(asked, "classes", None)
    told = {"labels": asked.labels, "size": asked.size, "embedding": bool(asks) or None}
    told = {option: value for option, value in told.items() if value is not None}
    try:
        if not asks and (name is None or models.takes_prompts(name)) and _prompts(asked):
            told["prompts"] = functools.partial(_prompts_of, _prompts(asked))
        if is_address(weights):
            beside = TOKENIZER if "prompts" in told else ()
            weights = asked.weights = fetched(weights, beside).weights.parent
        if not weights and (any_weights or (or_random and not models.packaged_weights(name))):
            classifier = models.random(name, layer, dtype, size=asked.size)
        else:
            classifier = models.load(name, weights, layer=layer, dtype=dtype, **told)
    except (ImportError, LookupError, OSError, TypeError, ValueError) as error:
        raise translated(error) from error
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"{name or weights} is too large for this machine's memory") from error
    asked.model = name or classifier.name
    _check_finite(classifier.model, weights or name)
    with translating():
        if layers is not None and layers > 1:
            classifier = classifier.with_layers(layers)
        if getattr(asked, "precision", None):
            classifier = classifier.with_bfloat16_products()
    return classifier


def fused(asked: argparse.Namespace) -> int | None:
    """How many layers are fused; None: one, or several that are explained one by one."""
    return asked.layers if isinstance(asked.layers, int) else None


def _prompts(asked: argparse.Namespace) -> list[str]:
    """CLIP's classes as texts: those to explain, and those to contrast them with."""
    targets = [text for text in getattr(asked, "target", None) or [] if text not in RULES]
    other = getattr(asked, "rather_than", None)
    return list(dict.fromkeys([*targets, *filter(None, [other])]))


def _prompts_of(texts: list[str], network: str) -> list[str] | None:
    """The texts, of a network that takes any."""
    return texts if models.takes_prompts(network) else None


def input_shape(classifier: models.Classifier) -> tuple[int, ...]:
    """The shape of a batch of one."""
    return 1, *classifier.input_shape


@contextlib.contextmanager
def translating() -> Any:
    """Turn the library's errors about the request into a `UserError`."""
    try:
        yield
    except (OutputError, OSError, TypeError, ValueError) as error:
        raise translated(error) from error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"out of memory: {error}\na smaller --batch-size needs less memory"
        ) from error


def listed(asked: argparse.Namespace, classifier: models.Classifier | None = None) -> Listed:
    """The photographs, volumes or series that the options name, with their annotations.

    Args:
        asked: the options.
        classifier: what it takes is listed. None: what the network that is asked for takes, or, of
            a network of the user's own, which is not loaded yet, whatever can be read.
    """
    takes: Takes | None = "pictures"
    if classifier or is_own(asked.model or ""):
        takes = classifier.takes if classifier else None
    with translating():
        found = Listed(asked.photos, asked.boxes, page=asked.page, takes=takes)
        if not found.sources:
            what = "photographs" if takes in ("pictures", None) else takes
            raise UserError(f"there are no {what} in {', '.join(map(str, asked.photos))}")
        if "annotated" in asked.target and not found.annotations:
            raise UserError("--target annotated: name the file of annotations with --boxes")
        return found


def inputs_of(asked: argparse.Namespace, found: Listed) -> list[Path]:
    """The files that this call reads."""
    questions = (asked.like, *_files_in(asked.others), *_files_in(asked.classes))
    paths = (*_weights_files(asked), asked.labels, found.boxes, *questions)
    return [*(one.path for one in found.sources), *filter(None, paths)]


def _weights_files(asked: argparse.Namespace) -> tuple[Path, ...]:
    """The files of the weights that were named; none if they cannot be found."""
    if asked.weights and not is_address(asked.weights):
        with contextlib.suppress(OSError, ValueError):
            return stored(asked.weights).files
    return ()


def plan_of(
    asked: argparse.Namespace,
    methods: Sequence[str],
    classifier: models.Classifier,
    found: Listed,
    *,
    metrics: Sequence[str] | None = None,
    maps: bool,
) -> Plan:
    """The request as a plan; notes on it are added to the remarks."""
    if metrics is None:
        metrics = LOCALIZATION if found.annotations else ()
    with translating():
        classifier = _put(asked, classifier, found)
        top = getattr(asked, "top", None)
        wanted = asked.target or (["0"] if asked.like and not top else [])
        targets = asked_targets(wanted, top, classifier.labels)
        other = _contrasted(asked, classifier, targets.named)
        _check_fusion(asked, classifier)
        wanted = {name: chosen(asked, name, classifier) for name in methods}
        layers: dict[str, tuple[str, str]] = {}
        if asked.layers is not None and fused(asked) is None:
            paths = every_layer(classifier) if asked.layers == "all" else asked.layers
            wanted, layers = by_layer(wanted, paths)
        return Plan(
            classifier=classifier,
            methods=wanted,
            layers=layers,
            metrics=with_boxes(named_metrics(metrics), bool(found.annotations)),
            targets=targets,
            annotations=found.annotations,
            window=asked.window,
            batch_size=asked.batch_size,
            signed=frozenset(
                name
                for name in wanted
                if asked.signed and accepts(named(layers.get(name, (name,))[0]), "variant")
            ),
            maps=maps,
            rather_than=other,
        )


def _put(
    asked: argparse.Namespace, classifier: models.Classifier, found: Listed
) -> models.Classifier:
    """The classifier for --like or --classes, if one of them is given."""
    if asked.like and asked.classes:
        raise UserError("--like and --classes: give one of the two")
    if asked.others and not asked.like:
        raise UserError("--others are contrasted with the photograph of --like: give it too")
    if asked.save_classes and not asked.classes:
        raise UserError("--save-classes keeps what was learnt of --classes: give them too")
    if asked.like:
        explained = [source.path for source in found.sources]
        question = questions.like(classifier, asked.like, asked.others, explained)
    elif asked.classes:
        question = questions.of_examples(classifier, asked.classes)
    elif classifier.labels:
        return classifier
    else:
        raise UserError(
            f"{asked.model} has no classes: its outputs are an embedding. Ask what makes a "
            "photograph like another, --like PHOTO, or give a folder of a few photographs for "
            "each class, --classes DIR"
        )
    found.remarks.extend(question.left_out)
    head = question.head
    if head:
        found.remarks.append(
            Note(
                str(asked.classes),
                f"{len(head.labels)} classes of {head.examples} photographs, of which "
                f"{head.accuracy:.0%} are recognised by what is learnt of all the others",
            )
        )
        if asked.save_classes:
            Guard(inputs_of(asked, found), force=asked.force).check(asked.save_classes)
            head.save(asked.save_classes)
    return question.classifier


def _files_in(place: Path | None) -> list[Path]:
    """A file, or those in a folder."""
    if place is None or not place.is_dir():
        return [place] if place else []
    return sorted(path for path in place.rglob("*") if path.is_file())


def settings_of(
    asked: argparse.Namespace, classifier: models.Classifier, found: Listed
) -> dict[str, Any]:
    """The settings that results depend on, apart from the photographs."""
    # The number of masked images per pass changes no figure.
    how = {name: value for name, value in given(asked).items() if name != "batch-size"}
    return {
        "model": asked.model,
        "weights": _weights_digest(asked),
        "layer": classifier.layer,
        "layers": asked.layers,
        "target": asked.target,
        "top": getattr(asked, "top", None),
        "window": asked.window,
        "page": asked.page,
        "boxes": found.digest(),
        "preprocess": str(classifier.preprocess),
        **({"precision": asked.precision} if asked.precision else {}),
        **({"question": _question_digest(asked)} if asked.like or asked.classes else {}),
        **how,
    }


def following(progress: Progress) -> Callable[[int, int, str], None]:
    """A callback between heatmaps: shows progress and notices signals."""

    def step(done: int, total: int, task: str) -> None:
        raise_if_stopped()
        progress.follow(done, total, task)

    return step


def announcing(
    asked: argparse.Namespace, plan: Plan, photographs: int, progress: Progress
) -> Callable[[Wait], None] | None:
    """A callback that announces a long wait; None with --quiet."""
    if asked.quiet:
        return None

    def announce(wait: Wait) -> None:
        text = advice(
            {name: plan.methods[name] for name in plan.run},
            live=wait.live,
            seconds=wait.seconds,
            targets=plan.targets.each,
            photographs=photographs,
        )
        if text:
            progress.hide()
            complain(text)

    return announce


def conducted(
    asked: argparse.Namespace, plan: Plan, found: Listed, journal: Journal, progress: Progress
) -> Study:
    """Carry out a plan and keep its records."""
    return conduct(
        plan,
        found.sources,
        found.left_out,
        found.remarks,
        journal=journal,
        progress=following(progress),
        announce=announcing(asked, plan, len(found.sources), progress),
    )


def draw_photos(
    asked: argparse.Namespace,
    methods: Sequence[str],
    *,
    ending: str,
    layout: Layout,
    remarks: Callable[[list[dict[str, Any]]], list[str]],
    head: Mapping[str, Any],
) -> int:
    """Explain each photograph by each method, and draw it.

    Args:
        asked: the options as parsed.
        methods: by name; see `choice.named`.
        ending: of the files' names, such as "-scorecam".
        layout: of the sheets.
        remarks: further lines to print about a photograph's targets.
        head: further entries at the start of the JSON document.

    Returns:
        The exit status.

    Raises:
        UserError: the options do not fit together, the network, or its classes.
    """
    check_options(asked, methods)
    # Once, for both of the photographs that --like explains.
    loaded = functools.cache(lambda: load(asked, layer=asked.layer, layers=fused(asked)))
    drawn = functools.partial(
        _drawn, methods=methods, ending=ending, layout=layout, remarks=remarks, head=head,
        loaded=loaded,
    )  # fmt: skip
    document = drawn(asked)
    if asked.like and len(asked.photos) == len(document["photos"]) == 1:
        again = _the_other_way(asked, document["photos"][0], ending)
        if again:
            other = drawn(again)
            for name in ("photos", "left_out"):
                document[name] += other[name]
    if asked.json:
        say(json.dumps(document, indent=2))
    return int(bool(document["left_out"]) or any("error" in one for one in document["photos"]))


def _the_other_way(
    asked: argparse.Namespace, document: Mapping[str, Any], ending: str
) -> argparse.Namespace | None:
    """The plan that explains the photograph of --like by its likeness to the explained one."""
    (photo,) = asked.photos
    if "error" in document or photo.is_dir() or photo.resolve() == asked.like.resolve():
        return None
    again = argparse.Namespace(**vars(asked))
    again.photos, again.like, again.boxes = [asked.like], photo, None
    for name, suffix in (("output", ".png"), ("save_map", ".npy")):
        place = getattr(asked, name)
        if place and not is_folder(place):
            stem = f"{asked.like.stem}{ending}"
            setattr(again, name, str(Path(place).with_name(stem + (Path(place).suffix or suffix))))
    return again


def _drawn(
    asked: argparse.Namespace,
    methods: Sequence[str],
    ending: str,
    layout: Layout,
    remarks: Callable[[list[dict[str, Any]]], list[str]],
    head: Mapping[str, Any],
    loaded: Callable[[], models.Classifier],
) -> dict[str, Any]:
    """Explain and draw; return the document for --json."""
    only = getattr(asked, "only", None)
    if only:
        _check_only(only, asked)
    if only and asked.colorbar:
        raise UserError("--colorbar belongs to a sheet: leave out --only, or --colorbar")
    look = Look(
        asked.colormap, asked.alpha, asked.fade, asked.pixels, only, asked.colorbar,
        command=asked.command,
    )  # fmt: skip
    found = listed(asked)
    jobs, guard = _jobs(asked, found, ending)
    documents = [_check(job, guard) for job in jobs]
    todo = [pair for pair in zip(jobs, documents, strict=True) if "error" not in pair[1]]
    _tell(found.left_out)
    layer = asked.layer
    if todo:
        with Progress(len(todo), enabled=not asked.quiet) as progress:
            progress.start("loading the model")
            classifier = loaded()
            look = look._replace(network=asked.model or "", layers=fused(asked) or 1)
            layer = classifier.layer
            if classifier.takes != "pictures" or is_own(asked.model or ""):
                found = listed(asked, classifier)
                jobs, guard = _jobs(asked, found, ending)
                documents = [_check(job, guard) for job in jobs]
                pairs = zip(jobs, documents, strict=True)
                todo = [pair for pair in pairs if "error" not in pair[1]]
            plan = plan_of(asked, methods, classifier, found, maps=True)
            with translating():
                plan, same = without_repeats(plan)
            progress.start("compiling")
            programs = _compiled(plan, len(todo), pixels=asked.pixels)
            _tell([*found.remarks, *same], progress)
            made = records(
                plan,
                [job.photo for job, _ in todo],
                programs=programs,
                progress=following(progress),
                announce=announcing(asked, plan, len(todo), progress),
            )
            with contextlib.closing(made):
                _draw_all(todo, made, plan, look, layout, guard, remarks, asked, progress)
    about = {
        "model": asked.model,
        "layer": layer,
        "layers": asked.layers,
        **head,
        **given(asked),
    }
    left_out = [note._asdict() for note in found.left_out]
    return {**about, "photos": documents, "left_out": left_out}


def _jobs(asked: argparse.Namespace, found: Listed, ending: str) -> tuple[list[Job], Guard]:
    """The files to make of each photograph."""
    only = getattr(asked, "only", None)
    with translating():
        outputs = output_paths(found.sources, asked.output or ".", f"{ending}.png")
        maps: list[Any] = [None] * len(outputs)
        if asked.save_map:
            maps = output_paths(found.sources, asked.save_map, f"{ending}.npy")
    each = bool(only) and is_folder(asked.output or ".")
    guard = Guard(inputs_of(asked, found), force=asked.force)
    return [Job(*paths, each) for paths in zip(found.sources, outputs, maps, strict=True)], guard


def _check(job: Job, guard: Guard) -> dict[str, Any]:
    """The document of a job; it has an `error` if the job cannot be done."""
    document: dict[str, Any] = {"photo": job.photo.name}
    with reported(document):
        try:
            check_picture(job.photo)
            pictures = [] if job.each else [job.output]
            for path in (*pictures, *filter(None, [job.map])):
                guard.check(path, job.photo.path)
        except (ReadingError, OutputError) as error:
            raise UserError(str(error)) from error
    return document


def _compiled(plan: Plan, photographs: int, *, pixels: bool) -> Programs:
    """The programs, compiled before any photograph is read."""
    programs = plan.programs()
    with translating():
        size = inputs_together(photographs)
        programs.prepare(plan.classifier.model, plan.shape, plan.targets.each, size)
    for method in plan.run if pixels else ():
        if programs.fuses(method):
            raise UserError("--pixels: a map of several layers has cells of none: --layers 1 has")
        if not programs.weights_maps(method):
            raise UserError(
                f"--pixels: {method} does not make its map by weighting the layer's maps, so it "
                "has no cells of the layer; leave out --pixels, or choose another method"
            )
    return programs


def _draw_all(
    todo: Sequence[tuple[Job, dict[str, Any]]],
    made: Iterable[Record | Note],
    plan: Plan,
    look: Look,
    layout: Layout,
    guard: Guard,
    remarks: Callable[[list[dict[str, Any]]], list[str]],
    asked: argparse.Namespace,
    progress: Progress,
) -> None:
    """Draw the pages in threads while the network runs, and report them in order."""
    scale = None
    if asked.scale == "shared":
        made = list(_translated(made))
        peaks = [
            [max(result.peaks) for result in one.results.values()]
            for one in made
            if isinstance(one, Record)
        ]
        scale = np.max(peaks, axis=0) if peaks else None

    def draw_one(item: tuple[Any, Record | Note]) -> dict[str, Any]:
        (job, _), found = item
        if isinstance(found, Note):
            raise UserError(at_the_terminal(found.why))
        with translating():
            return draw(plan, found, job, look, layout, guard, scale)

    def tell(item: tuple[Any, Record | Note], drawn: Future[dict[str, Any]]) -> None:
        (_, document), found = item
        with reported(document, progress):
            document.update(drawn.result())
            if not asked.json:
                progress.hide()
                _print(document, remarks)
        if isinstance(found, Record):
            _tell(found.left_out, progress)

    threads = min(_MOST_THREADS, inputs_together(len(todo)))
    work_beside(zip(todo, _translated(made), strict=True), draw_one, tell, threads=threads)


def _translated(made: Iterable[Record | Note]) -> Iterator[Record | Note]:
    """Yield the records; errors in the request are worded for the terminal."""
    with translating():
        yield from made


def _tell(notes: Sequence[Note], progress: Progress | None = None) -> None:
    if notes and progress:
        progress.hide()
    complain_of(notes)


def _print(document: dict[str, Any], remarks: Callable[[list[dict[str, Any]]], list[str]]) -> None:
    explained = {found["index"] for found in document["targets"]}
    likeliest = {found["index"] for found in document["top"]}
    rest = [found for found in document["targets"] if found["index"] not in likeliest]
    lines = [document["photo"]]
    for found in [*document["top"], *rest]:
        mark = "*" if found["index"] in explained else " "
        lines.append(
            f"  {mark} {percent(found['probability']):>6}  {found['name']} ({found['index']})"
        )
    other = document["targets"][0]["rather_than"]
    if other:
        lines.append(f"  explained: why * rather than {short(other)}")
    lines += [f"  {line}" for line in document["notes"]]
    if document["unsure"]:
        best = percent(document["top"][0]["probability"])
        lines.append(
            f"  the network is unsure: it gives its best class {best}; --target names another"
        )
    lines += [f"  {line}" for line in remarks(document["targets"])]
    lines += [f"  {line}" for line in _doubts(document["targets"])]
    lines += [
        f"  {name} scored {told['scored']} of {told['channels']} channels: standard deviation of "
        f"the heatmap at most {told['deviation']:.2f}"
        for name, told in document["interpolated"].items()
    ]
    lines += [
        f"  {name}: " + ", ".join(f"{metric} {value:.3f}" for metric, value in values.items())
        for name, values in document["metrics"].items()
        if document["boxes"] and None not in values.values()
    ]
    if document["drawn"] != document["size"]:
        size, drawn = (" x ".join(map(str, document[name])) for name in ("size", "drawn"))
        lines.append(f"  drawn at {drawn} instead of {size} pixels, to save memory")
    if document["enlarged"] > 1:
        lines.append(f"  drawn at {document['enlarged']} times its size, without smoothing")
    lines += [f"  wrote {path}" for path in filter(None, (*document["outputs"], document["map"]))]
    say("\n".join(lines))


def _doubts(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    """The findings of `diagnose`, as lines; empty heatmaps are reported elsewhere."""
    return [
        f"{short(target['name'])} by {', '.join(finding['methods'])}: {finding['text']}"
        for target in targets
        for finding in target["findings"]
        if finding["kind"] != "empty"
    ]


def _check_only(only: str, asked: argparse.Namespace) -> None:
    """Refuse options that do not fit a picture per class."""
    if only == "heatmap" and not asked.fade:
        raise UserError(
            "--only heatmap is as opaque as the heatmap is high: leave out --no-fade, or ask for "
            "--only overlay"
        )
    out = asked.output or "."
    if is_folder(out):
        return
    path = Path(out)
    classes = len(set(asked.target)) + (asked.top or int(not asked.target))
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


def _check_fusion(asked: argparse.Namespace, classifier: models.Classifier) -> None:
    """UserError if --fuse is given for a single layer."""
    inputs = jax.ShapeDtypeStruct(input_shape(classifier), "float32")
    if asked.fuse and len(layers_of(jax.eval_shape(classifier.model, inputs)[1])) < 2:
        raise UserError(
            f"--fuse {asked.fuse} fuses the maps of several layers, and {asked.model} is explained "
            "by one: give --layers 2 too"
        )


def _contrasted(
    asked: argparse.Namespace, classifier: models.Classifier, targets: Sequence[int]
) -> int | None:
    """The class of --rather-than, if any."""
    if asked.rather_than is None:
        return None
    other = find_class(asked.rather_than, classifier.labels)
    if other in targets:
        raise UserError(
            f"--rather-than {asked.rather_than} is also a --target: nothing tells a class "
            "from itself"
        )
    return other


def _weights_digest(asked: argparse.Namespace) -> str | None:
    """A digest of the network's weights; None if it has none."""
    files = _weights_files(asked)
    if not asked.weights:
        with contextlib.suppress(ImportError, LookupError, ValueError):
            files = tuple(filter(None, [models.packaged_weights(asked.model)]))
    digests = [digest(file) for file in (*files, *filter(None, [asked.labels]))]
    return "+".join(digests) or None


def _question_digest(asked: argparse.Namespace) -> str:
    """A digest of the photographs or classes that a question depends on."""
    places = (asked.like, asked.others, asked.classes)
    paths = [path for place in places for path in _files_in(place)]
    return "+".join(f"{path.parent.name}/{path.name}:{digest(path)}" for path in paths)


def _check_finite(model: Any, origin: object) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        if not jax.numpy.issubdtype(getattr(leaf, "dtype", int), np.floating):
            continue
        wrong = leaf.size - np.count_nonzero(np.isfinite(np.asarray(leaf)))
        if wrong:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"the weights of {origin} are not finite: {wrong} of {leaf.size} values of {name} "
                "are NaN or infinite; the checkpoint may be of a training that diverged"
            )
