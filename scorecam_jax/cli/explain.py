"""`scorecam explain`: what made a photograph look like a class."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from scorecam_jax.cli import options
from scorecam_jax.cli.choice import add_how
from scorecam_jax.cli.errors import UserError

# The destination of results is not taken from the picture.
_NOT_REPEATED = ("output", "save_map", "save_classes", "force", "json", "quiet", "source")

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
    what = options.add_targets(command, required=False)
    what.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="PICTURE.png",
        help="repeat what made this picture of `scorecam explain`; photographs and options that "
        "are given replace its own",
    )
    how = command.add_argument_group("how")
    how.add_argument(
        "--method",
        choices=options.METHODS,
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
    if asked.source:
        _repeat(asked)
    if not asked.photos:
        raise UserError("name a photograph or a folder of them, or a picture with --from")
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


def _repeat(asked: argparse.Namespace) -> None:
    """Fill in the options that made a picture, unless they are given now.

    Raises:
        UserError: the picture has no command in it, or repeating the command would run or download
            something that is not named now.
    """
    usual, earlier = options.Parser(), argparse.Namespace()
    add_options(usual)
    words = shlex.split(_command_of(asked.source))
    if words[:2] != ["scorecam", NAME]:
        raise UserError(f"{asked.source} was made by {' '.join(words[:2])!r}, not by explain")
    usual.parse_args(words[2:], earlier)
    own = {
        name for name, value in vars(asked).items() if value not in ([], usual.get_default(name))
    }
    dangers = (("model", ":", "runs a function"), ("weights", "://", "downloads them"))
    for name, mark, danger in dangers:
        told = str(getattr(earlier, name) or "")
        if mark in told and name not in own:
            raise UserError(
                f"{asked.source} was made with --{name} {told}, which {danger}: name it again with "
                f"--{name} if you trust it"
            )
    for name, value in vars(earlier).items():
        if name not in own and name not in _NOT_REPEATED:
            setattr(asked, name, value)
    if not asked.model and not asked.weights:
        asked.model = options.DEFAULT_MODEL


def _command_of(picture: Path) -> str:
    """The command that made a picture, from its metadata."""
    from PIL import Image

    from scorecam_jax.study.drawing import COMMAND

    try:
        with Image.open(picture) as opened:
            told = getattr(opened, "text", {}).get(COMMAND)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{picture} cannot be read: {error}") from error
    if told is None:
        raise UserError(
            f"{picture} does not tell what made it; wanted a PNG file that `scorecam explain` wrote"
        )
    return str(told)


def _remarks(targets: list[dict[str, Any]]) -> list[str]:
    from scorecam_jax._internal.text import short

    lines = [
        f"no evidence for {short(target['name'])}: that heatmap is empty"
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
