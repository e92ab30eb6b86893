"""`scorecam explain`: what made a photograph look like a class."""

import argparse
from typing import Any

from scorecam_jax.cli import names, options
from scorecam_jax.cli.choice import add_how

NAME, ARGUMENTS = "explain", "PHOTO|DIR..."

SUMMARY = "draw what made a photograph look like a class"

DESCRIPTION = """\
Print the five likeliest classes of each photograph, and draw a sheet: the
photograph, then for each class explained the photograph in grey under the
class's heatmap, at its own size. The part that the network does not see,
because its input is cropped, is bleached. --only writes a picture of each class
instead, to use elsewhere.

Without --target and --top the likeliest class is explained. Further classes
cost next to nothing: all are scored in the same passes.
"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_targets(command)
    how = command.add_argument_group("how")
    how.add_argument(
        "--method",
        choices=names.METHODS,
        default="score-cam",
        metavar="NAME",
        help="how to explain (default: score-cam); `scorecam methods` lists the methods",
    )
    add_how(how)
    look = options.add_look(command)
    look.add_argument(
        "--only",
        choices=("overlay", "heatmap"),
        help="instead of a sheet a picture of each class, at the photograph's size: overlay is the "
        "photograph under the heatmap, heatmap the heatmap alone, transparent where it is low; "
        "called PHOTO-scorecam-CLASS.png",
    )
    options.add_output(command, "PHOTO-scorecam.png", "(targets, height, width)")


def run(asked: argparse.Namespace) -> int:
    """Draw a sheet of each photograph: itself, and its heatmap for each class."""
    from scorecam_jax.cli.common import draw_photos
    from scorecam_jax.study.drawing import by_target

    return draw_photos(
        asked,
        [asked.method],
        ending=f"-{asked.method.replace('-', '')}",
        layout=by_target,
        remarks=_remarks,
        head={"method": asked.method},
    )


def _remarks(targets: list[dict[str, Any]]) -> list[str]:
    from scorecam_jax.study.drawing import short

    lines = [
        f"nothing in it speaks for {short(target['name'])}: that heatmap is empty"
        for target in targets
        if target["empty"]
    ]
    peaks = [target["peaks"][0] for target in targets]
    if min(peaks) < max(peaks):
        lines.append("the heatmaps peak, relative to the strongest, at:")
        lines += [
            f"  {100 * peak:>8.3g} %  {short(target['name'])}"
            for peak, target in zip(peaks, targets, strict=True)
        ]
    return lines
