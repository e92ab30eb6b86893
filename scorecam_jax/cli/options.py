"""Options that several commands share."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scorecam_jax.cli.errors import say
from scorecam_jax.methods import METHODS as _METHODS
from scorecam_jax.methods import VARIANTS as VARIANTS
from scorecam_jax.metrics import ENTRIES as _ENTRIES

# Names for the help, which is printed without waiting for JAX. A test holds them equal to the
# library's own.

METHODS = tuple(_METHODS)

ANY_NETWORKS = _METHODS.of_any_network()

PRESETS = ("score-cam-64",)

DEFAULT_METHODS = ("score-cam", "score-cam-64", "grad-cam", "grad-cam++", "uniform", "center")

METRICS = tuple(_ENTRIES)

NOT_DEFAULT = tuple(name for name, entry in _ENTRIES.items() if not entry.default)

FUSIONS = ("product", "geometric", "mean", "maximum", "poly-cam")

COLORMAPS = ("ember", "viridis", "cividis", "jet", "gray")

DEFAULT_MODEL = "efficientnet_lite0"


class Parser(argparse.ArgumentParser):
    """Reports that help cannot be printed, which `argparse` does not."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stderr:
            super()._print_message(message, file)
        else:
            say(message, end="")


class Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions, and prints no heading above the commands."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26)

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.split("\n", 1)[1] if action.nargs == argparse.PARSER else text


def add_targets(command: argparse.ArgumentParser, *, required: bool = True) -> Any:
    """Which photographs and which classes to explain; returns the group."""
    command.add_argument(
        "photos",
        nargs="+" if required else "*",
        type=place,
        metavar="PHOTO|DIR",
        help="image, DICOM and NIfTI files, or folders of them; CSV, NPY and WAV for a network of "
        "series; sample:jaguar is a photograph that comes with the package, sample: the folder of "
        "all",
    )
    what = command.add_argument_group("what to explain")
    add_classes(what)
    add_reading(what)
    what.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="where the objects are: COCO's JSON, CSV, or a folder of VOC's XML or YOLO's text "
        "files or of PNG masks (default: annotations.json in DIR if it is there)",
    )
    return what


def place(text: str) -> Path:
    """A file or folder; `sample:NAME` is a photograph that comes with the package."""
    if not text.startswith("sample:"):
        return Path(text)
    from scorecam_jax import samples

    try:
        name = text.removeprefix("sample:")
        return samples.path(name) if name else samples.FOLDER
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_classes(group: Any) -> None:
    """Which classes to explain."""
    group.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME|INDEX",
        help="a class: its index, its name, or a part of its name that no other class shares; "
        "for CLIP and SigLIP any text; may be repeated. predicted: the likeliest class; "
        "annotated: the class of the boxes that cover most, with the boxes of that class; "
        "folder: the class that a photograph's folder is called after (default: predicted)",
    )
    group.add_argument("--top", type=count, metavar="N", help="the N likeliest classes")


def add_reading(group: Any) -> None:
    """Add the options that say how an image file is read."""
    group.add_argument(
        "--window",
        type=window,
        metavar="LOW,HIGH",
        help="the values that become black and white in greyscale of more than 8 bits (default: "
        "the depth that the values need; if some are negative, their own range)",
    )
    group.add_argument(
        "--page",
        type=page,
        metavar="N|all",
        help="the page of a TIFF, GIF, WebP or DICOM file of several or the slice of a volume, "
        "from 1, or each of them (default: the first; of a volume the middle slice)",
    )


def add_model(group: Any) -> None:
    """Which network, with which weights."""
    group.add_argument(
        "--model",
        metavar="M",
        help=f"the network (default: that of the weights, or {DEFAULT_MODEL}); `scorecam layers` "
        "lists them; package.module:function calls a function of yours that returns a Classifier",
    )
    group.add_argument(
        "--weights",
        type=weights,
        metavar="FILE|DIR",
        help="a .pth or .safetensors checkpoint, a folder as timm or transformers save it, or "
        "hf://OWNER/NAME on the Hugging Face Hub, instead of the usual weights",
    )
    group.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="the names of the classes, one a line or as JSON (default: those that the folder of "
        "the weights has, or ImageNet's)",
    )
    group.add_argument(
        "--size",
        type=count,
        metavar="PX",
        help="height and width of the network's input, where it takes several: larger inputs have "
        "more cells (default: what the network was made for)",
    )


def add_precision(group: Any) -> None:
    """How precisely the network multiplies."""
    group.add_argument(
        "--precision",
        choices=["bfloat16"],
        help="round the factors of the network's products to bfloat16 and sum in float32: faster "
        "on processors with units for it; `scorecam bench --shortcuts` measures how much, and how "
        "similar the maps are (default: float32)",
    )


def add_questions(group: Any) -> None:
    """Questions without classes."""
    group.add_argument(
        "--like",
        type=place,
        metavar="PHOTO",
        help="explain what makes a photograph like this one, by the network's embeddings; given "
        "one photograph, `explain` explains this one by its likeness to it too",
    )
    group.add_argument(
        "--others",
        type=place,
        metavar="DIR",
        help="with --like: the photographs that it is contrasted with (default: sample:)",
    )
    group.add_argument(
        "--classes",
        type=place,
        metavar="DIR|FILE",
        help="classes of your own: a folder that holds a folder of a few photographs for each; or "
        "what --save-classes has written",
    )
    group.add_argument(
        "--save-classes", type=Path, metavar="FILE", help="keep what was learnt of --classes"
    )


def add_layer(group: Any, *, apart: bool = False) -> None:
    """Which layer, and how many before it; `apart`: or several of them side by side."""
    group.add_argument(
        "--layer",
        metavar="L",
        help="the layer to explain (default: the last with a grid); `scorecam layers` lists them",
    )
    group.add_argument(
        "--layers",
        type=layers if apart else count,
        metavar="N|all|L,..." if apart else "N",
        help="explain by N layers together: that one, and the last one at each finer grid before "
        "it, or blocks at even distances in a transformer; --fuse says how their maps become one "
        "(default: 1)" + "; all: each of these layers by itself; L,L: those that are named" * apart,
    )


def add_cache(group: Any) -> None:
    """Whether compiled programs are kept."""
    group.add_argument(
        "--no-cache",
        dest="cache",
        action="store_false",
        help="do not keep compiled programs in the user's cache folder for the next call",
    )


def add_look(command: argparse.ArgumentParser) -> Any:
    """How a heatmap is drawn; returns the group."""
    look = command.add_argument_group("how it looks")
    look.add_argument(
        "--colormap",
        choices=COLORMAPS,
        default="ember",
        help="ember, viridis and cividis are perceptually uniform and hold for the colour-blind, "
        "jet is that of many papers (default: ember)",
    )
    look.add_argument(
        "--scale",
        choices=("own", "shared"),
        default="own",
        help="own: each heatmap is as bright as its strongest place; shared: a method's "
        "heatmaps of all classes and photographs are on the scale of the strongest, as the sums of "
        "different methods have different units (default: own)",
    )
    look.add_argument(
        "--colorbar",
        action="store_true",
        help="show on the sheet what the colours stand for; where they have signs or --scale is "
        "shared, it is shown anyway",
    )
    look.add_argument(
        "--alpha",
        type=opacity,
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
    look.add_argument(
        "--pixels",
        action="store_true",
        help="the layer's cells with sharp edges, without the smooth steps between them that the "
        "layer does not know",
    )
    return look


def add_output(command: argparse.ArgumentParser, usual: str, shape: str) -> None:
    """Where pictures and heatmaps are written."""
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
    where.add_argument(
        "--force",
        action="store_true",
        help="overwrite existing files, though never a photograph of this call",
    )
    add_json(where)


def add_json(group: Any) -> None:
    """How results are printed."""
    group.add_argument(
        "--json", action="store_true", help="print the results as one JSON document instead"
    )
    group.add_argument(
        "--quiet", action="store_true", help="no progress bar (there is none in a pipe anyway)"
    )


def weights(text: str) -> Path | str:
    """A file or folder, or an address on the Hugging Face Hub."""
    return text if text.startswith("hf://") else Path(text)


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 1 to 999999999")
    return int(text)


def page(text: str) -> int | str:
    """A whole number from 1 up, or "all"."""
    return text if text == "all" else count(text)


def layers(text: str) -> int | str | list[str]:
    """How many layers to fuse; or those that are explained one by one: "all", or their names."""
    if text == "all" or text.isdigit():
        return text if text == "all" else count(text)
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names no layer; wanted N, all, or names")
    return names


def counts(text: str) -> list[int]:
    """Whole numbers separated by commas."""
    return [count(part) for part in text.split(",")]


def seed(text: str) -> int:
    """A whole number from 0 up."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 0 to 999999999")
    return int(text)


def window(text: str) -> tuple[float, float]:
    """Two numbers, the lower one first."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -math.inf < low < high < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not LOW,HIGH with LOW below HIGH")
    return low, high


def opacity(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 to 1")
    return value


def share(text: str) -> float:
    """A number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number between 0 and 1")
    return value


def some_of(
    known: Sequence[str], *, every: Sequence[str] | None = None
) -> Callable[[str], list[str]]:
    """Names separated by commas, or "all" for `every` (None: all that are known)."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        if text == "all":
            names = list(every or known)
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"{name[:40]!r} is none of {', '.join(known)}; or all"
                )
        return list(dict.fromkeys(names))

    return parse
