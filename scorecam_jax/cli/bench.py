"""`scorecam bench`: how fast Score-CAM is on this machine."""

import argparse
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from scorecam_jax import Gradient, models, score_cam
from scorecam_jax.benchmark.bench import bench, blobs, compare_with_exact
from scorecam_jax.benchmark.peers import race
from scorecam_jax.cli.common import UserError, load, open_photo, translated
from scorecam_jax.cli.progress import Progress


def run(options: argparse.Namespace) -> int:
    """Print a table of figures; 1 if a package to compare with could not run."""
    if options.peers:  # that several processes have room on one accelerator
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    photo = _photo(options.photo) if options.photo else blobs()
    several = [_photo(path) for path in options.shortcuts]
    options.layer = None
    with Progress(1, enabled=not options.quiet) as progress:
        progress.start("loading the model")
        classifier = load(options, or_random=True)
        known = options.weights or models.packaged_weights(options.model)
        figures: dict[str, Any] = {
            "model": options.model,
            "layer": classifier.layer,
            "weights": str(known) if known else None,
            "photo": str(options.photo) if options.photo else None,
            "dtype": options.dtype or "float32",
        }
        try:
            figures |= bench(
                classifier,
                photo,
                batch_sizes=options.batch_size,
                channels=options.channels,
                repeats=options.repeats,
                progress=progress.start,
            )
        except ValueError as error:
            raise translated(error) from error
        if several:
            options.dtype = "bfloat16"
            figures["shortcuts"] = compare_with_exact(
                _shortcuts(
                    classifier.model, load(options, or_random=True).model, figures["channels"]
                ),
                [jnp.asarray(classifier.preprocess(photo))[None] for photo in several],
                progress.start,
            )
        if options.peers:
            figures["peers"] = race(
                options.model,
                np.asarray(classifier.preprocess(photo))[None],
                weights=options.weights,
                repeats=options.repeats,
                progress=progress.start,
            )
    print(json.dumps(figures, indent=2) if options.json else _table(figures))
    return int(any("error" in row for row in figures.get("peers", {}).values()))


def _photo(path: Path) -> Image.Image:
    try:
        return open_photo(path)
    except UserError as problem:
        raise UserError(f"{path}: {problem}") from problem


def _shortcuts(model: Any, narrow: Any, channels: int) -> dict[str, Any]:
    ways: dict[str, Any] = {"all channels": partial(score_cam, model)}
    for count in (16, 32, 64, 128, 256):
        if count < channels:
            few = {f"{count} channels": count, f"{count} by gradient": Gradient(count)}
            ways |= {name: partial(score_cam, model, channels=way) for name, way in few.items()}
    return ways | {"bfloat16": partial(score_cam, narrow)}


def _table(figures: dict[str, Any]) -> str:
    weights = "" if figures["weights"] else ", random weights"
    share = figures["share_of_peak_flops"]
    temporaries = figures["temporary_bytes"]
    lines = [
        f"{figures['model']}, layer {figures['layer']}{weights}, on "
        + (f"{figures['photo']}" if figures["photo"] else "a made-up picture"),
        f"{figures['device']}, {figures['cores']} cores, {figures['dtype']}, "
        f"JAX {figures['jax']}, Python {figures['python']}",
        "",
        "the bare network, images a second",
    ]
    rates = figures["forward_images_per_second"]
    best = max(rates.values())
    for size, rate in rates.items():
        lines.append(_row(f"batches of {size}", f"{rate:.1f}", "the best" * (rate == best)))
    live = f"of {figures['channels']}"
    peak = f"{figures['peak_flops'] / 1e9:.0f} GFLOP/s, as a product of matrices reaches here"
    lines += [
        "",
        "Score-CAM",
        _row("live channels", f"{figures['live_channels']}", live),
        _row("masked passes", f"{figures['passes']}", f"{figures['batch_size']} at a time"),
        _row("a map", f"{figures['seconds']:.2f} s"),
        _row("  of five targets", f"{figures['five_targets']:.2f}", "times as long"),
        _row("masked passes a second", f"{figures['passes_per_second']:.1f}"),
        _row("  of the bare network's", f"{figures['share_of_forward']:.1%}", "at its best"),
        _row("  of the peak", f"{share:.1%}" if share else "-", f"of {peak}"),
        _row("compilation", f"{figures['compile_seconds']:.1f} s", "once"),
        _row("temporary memory", _megabytes(temporaries), "as the compiler states it"),
    ]
    if "shortcuts" in figures:
        lines += ["", f"{'shortcuts':<24}{'seconds':>10}{'alike':>10}{'least':>10}{'farthest':>10}"]
        for name, row in figures["shortcuts"].items():
            keys = "correlation", "least_correlation", "largest_difference"
            likeness = "".join(f"{row[key]:>10.3f}" for key in keys)
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


def _row(name: str, value: str, remark: str = "") -> str:
    return f"  {name:<26}{value:>10}  {remark}".rstrip()


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f} MB"
