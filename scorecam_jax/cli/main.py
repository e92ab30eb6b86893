"""The command `scorecam`: parses its arguments, runs a command, reports errors."""

import argparse
import contextlib
import importlib.metadata
import platform
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import scorecam_jax
from scorecam_jax.cli import app, bench, compare, evaluate, explain, layers, methods, report
from scorecam_jax.cli.errors import OutputError, UserError, complain, say
from scorecam_jax.cli.options import DEFAULT_MODEL, Help, Parser
from scorecam_jax.cli.system import Stopped, prepare_streams, silence_output, stoppable

COMMANDS = (explain, compare, report, app, evaluate, bench, layers, methods)
"""Each has a NAME, ARGUMENTS, a SUMMARY and a DESCRIPTION, `add_options` and `run`."""

PACKAGES = (
    "jaxlib", "flax", "optax", "numpy", "pillow", "jaxtyping", "equinox", "dm-haiku", "keras",
    "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu",
)  # fmt: skip
"""Those whose versions `scorecam --version --verbose` prints, where they are installed."""

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

  By another method; then beside Grad-CAM and Grad-CAM++; then every published
  Score-CAM side by side:
    scorecam explain cat.jpg --method layer-cam
    scorecam compare cat.jpg --top 2
    scorecam compare cat.jpg --variants all

  A folder to look through, in one HTML file:
    scorecam report photos/ --methods score-cam,grad-cam -o report.html

  A page in the browser on which photographs are explained at once:
    scorecam app

  Which method is best on your photographs, with boxes of what is in them:
    scorecam evaluate photos/ --boxes annotations.json

  What can be explained, by which methods, and how fast it is here:
    scorecam layers --model resnet50
    scorecam methods
    scorecam bench --batch-size 1,8,32

`scorecam COMMAND --help` tells more about each command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments after the command's name; None: those of this process.

    Returns:
        0 if all went well; 1 if some photographs were left out, some package could not run or the
        results could not be printed; 2 for a usage error; 128 and the signal's
        number if stopped, 130 for Ctrl-C.
    """
    prepare_streams()
    try:
        with stoppable(), _warnings_in_our_words():
            try:
                return _run(argv)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
    except UserError as problem:
        complain(problem)
        return 2
    except KeyboardInterrupt as stop:
        stopped = stop if isinstance(stop, Stopped) else Stopped()
        notes = getattr(stop, "__notes__", [])
        complain("; ".join([stopped.reason, *notes]))
        return stopped.status
    except OutputError as problem:
        complain(problem)
        silence_output()
        return 1
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        silence_output()
        return 1
    except OSError as error:
        complain(error)
        silence_output()
        return 1


def parser() -> argparse.ArgumentParser:
    """The options of every command."""
    top = Parser(
        prog="scorecam",
        usage="scorecam COMMAND [options]",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=Help,
    )
    top.add_argument("--version", action="store_true", help="print the version, and stop")
    top.add_argument(
        "--verbose",
        action="store_true",
        help="with --version: also the packages, the machine and JAX's devices, for a bug report",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", prog="scorecam")
    for command in COMMANDS:
        words = ("scorecam", command.NAME, command.ARGUMENTS, "[options]")
        one = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            usage=" ".join(filter(None, words)),
            description=command.DESCRIPTION,
            formatter_class=Help,
        )
        one.set_defaults(run=command.run)
        command.add_options(one)
    return top


def _run(argv: Sequence[str] | None) -> int:
    arguments = parser()
    options = arguments.parse_args(argv)
    if options.version:
        say(_versions() if options.verbose else _version())
        return 0
    if options.verbose:
        arguments.error("--verbose goes with --version")
    if "run" not in options:
        arguments.print_help(sys.stderr)
        return 2
    repeated = getattr(options, "source", None) is not None  # whose network may be another
    named = "model" not in options or options.model or options.weights
    if not named and not repeated:
        options.model = DEFAULT_MODEL
    if getattr(options, "cache", False):
        from scorecam_jax.cli.system import keep_compiled_programs

        keep_compiled_programs()
    options.command = shlex.join(["scorecam", *(sys.argv[1:] if argv is None else argv)])
    return options.run(options)


@contextlib.contextmanager
def _warnings_in_our_words() -> Iterator[None]:
    """Print the library's warnings as plain messages, without lines of code."""
    with warnings.catch_warnings():
        plain = warnings.showwarning

        def show(message: Any, category: Any, *where: Any, **more: Any) -> None:
            if category is UserWarning:
                complain(message)
            else:
                plain(message, category, *where, **more)

        warnings.showwarning = show
        yield


def _version() -> str:
    jax = importlib.metadata.version("jax")
    return f"scorecam {scorecam_jax.__version__}, JAX {jax}, Python {platform.python_version()}"


def _versions() -> str:
    """What a bug report needs: versions, the machine, and the devices that JAX finds."""
    import jax

    lines = [_version(), platform.platform()]
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{package} {importlib.metadata.version(package)}")
    try:
        lines += [f"{one.platform}:{one.id} {one.device_kind}" for one in jax.devices()]
    except RuntimeError as error:  # no device of the platform that JAX was told to use
        lines.append(f"no devices: {error}")
    return "\n".join(lines)
