"""`scorecam bench`: how fast Score-CAM is on this machine."""

import argparse
import json
import os
from typing import Any

import numpy as np

from scorecam_jax import models
from scorecam_jax.bench import bench, blobs
from scorecam_jax.commands.common import UserError, load, open_photo, translated
from scorecam_jax.commands.progress import Progress
from scorecam_jax.peers import race


def run(options: argparse.Namespace) -> int:
    """Print a table of figures; 1 if a package to compare with could not run."""
    if options.peers:  # that several processes have room on one accelerator
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        photo = open_photo(options.photo) if options.photo else blobs()
    except UserError as problem:
        raise UserError(f"{options.photo}: {problem}") from problem
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


def _table(figures: dict[str, Any]) -> str:
    weights = "" if figures["weights"] else ", random weights"
    share = figures["share_of_peak_flops"]
    temporaries = figures["temporary_bytes"]
    lines = [
        f"{figures['model']}, layer {figures['layer']}{weights}, on "
        + (f"{figures['photo']}" if figures["photo"] else "a made-up picture"),
        f"{figures['device']}, {figures['cores']} cores, JAX {figures['jax']}, "
        f"Python {figures['python']}",
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
        _row("masked passes a second", f"{figures['passes_per_second']:.1f}"),
        _row("  of the bare network's", f"{figures['share_of_forward']:.1%}", "at its best"),
        _row("  of the peak", f"{share:.1%}" if share else "-", f"of {peak}"),
        _row("compilation", f"{figures['compile_seconds']:.1f} s", "once"),
        _row("temporary memory", _megabytes(temporaries), "as the compiler states it"),
    ]
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
