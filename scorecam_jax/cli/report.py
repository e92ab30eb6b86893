"""`scorecam report`: photographs and their heatmaps in one HTML file."""

import argparse
from pathlib import Path

from scorecam_jax.cli import names, options
from scorecam_jax.cli.choice import add_how, check_options
from scorecam_jax.cli.errors import complain

NAME, ARGUMENTS = "report", "PHOTO|DIR..."

SUMMARY = "write one HTML file to look through photographs in"

DESCRIPTION = """\
Explain photographs and write one HTML file in which they can be looked through:
classes and methods to switch between, opacity, the value under the pointer, the
box that a threshold implies, search, sorting and findings. The file needs no
network and no other file, and is a sheet of pictures where scripts do not run.

A photograph is done once: after an interruption the same command continues.
With boxes, the file also tells how well each heatmap lies on them.
"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    command.add_argument(
        "photos",
        nargs="+",
        type=options.place,
        metavar="PHOTO|DIR",
        help="image files, or folders of them; sample: is one with animals",
    )
    what = command.add_argument_group("what to explain")
    options.add_classes(what)
    options.add_reading(what)
    what.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="where the objects are: COCO's JSON, or a folder of VOC's XML (default: "
        "annotations.json in DIR if it is there)",
    )
    methods = (*names.METHODS, *names.PRESETS)
    what.add_argument(
        "--methods",
        type=options.some_of(methods),
        default=["score-cam"],
        metavar="NAME,...",
        help=f"{', '.join(methods)}, or all (default: score-cam)",
    )
    how = command.add_argument_group("how")
    add_how(how)
    how.add_argument(
        "--colormap",
        choices=names.COLORMAPS,
        default="ember",
        help="ember is perceptually uniform, jet is that of many papers (default: ember)",
    )
    where = command.add_argument_group("where it goes")
    where.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE.html",
        help="the file to write (default: report.html)",
    )
    where.add_argument(
        "--force",
        action="store_true",
        help="overwrite an existing file, though never a photograph of this call",
    )
    options.add_json(where)


def run(asked: argparse.Namespace) -> int:
    """Write the file; 1 if anything was left out."""
    check_options(asked, asked.methods)
    from scorecam_jax.cli.reporting import report_photos

    left_out = report_photos(asked)
    for note in left_out:
        complain(f"{note.what}: {note.why}")
    return int(bool(left_out))
