"""The command `scorecam`. Each subcommand is a function from its options to an exit status.

JAX is imported only once there is something to compute, so that help and mistyped options are
answered at once.
"""

import argparse
import contextlib
import difflib
import json
import os
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

VARIANTS = (
    "official",
    "paper",
    "yiskw713",
    "tabayashi",
    "pytorch-grad-cam",
    "torchcam",
    "tf-keras-vis",
)
COLORMAPS = ("ember", "jet", "gray")

DESCRIPTION = "Show what a vision model looked at, with Score-CAM."

EXAMPLES = """\
examples:
  The likeliest class, drawn in cat-scorecam.png; then the three likeliest:
    scorecam explain cat.jpg
    scorecam explain cat.jpg --top 3

  Classes of your choice, by name or index, drawn in why.png:
    scorecam explain cat.jpg --target "tiger cat" --target 285 -o why.png

  Many photographs, a picture each in maps/ and the figures in results.json:
    scorecam explain photos/*.jpg -o maps/ --json > results.json

  Faster, with nearly the same map:
    scorecam explain cat.jpg --channels 128

  What can be explained:
    scorecam layers

`scorecam COMMAND --help` tells more of each command.
"""

EXPLAIN = """\
Print the five likeliest classes of each photograph, and draw a sheet: the
photograph, then for each class explained the photograph in grey under the
class's heatmap, at its own size. What the network did not get to see, because
its input is cropped, is bleached.

Without --target and --top the likeliest class is explained. Further classes
cost next to nothing: all are scored in the same passes.
"""

LAYERS = """\
List the models that can be loaded and the layers of one of them, in the order
in which they run, with the shapes of their outputs: height x width x channels.
Any of them can be given to `scorecam explain --layer`.
"""


class UserError(Exception):
    """What went wrong and what to do about it, in words for the person at the terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the command's name; None: those of this process.

    Returns:
        0 if all went well, 1 if some photographs could not be explained, 2 if the question itself
        was at fault, 130 if interrupted.
    """
    arguments = parser()
    options = arguments.parse_args(argv)
    if "run" not in options:
        arguments.print_help(sys.stderr)
        return 2
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except UserError as problem:
        complain(problem)
        return 2
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def parser() -> argparse.ArgumentParser:
    """The options of every subcommand."""
    top = argparse.ArgumentParser(
        prog="scorecam",
        usage="scorecam COMMAND [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=_Help,
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", prog="scorecam")
    _add_explain(commands)
    _add_layers(commands)
    return top


class _Help(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they were written, and the commands without a heading of their own."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.split("\n", 1)[1] if action.nargs == argparse.PARSER else text


def _add_explain(commands: Any) -> None:
    command = commands.add_parser(
        "explain",
        help="draw what made a photograph look like a class",
        usage="scorecam explain PHOTO... [options]",
        description=EXPLAIN,
        formatter_class=_Help,
    )
    command.set_defaults(run=explain)
    command.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="an image file")

    what = command.add_argument_group("what to explain")
    what.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME|INDEX",
        help="a class: its index, its name, or a part of its name that no other class shares; "
        "may be repeated",
    )
    what.add_argument("--top", type=_count, metavar="N", help="the N likeliest classes")

    how = command.add_argument_group("how")
    add_model(how)
    how.add_argument(
        "--layer", metavar="L", help="the layer to explain (default: the last with a grid)"
    )
    how.add_argument(
        "--channels",
        type=_count,
        metavar="N",
        help="use only the N channels that vary most (default: all); 128 gives nearly the same map",
    )
    how.add_argument(
        "--variant",
        choices=VARIANTS,
        default="official",
        metavar="NAME",
        help=f"which published formula: {', '.join(VARIANTS)} (default: official)",
    )
    how.add_argument(
        "--batch-size",
        type=_count,
        metavar="N",
        help="masked images per pass; memory grows with it (default: chosen for the device)",
    )

    look = command.add_argument_group("how it looks")
    look.add_argument(
        "--colormap",
        choices=COLORMAPS,
        default="ember",
        help="ember is perceptually uniform, jet is that of many papers (default: ember)",
    )
    look.add_argument(
        "--alpha",
        type=_opacity,
        default=0.7,
        metavar="A",
        help="opacity of the colours, 0 to 1 (default: 0.7)",
    )
    look.add_argument(
        "--no-fade",
        dest="fade",
        action="store_false",
        help="the same opacity everywhere, over the photograph in colour, as in many papers",
    )

    where = command.add_argument_group("where it goes")
    where.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="the picture to write (.png, .jpg, .webp, ...), or a folder; missing folders are "
        "made (default: PHOTO-scorecam.png in the current folder)",
    )
    where.add_argument(
        "--save-map",
        metavar="FILE.npy",
        help="also save the heatmaps, float32 (targets, height, width) at the photograph's own "
        "size; a folder if there are several photographs",
    )
    where.add_argument("--force", action="store_true", help="overwrite existing files")
    where.add_argument(
        "--json", action="store_true", help="print the results as one JSON document instead"
    )
    where.add_argument(
        "--quiet", action="store_true", help="no progress bar (there is none in a pipe anyway)"
    )


def _add_layers(commands: Any) -> None:
    command = commands.add_parser(
        "layers",
        help="list the models, and the layers of one",
        usage="scorecam layers [options]",
        description=LAYERS,
        formatter_class=_Help,
    )
    command.set_defaults(run=layers)
    add_model(command)


def add_model(group: Any) -> None:
    """The options that say which network: `load` reads them."""
    group.add_argument(
        "--model",
        default="efficientnet_lite0",
        metavar="M",
        help="the network (default: efficientnet_lite0); `scorecam layers` lists them",
    )
    group.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="a .pth or .safetensors checkpoint of this network, in place of its usual weights",
    )


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _opacity(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


class Job(NamedTuple):
    """One photograph and the files to be made of it."""

    photo: Path
    output: Path
    map: Path | None


def explain(options: argparse.Namespace) -> int:
    """`scorecam explain`."""
    photos = options.photos
    outputs = output_paths(photos, options.output or ".", "-scorecam.png")
    maps: list[Any] = [None] * len(photos)
    if options.save_map:
        maps = output_paths(photos, options.save_map, "-scorecam.npy")
    jobs = list(map(Job, photos, outputs, maps))
    records = [_check(job, force=options.force) for job in jobs]
    todo = [pair for pair in zip(jobs, records, strict=True) if "error" not in pair[1]]
    if not todo:
        return _finish(records, options)
    with Progress(len(todo), enabled=not options.quiet) as progress:
        progress.start("loading the model")
        classifier = load(options)
        targets = [find_class(name, classifier.labels) for name in options.target]
        top = options.top or (0 if targets else 1)
        progress.start("compiling")
        run = _compile(classifier, targets, top, options)
        for job, record in todo:
            progress.start(str(job.photo))
            with reported(record, progress):
                record.update(_explain(job, run, classifier, options))
                if not options.json:
                    progress.hide()
                    _print(record)
            progress.advance()
    return _finish(records, options)


def _check(job: Job, *, force: bool) -> dict[str, Any]:
    """The record of a job to be done; with an `error` in it if it cannot be done."""
    record: dict[str, Any] = {"photo": str(job.photo)}
    with reported(record):
        open_photo(job.photo, header_only=True)
        for path in filter(None, (job.output, job.map)):
            check_output(path, job.photo, force=force)
    return record


def _compile(
    classifier: Any, targets: list[int], top: int, options: argparse.Namespace
) -> Callable[..., Any]:
    """The whole computation, compiled once for all photographs."""
    import jax
    import jax.numpy as jnp

    from scorecam_jax import score_cam
    from scorecam_jax.variants import BY_NAME

    @jax.jit
    def run(model: Any, inputs: Any) -> Any:
        outputs, _ = model(inputs)
        likeliest = jax.lax.top_k(outputs, top)[1]
        explanation = score_cam(
            model,
            inputs,
            jnp.append(jnp.array([targets], likeliest.dtype), likeliest, axis=1),
            variant=BY_NAME[options.variant],
            channels=options.channels,
            batch_size=options.batch_size,
        )
        return explanation.heatmap[0], explanation.targets[0], jax.nn.softmax(outputs)[0]

    shape = example_input(classifier).shape
    if top > len(classifier.labels):
        raise UserError(f"--top {top}: the model knows only {len(classifier.labels)} classes")
    try:
        return run.lower(classifier.model, jax.ShapeDtypeStruct(shape, "float32")).compile()
    except (TypeError, ValueError) as error:
        raise UserError(str(error)) from error


def _explain(
    job: Job, run: Callable[..., Any], classifier: Any, options: argparse.Namespace
) -> dict[str, Any]:
    """Do a job; what there is to tell of it."""
    import jax
    import numpy as np

    from scorecam_jax.visualize import mark_crop, overlay, sheet

    photo = open_photo(job.photo)
    inputs = classifier.preprocess(photo)[None]
    try:
        maps, targets, probabilities = map(np.asarray, run(classifier.model, inputs))
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"{error}\na smaller --batch-size needs less memory") from error
    # A class may be both asked for and among the likeliest.
    indices = list(dict.fromkeys(targets.tolist()))
    heatmaps = maps[[targets.tolist().index(index) for index in indices]]
    heatmaps = classifier.preprocess.restore(heatmaps, photo.size)
    box = classifier.preprocess.box(photo.size)

    def describe(index: Any) -> dict[str, Any]:
        probability = float(probabilities[index])
        name = classifier.labels[index]
        return {"index": int(index), "name": name, "probability": probability}

    explained = [
        {**describe(index), "empty": not heatmap.any()}
        for index, heatmap in zip(indices, heatmaps, strict=True)
    ]
    panels, titles = [photo], ["photograph"]
    for found, heatmap in zip(explained, heatmaps, strict=True):
        colours = overlay(
            photo, heatmap, colormap=options.colormap, alpha=options.alpha, fade=options.fade
        )
        panels.append(mark_crop(colours, box))
        titles.append(f"{short(found['name'])} {percent(found['probability'])}")
        if found["empty"]:
            titles[-1] += ", nothing found"
    page = sheet(panels, titles)
    lossy = job.output.suffix.lower() in (".jpg", ".jpeg", ".webp")
    # Pillow's own level of compression takes three times as long for a tenth of the size.
    how: dict[str, Any] = {"quality": 92} if lossy else {"compress_level": 3}
    save(job.output, lambda path: page.save(path, **how))
    if job.map:
        save(job.map, lambda path: np.save(path, heatmaps))
    return {
        "size": list(photo.size),
        "seen": [float(edge) for edge in box],
        "top": [describe(index) for index in np.argsort(-probabilities, kind="stable")[:5]],
        "targets": explained,
        "output": str(job.output),
        "map": str(job.map) if job.map else None,
    }


def _print(record: dict[str, Any]) -> None:
    explained = {found["index"] for found in record["targets"]}
    likeliest = {found["index"] for found in record["top"]}
    rest = [found for found in record["targets"] if found["index"] not in likeliest]
    print(record["photo"])
    for found in [*record["top"], *rest]:
        mark = "*" if found["index"] in explained else " "
        print(f"  {mark} {percent(found['probability']):>6}  {found['name']} ({found['index']})")
    for found in record["targets"]:
        if found["empty"]:
            print(f"  nothing in it speaks for {short(found['name'])}: that heatmap is empty")
    for path in filter(None, (record["output"], record["map"])):
        print(f"  wrote {path}")


def _finish(records: list[dict[str, Any]], options: argparse.Namespace) -> int:
    if options.json:
        asked = {name: getattr(options, name) for name in ("model", "layer", "variant", "channels")}
        print(json.dumps({**asked, "photos": records}, indent=2))
    return 1 if any("error" in record for record in records) else 0


def layers(options: argparse.Namespace) -> int:
    """`scorecam layers`."""
    import jax

    from scorecam_jax import list_layers, models

    options.layer = None
    classifier = load(options)
    inputs = jax.ShapeDtypeStruct(example_input(classifier).shape, "float32")
    found = [layer for layer in list_layers(classifier.model, inputs) if len(layer.shape) == 4]
    width = max(len(layer.path) for layer in found)
    print(f"models: {', '.join(models.names())}")
    print(f"layers of {options.model} that can be explained:")
    for layer in found:
        print(f"  {layer.path:<{width}}  {' x '.join(map(str, layer.shape[1:])):<16} {layer.kind}")
    return 0


def load(options: argparse.Namespace) -> Any:
    """The classifier that `--model`, `--weights` and `--layer` ask for."""
    from scorecam_jax import models

    try:
        return models.load(options.model, weights=options.weights, layer=options.layer)
    except (ImportError, LookupError, OSError, ValueError) as error:
        raise UserError(str(error)) from error


def example_input(classifier: Any) -> Any:
    """An input batch of the shape that this classifier takes."""
    from PIL import Image

    return classifier.preprocess(Image.new("RGB", (8, 8)))[None]


def open_photo(path: Path, *, header_only: bool = False) -> Any:
    """The photograph upright, in RGB; with `header_only`, merely whether it looks like one."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if header_only:
                    return None
                from scorecam_jax.models import as_rgb

                return as_rgb(image)
    except FileNotFoundError:
        raise UserError("no such file") from None
    except IsADirectoryError:
        raise UserError(f"a folder, not a photograph; name the files in it, {path}/*.jpg") from None
    except UnidentifiedImageError:
        raise UserError(
            "not an image in a format that can be read; convert it to JPEG or PNG"
        ) from None
    except Image.DecompressionBombError as error:
        raise UserError(f"too large: {error}") from None
    except (EOFError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"cannot be read: {error}") from error


def find_class(name: str, labels: Sequence[str]) -> int:
    """The index of the class meant by an index, a name, or a part of a name.

    A label may hold several names, separated by commas. The whole of a name is preferred to whole
    words in it, and those to any part; capitals do not matter.
    """
    wanted = name.strip().casefold()
    if re.fullmatch("-?[0-9]+", wanted):
        if not 0 <= int(wanted) < len(labels):
            raise UserError(
                f"class {wanted} does not exist; the model knows 0 to {len(labels) - 1}"
            )
        return int(wanted)
    names = [[part.strip() for part in label.casefold().split(",")] for label in labels]
    whole_words = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    for matches in (
        lambda index: wanted in [labels[index].casefold(), *names[index]],
        lambda index: whole_words.search(labels[index].casefold()),
        lambda index: wanted in labels[index].casefold(),
    ):
        found = [index for index in range(len(labels)) if wanted and matches(index)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{name!r} may mean several classes; say more of the name, or give the index:\n"
                + _listing(found, labels)
            )
    every = [(part, index) for index, parts in enumerate(names) for part in parts]
    near = difflib.get_close_matches(wanted, [part for part, _ in every], n=8, cutoff=0.7)
    found = list(dict.fromkeys(dict(every)[part] for part in near))
    raise UserError(
        f"no class is called {name!r}"
        + (
            f"; the nearest:\n{_listing(found, labels)}"
            if found
            else f"; try another part of its name, or an index from 0 to {len(labels) - 1}"
        )
    )


def _listing(indices: list[int], labels: Sequence[str], most: int = 12) -> str:
    lines = [f"  {index:>4}  {labels[index]}" for index in indices[:most]]
    if len(indices) > most:
        lines.append(f"        and {len(indices) - most} more")
    return "\n".join(lines)


def output_paths(photos: Sequence[Path], out: str, ending: str) -> list[Path]:
    """Where to write what is made of each photograph.

    `out` is a folder if it is one already, ends in a slash or has no suffix; otherwise it is a
    file, and there must be one photograph only. In a folder the files are called as the
    photographs are, with `ending` in place of their suffix.
    """
    path = Path(out)
    if not (path.is_dir() or out.endswith(("/", os.sep)) or not path.suffix):
        if len(photos) > 1:
            raise UserError(
                f"{out!r} is one file for {len(photos)} photographs; name a folder, such as "
                f"{path.with_suffix('')}/"
            )
        _check_suffix(path, Path(ending).suffix)
        return [path]
    paths = [path / f"{photo.stem}{ending}" for photo in photos]
    for index, (photo, one) in enumerate(zip(photos, paths, strict=True)):
        if one in paths[:index]:
            raise UserError(
                f"{photos[paths.index(one)]} and {photo} would both be written to {one}; "
                "explain them one at a time, with -o"
            )
    return paths


def _check_suffix(path: Path, usual: str) -> None:
    from PIL import Image

    if usual == ".png":
        formats = Image.registered_extensions()
        known = {suffix for suffix, name in formats.items() if name in Image.SAVE}
        if path.suffix.lower() not in known:
            raise UserError(
                f"pictures cannot be written as {path.suffix}; name {path.with_suffix('.png')}, "
                f"or .jpg, .webp or .tif, or a folder, {path}/"
            )
    elif path.suffix != usual:
        raise UserError(f"heatmaps are written as {usual}; name {path.with_suffix(usual)}")


def check_output(path: Path, photo: Path, *, force: bool) -> None:
    """Refuse to overwrite a file unless told to, and the photograph itself in any case."""
    if path.exists():
        if path.samefile(photo):
            raise UserError(f"{path} is the photograph itself; name another file to write with -o")
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file to write")
        if not force:
            raise UserError(f"{path} exists already; overwrite it with --force, or name another")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UserError(f"cannot write {path}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: there is no permission to write in {folder}")


def save(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file, in a folder that is made if it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path}: {error}") from error


class Progress:
    """A bar on standard error, on a terminal only, once two seconds have gone by.

    How long one photograph takes is known from those before it; until then the bar swings.
    """

    def __init__(self, total: int, *, enabled: bool, delay: int | float = 2) -> None:
        self._stream = sys.stderr
        self._enabled = enabled and self._stream.isatty()
        self._delay = delay
        self._total = total
        self._done = 0
        self._task = ""
        self._began = self._task_began = time.monotonic()
        self._pace: float | None = None
        self._width = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Progress":
        """Begin to count the time."""
        if self._enabled:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the bar away."""
        self._over.set()
        if self._enabled:
            self._thread.join()
            self.hide()

    def start(self, task: str) -> None:
        """Say what is being done now."""
        with self._lock:
            self._task, self._task_began = task, time.monotonic()

    def advance(self) -> None:
        """One photograph is done."""
        with self._lock:
            self._done += 1
            self._pace = time.monotonic() - self._task_began

    def hide(self) -> None:
        """Clear the line for something else; the bar comes back below it."""
        with self._lock:
            self._draw("")

    def _run(self) -> None:
        while not self._over.wait(0.1):
            with self._lock:
                if time.monotonic() - self._began >= self._delay:
                    self._draw(self._line())

    def _line(self) -> str:
        now, cells = time.monotonic(), 24
        if self._pace is None:
            place = int(abs((now - self._began) / 2 % 2 - 1) * (cells - 4))
            bar = f"{'':{place}}<==>".ljust(cells)
        else:
            current = min((now - self._task_began) / max(self._pace, 1e-9), 0.95)
            bar = ("=" * round(cells * (self._done + current) / self._total)).ljust(cells)
        count = f" {min(self._done + 1, self._total)} of {self._total}" if self._total > 1 else ""
        line = f"[{bar}]{count} {now - self._began:.0f} s  {self._task}"
        return line[: shutil.get_terminal_size().columns - 1]

    def _draw(self, line: str) -> None:
        if line or self._width:
            # Blanks rather than escape codes, which not every terminal knows.
            self._stream.write(f"\r{line:<{self._width}}" + ("" if line else "\r"))
            self._stream.flush()
        self._width = len(line)


@contextlib.contextmanager
def reported(record: dict[str, Any], progress: Progress | None = None) -> Iterator[None]:
    """Within it, a `UserError` is told on standard error, noted in `record`, and over."""
    try:
        yield
    except UserError as problem:
        record["error"] = str(problem)
        if progress:
            progress.hide()
        complain(f"{record['photo']}: {problem}")


def complain(problem: object) -> None:
    """Tell a problem on standard error."""
    print(f"scorecam: {problem}", file=sys.stderr)


def short(label: str) -> str:
    """The first of the names in a label."""
    return label.split(",")[0]


def percent(probability: float) -> str:
    """A probability with one decimal, such as 94.3%."""
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"
