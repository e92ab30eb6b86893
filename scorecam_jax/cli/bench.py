"""`scorecam bench`: how fast Score-CAM is on this machine."""

import argparse
import contextlib
import importlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from scorecam_jax.cli import options
from scorecam_jax.cli.errors import UserError, say, translated
from scorecam_jax.cli.progress import Progress

NAME, ARGUMENTS = "bench", ""

SUMMARY = "tell how fast Score-CAM is on this machine"

DESCRIPTION = """\
Time the network alone at several batch sizes and within Score-CAM, alternately,
and print medians: images per second, masked passes per second and their share
of the network's best, compilation, memory, and the share of what a large matrix
product reaches on this device. Close other programs first.

Without --photo a generated picture is explained, since the program comes with
none. That does not change how long a masked pass takes, but how many there are:
for the time of a typical map, give a typical photograph. Networks that come
without weights get random ones, which changes that number too.
"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_model(command)
    command.add_argument(
        "--photo",
        type=options.place,
        metavar="PHOTO",
        help="what to explain (default: see above)",
    )
    command.add_argument(
        "--batch-size",
        type=options.counts,
        default=[],
        metavar="N,...",
        help="images per pass of the network alone (default: 1, 2, 4, ... to 32, on a GPU 512)",
    )
    command.add_argument(
        "--channels", type=options.count, metavar="N", help="explain through only N channels"
    )
    command.add_argument(
        "--repeats",
        type=options.count,
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
        help="also tell how similar the maps of fewer channels and of bfloat16 are to the exact "
        "maps of these photographs, and how fast they are",
    )
    options.add_precision(command)
    command.add_argument(
        "--peers",
        action="store_true",
        help="also time whole maps of the packages grad-cam and torchcam, if they are installed, "
        "on the same weights and layer, alternately; takes minutes, and a checkout",
    )
    command.add_argument(
        "--compile-for",
        metavar="CHIPS",
        help="instead of timing, compile for a TPU slice such as v5e:2x2 or for the GPU h100, "
        "which need not be there, and tell what the program needs (needs a checkout, and "
        "the extra tpu or cuda); "
        "--batch-size is then the masked inputs at a time on each chip",
    )
    options.add_json(command)


def run(asked: argparse.Namespace) -> int:
    """Print a table of figures; 1 if something could not run."""
    if asked.compile_for:
        return _compile(asked)
    if asked.precision and asked.shortcuts:
        raise UserError("--shortcuts compares with maps in float32: leave out --precision")
    if asked.peers:  # several processes need room on one accelerator
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax.numpy as jnp
    import numpy as np

    from scorecam_jax import models
    from scorecam_jax.cli.common import load
    from scorecam_jax.timing import bench, blobs, compare_with_exact

    race = _from_checkout("peers", "--peers").race if asked.peers else None

    photo = _photo(asked.photo) if asked.photo else blobs()
    several = [_photo(path) for path in asked.shortcuts]
    with Progress(1, enabled=not asked.quiet) as progress:
        progress.start("loading the model")
        classifier = load(asked, dtype=asked.dtype, or_random=True)
        if several and not classifier.labels:
            raise UserError(
                f"--shortcuts compares the maps of classes, and {asked.model} tells no classes "
                "apart: its outputs are an embedding. Leave out --shortcuts, or choose a network "
                "with classes"
            )
        known = asked.weights or models.packaged_weights(asked.model)
        figures: dict[str, Any] = {
            "model": asked.model,
            "layer": classifier.layer,
            "weights": str(known) if known else None,
            "photo": str(asked.photo) if asked.photo else None,
            "dtype": _type(asked),
        }
        try:
            figures |= bench(
                classifier,
                photo,
                batch_sizes=asked.batch_size,
                channels=asked.channels,
                repeats=asked.repeats,
                progress=progress.start,
            )
        except ValueError as error:
            raise translated(error) from error
        if several:
            narrow = load(asked, dtype="bfloat16", or_random=True)
            figures["shortcuts"] = compare_with_exact(
                classifier.model,
                _shortcuts(classifier, narrow.model, figures["channels"]),
                [jnp.asarray(classifier.preprocess(photo))[None] for photo in several],
                progress.start,
            )
        if race:
            figures["peers"] = race(
                asked.model,
                np.asarray(classifier.preprocess(photo))[None],
                weights=asked.weights,
                repeats=asked.repeats,
                progress=progress.start,
            )
    say(json.dumps(figures, indent=2) if asked.json else _table(figures))
    return int(any("error" in row for row in figures.get("peers", {}).values()))


def _compile(asked: argparse.Namespace) -> int:
    """Print what the compiler tells of a program for TPUs or a GPU."""
    if len(asked.batch_size) > 1:
        raise UserError("--batch-size with --compile-for is one number: masked inputs at a time")
    if others := [name for name in ("photo", "shortcuts", "peers") if getattr(asked, name)]:
        raise UserError(f"--{others[0]} runs the network, and --compile-for runs nothing")
    compilers = _from_checkout("compilers", "--compile-for")
    os.environ.update(compilers.ENVIRONMENT)
    import jax

    jax.config.update("jax_platforms", compilers.ENVIRONMENT["JAX_PLATFORMS"])
    from scorecam_jax.cli.common import load

    with Progress(1, enabled=not asked.quiet) as progress:
        progress.start("loading the model")
        try:
            compilers.chips(asked.compile_for)
            # The program does not depend on their values.
            classifier = load(asked, dtype=asked.dtype, any_weights=True)
            figures = compilers.forecast(
                classifier,
                asked.compile_for,
                channels=asked.channels,
                batch_size=next(iter(asked.batch_size), None),
                progress=progress.start,
            )
        except (ImportError, ValueError) as error:
            raise translated(error) from error
    named = {"model": asked.model, "layer": classifier.layer, "dtype": _type(asked)}
    figures = named | figures
    say(json.dumps(figures, indent=2) if asked.json else _forecast(figures))
    return 0


def _type(asked: argparse.Namespace) -> str:
    return (asked.dtype or "float32") + ", products in bfloat16" * bool(asked.precision)


def _from_checkout(name: str, option: str) -> Any:
    """A module of `benchmarks/`, which stands beside this package in a checkout."""
    root = Path(__file__).parents[2]
    if not (root / "benchmarks" / f"{name}.py").exists():
        raise UserError(
            f"{option} needs benchmarks/{name}.py, which the installed package leaves out: run "
            "scorecam from a checkout, or from the source distribution, installed with pip "
            "install -e"
        )
    if str(root) not in sys.path:
        sys.path.append(str(root))  # where processes that are started look as well
    return importlib.import_module(f"benchmarks.{name}")


def _forecast(figures: dict[str, Any]) -> str:
    chips = f"{figures['devices']} x {figures['device']}"
    collectives = ", ".join(f"{n} {name}" for name, n in figures["collectives"].items())
    flops, bandwidth = figures["peak_flops"], figures["peak_bandwidth"]
    kernels = figures["kernels"]
    rates = "", ""
    if flops:
        rates = f"at {flops / 1e12:.0f} TFLOP/s", f"at {bandwidth / 1e9:.0f} GB/s"
    arithmetic, memory, floor = (
        "-" if seconds is None else f"{1e3 * seconds:.2f} ms"
        for seconds in (figures[f"{name}_seconds"] for name in ("arithmetic", "memory", "floor"))
    )
    lines = [
        f"{figures['model']}, layer {figures['layer']}, compiled for {figures['topology']}",
        f"{chips}, {figures['dtype']}, JAX {figures['jax']}; nothing was run",
        "",
        "Score-CAM of one image, all channels alive; each chip",
        _row("masked passes", f"{figures['passes']}", "of all chips together"),
        _row("  at a time", f"{figures['batch_size']}", f"{figures['chunks']} times"),
        _row("temporary memory", _megabytes(figures["temporary_bytes"])),
        *([_row("kernels", f"{kernels}", "each time")] if kernels else []),
        _row("operations", f"{figures['flops'] / 1e9:.0f}", "GFLOP"),
        _row("bytes accessed", _megabytes(figures["bytes_accessed"])),
        _row("collectives", collectives or "none"),
        _row("arithmetic takes", arithmetic, rates[0]),
        _row("memory takes", memory, rates[1]),
        _row("a map takes at least", floor, "by the chip's published peaks" if flops else ""),
    ]
    return "\n".join(lines)


def _photo(path: Path) -> Any:
    from scorecam_jax.reading import ReadingError, read_picture

    try:
        return read_picture(path).image
    except ReadingError as problem:
        raise UserError(f"{path}: {problem}") from problem


def _shortcuts(classifier: Any, narrow: Any, channels: int) -> dict[str, Any]:
    from scorecam_jax import Deviation, Gradient, Interpolated, group_cam, score_cam

    model = classifier.model
    ways: dict[str, Any] = {"all channels": partial(score_cam, model)}
    for count in (16, 32, 64, 128, 256):
        if count < channels:
            few: dict[str, Any] = {
                f"{count} by deviation": Deviation(count),
                f"{count} by gradient": Gradient(count),
                f"{count} interpolated": Interpolated(count),
            }
            ways |= {name: partial(score_cam, model, channels=way) for name, way in few.items()}
    ways["Group-CAM"] = partial(group_cam, model)
    with contextlib.suppress(TypeError):  # not made by an adapter
        rounded = classifier.with_bfloat16_products().model
        ways["products in bfloat16"] = partial(score_cam, rounded)
    return ways | {"bfloat16": partial(score_cam, narrow)}


def _table(figures: dict[str, Any]) -> str:
    weights = "" if figures["weights"] else ", random weights"
    share = figures["share_of_peak_flops"]
    temporaries = figures["temporary_bytes"]
    lines = [
        f"{figures['model']}, layer {figures['layer']}{weights}, on "
        + (f"{figures['photo']}" if figures["photo"] else "a generated picture"),
        f"{figures['device']}, {figures['cores']} cores, {figures['dtype']}, "
        f"JAX {figures['jax']}, Python {figures['python']}",
        "",
        "the network alone, images per second",
    ]
    rates = figures["forward_images_per_second"]
    best = max((rate for rate in rates.values() if rate), default=0)
    for size, rate in rates.items():
        if rate is None:
            lines.append(_row(f"batches of {size}", "-", "need more memory than there is"))
            continue
        lines.append(_row(f"batches of {size}", f"{rate:.1f}", "the best" * (rate == best)))
    live = f"of {figures['channels']}"
    peak = f"{figures['peak_flops'] / 1e9:.0f} GFLOP/s, reached by a matrix product"
    lines += [
        "",
        "Score-CAM",
        _row("live channels", f"{figures['live_channels']}", live),
        _row("masked passes", f"{figures['passes']}", f"{figures['batch_size']} at a time"),
        _row("a map", f"{figures['seconds']:.2f} s"),
        _row("  of five targets", f"{figures['five_targets']:.2f}", "times as long"),
        _row("masked passes per second", f"{figures['passes_per_second']:.1f}"),
        _row("  of the network alone", _percent(figures["share_of_forward"]), "at its best"),
        _row("  of the peak", _percent(share), f"of {peak}"),
        *(
            _row(f"  {size} at a time", f"{rate:.1f}", _advice(size, figures))
            for size, rate in figures["passes_per_second_at"].items()
        ),
        _row("compilation", f"{figures['compile_seconds']:.1f} s", "once"),
        _row("temporary memory", _megabytes(temporaries), "as the compiler states it"),
    ]
    if "shortcuts" in figures:
        header = "".join(f"{word:>10}" for word in ("alike", "least", "farthest"))
        lines += [
            "",
            f"{'':<34}{'the first class':>30}{'the next four':>30}",
            f"{'shortcuts':<24}{'seconds':>10}{header}{header}",
        ]
        keys = "correlation", "least_correlation", "largest_difference"
        for name, row in figures["shortcuts"].items():
            likeness = "".join(
                f"{row[classes][key]:>10.3f}" for classes in ("first", "next") for key in keys
            )
            lines.append(f"  {name:<22}{row['seconds']:>10.2f}{likeness}")
    if "peers" in figures:
        first = next(iter(figures["peers"]))
        lines += ["", f"{'whole maps':<24}{'seconds':>10}{'times':>10}{'memory grows':>16}"]
        for name, row in figures["peers"].items():
            if "error" in row:
                lines.append(f"  {name:<22}  did not run: {row['error']}")
                continue
            times = f"{row['times']:.1f}" if "times" in row and name != first else ""
            grown = _megabytes(row["bytes"])
            lines.append(f"  {name:<22}{row['seconds']:>10.2f}{times:>10}{grown:>16}")
    return "\n".join(lines)


def _advice(size: int, figures: dict[str, Any]) -> str:
    if size == figures["faster_batch_size"]:
        return f"much faster than the default: pass batch_size={size}"
    return "the default" * (size == figures["batch_size"])


def _row(name: str, value: str, remark: str = "") -> str:
    return f"  {name:<26}{value:>10}  {remark}".rstrip()


def _percent(share: float | None) -> str:
    return f"{share:.1%}" if share else "-"


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f} MB"
