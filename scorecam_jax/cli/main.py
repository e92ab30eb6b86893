"""The command `scorecam`: its options, and what becomes of errors."""

import argparse
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from scorecam_jax import evaluate as evaluation
from scorecam_jax.cli import bench, compare, evaluate, explain, layers
from scorecam_jax.cli.common import UserError, complain
from scorecam_jax.methods.variants import BY_NAME
from scorecam_jax.visualize import COLORMAPS

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

  Beside Grad-CAM and Grad-CAM++; then every published Score-CAM side by side:
    scorecam compare cat.jpg --top 2
    scorecam compare cat.jpg --variants all

  Which method is best on your photographs, with boxes of what is in them:
    scorecam evaluate photos/ --boxes annotations.json

  What can be explained, and how fast it is here:
    scorecam layers --model resnet50
    scorecam bench --batch-size 1,8,32

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

COMPARE = """\
Draw a sheet of each photograph with methods in columns and classes in rows, and
print how much each heatmap is like the first one (Pearson's correlation).
"""

EVALUATE = """\
Measure methods on all photographs in a folder and print the table: methods in
rows, metrics in columns, the mean over photographs and its 95 % interval.

Every figure is kept as soon as it is known. The same command carries on where
it was interrupted, and measures only what is new where photographs, methods or
metrics were added. What cannot be read or used is told, counted and left out.
"""

BENCH = """\
Time the network alone at several batch sizes and within Score-CAM, by turns,
and print medians: images a second, masked passes a second and their share of
the network's best, compilation, memory, and the share of what a large product
of matrices reaches on this device. Close other programs first.

Without --photo a made-up picture is explained, since none comes with the
program. That does not change what a masked pass takes, but how many there are:
for the time of a typical map, give a typical photograph. Networks that come
without weights get random ones, which changes that number too.
"""

LAYERS = """\
List the models that can be loaded and the layers of one of them, in the order
in which they run, with the shapes of their outputs: height x width x channels.
Any of them can be given to --layer.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the command's name; None: those of this process.

    Returns:
        0 if all went well, 1 if some photographs were left out or some package could not run, 2 if
        the question itself was at fault, 130 if interrupted.
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
    except KeyboardInterrupt as interruption:
        complain(str(interruption) or "interrupted")
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
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(title="commands", metavar="COMMAND", prog="scorecam")
    for name, add, run, summary, description in (
        (
            "explain",
            _explain,
            explain.run,
            "draw what made a photograph look like a class",
            EXPLAIN,
        ),
        ("compare", _compare, compare.run, "draw several methods side by side", COMPARE),
        ("evaluate", _evaluate, evaluate.run, "measure methods on many photographs", EVALUATE),
        ("bench", _bench, bench.run, "tell how fast Score-CAM is on this machine", BENCH),
        ("layers", _layers, layers.run, "list the models, and the layers of one", LAYERS),
    ):
        what = {"explain": "PHOTO... ", "compare": "PHOTO... ", "evaluate": "DIR "}.get(name, "")
        command = commands.add_parser(
            name,
            help=summary,
            usage=f"scorecam {name} {what}[options]",
            description=description,
            formatter_class=_Help,
        )
        command.set_defaults(run=run)
        add(command)
    return top


class _Help(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they were written, and the commands without a heading of their own."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.split("\n", 1)[1] if action.nargs == argparse.PARSER else text


def _explain(command: argparse.ArgumentParser) -> None:
    _add_what(command)
    how = command.add_argument_group("how")
    _add_model(how)
    _add_layer(how)
    how.add_argument(
        "--channels",
        type=_count,
        metavar="N",
        help="use only the N channels that vary most (default: all); 128 gives nearly the same map",
    )
    how.add_argument(
        "--variant",
        choices=BY_NAME,
        default="official",
        metavar="NAME",
        help=f"which published formula: {', '.join(BY_NAME)} (default: official)",
    )
    _add_batch_size(how)
    _add_look(command)
    _add_where(command, "PHOTO-scorecam.png", "(targets, height, width)")


def _compare(command: argparse.ArgumentParser) -> None:
    _add_what(command)
    how = command.add_argument_group("by what")
    how.add_argument(
        "--methods",
        type=_some_of(evaluation.METHODS),
        default=[],
        metavar="NAME,...",
        help=f"{', '.join(evaluation.METHODS)}, or all; uniform and center look at nothing and "
        f"are what to better (default without --variants: {', '.join(compare.DEFAULT)})",
    )
    how.add_argument(
        "--variants",
        type=_some_of(BY_NAME),
        default=[],
        metavar="NAME,...",
        help=f"published Score-CAMs: {', '.join(BY_NAME)}, or all",
    )
    _add_model(how)
    _add_layer(how)
    how.add_argument(
        "--channels",
        type=_count,
        metavar="N",
        help="let score-cam and the variants use only the N channels that vary most (default: all)",
    )
    _add_batch_size(how)
    _add_look(command)
    _add_where(command, "PHOTO-compared.png", "(methods, targets, height, width)")


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="DIR", help="a folder of photographs")
    what = command.add_argument_group("what to measure")
    what.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="where the objects are: COCO's JSON, or a folder of VOC's XML (default: "
        "annotations.json in DIR if it is there; without boxes there are fewer metrics)",
    )
    what.add_argument(
        "--target",
        choices=("predicted", "annotated"),
        default="predicted",
        help="explain the likeliest class, or the one that the boxes are of, which COCO's "
        "category_id must then index (default: predicted)",
    )
    what.add_argument(
        "--methods",
        type=_some_of(evaluation.METHODS),
        default=[],
        metavar="NAME,...",
        help=f"{', '.join(evaluation.METHODS)}, or all "
        f"(default: {', '.join(evaluation.DEFAULT_METHODS)})",
    )
    what.add_argument(
        "--metrics",
        type=_some_of(evaluation.METRICS),
        default=[],
        metavar="NAME,...",
        help=f"{', '.join(evaluation.METRICS)}, or all (default: all but adcc and road)",
    )
    how = command.add_argument_group("how")
    _add_model(how)
    _add_layer(how)
    _add_batch_size(how)
    where = command.add_argument_group("where it goes")
    where.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="a folder for tables and figures (default: DIR-scorecam in the current folder)",
    )
    _add_json(where)


def _bench(command: argparse.ArgumentParser) -> None:
    _add_model(command)
    command.add_argument(
        "--photo", type=Path, metavar="PHOTO", help="what to explain (default: see above)"
    )
    command.add_argument(
        "--batch-size",
        type=lambda text: [_count(part) for part in text.split(",")],
        default=[],
        metavar="N,...",
        help="images a pass of the network alone (default: 1, 2, 4, ... to 32, on a GPU 512)",
    )
    command.add_argument(
        "--channels", type=_count, metavar="N", help="explain through only N channels"
    )
    command.add_argument(
        "--repeats",
        type=_count,
        default=5,
        metavar="N",
        help="runs of each, of which the median counts (default: 5)",
    )
    command.add_argument(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="run the network in this type (default: float32)",
    )
    command.add_argument(
        "--shortcuts",
        type=Path,
        nargs="+",
        default=[],
        metavar="PHOTO",
        help="also tell how near fewer channels and bfloat16 come to the exact maps of these "
        "photographs, and how fast they are",
    )
    command.add_argument(
        "--peers",
        action="store_true",
        help="also time whole maps of the packages grad-cam and torchcam, if they are installed, "
        "on the same weights and layer, by turns; takes minutes",
    )
    _add_json(command)


def _layers(command: argparse.ArgumentParser) -> None:
    _add_model(command)


def _add_what(command: argparse.ArgumentParser) -> None:
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


def _add_model(group: Any) -> None:
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


def _add_layer(group: Any) -> None:
    group.add_argument(
        "--layer",
        metavar="L",
        help="the layer to explain (default: the last with a grid); `scorecam layers` lists them",
    )


def _add_batch_size(group: Any) -> None:
    group.add_argument(
        "--batch-size",
        type=_count,
        metavar="N",
        help="masked images per pass; memory grows with it (default: chosen for the device)",
    )


def _add_look(command: argparse.ArgumentParser) -> None:
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


def _add_where(command: argparse.ArgumentParser, usual: str, shape: str) -> None:
    where = command.add_argument_group("where it goes")
    where.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="the picture to write (.png, .jpg, .webp, ...), or a folder; missing folders are "
        f"made (default: {usual} in the current folder)",
    )
    where.add_argument(
        "--save-map",
        metavar="FILE.npy",
        help=f"also save the heatmaps, float32 {shape} at the photograph's own size; a folder if "
        "there are several photographs",
    )
    where.add_argument("--force", action="store_true", help="overwrite existing files")
    _add_json(where)


def _add_json(group: Any) -> None:
    group.add_argument(
        "--json", action="store_true", help="print the results as one JSON document instead"
    )
    group.add_argument(
        "--quiet", action="store_true", help="no progress bar (there is none in a pipe anyway)"
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


def _some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = list(known) if text == "all" else [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}; or all")
        return list(dict.fromkeys(names))

    return parse


def _version() -> str:
    try:
        own = importlib.metadata.version("scorecam_jax")
    except importlib.metadata.PackageNotFoundError:
        own = "(not installed)"
    jax = importlib.metadata.version("jax")
    return f"scorecam {own}, JAX {jax}, Python {platform.python_version()}"
