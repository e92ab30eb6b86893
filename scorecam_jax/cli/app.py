"""`scorecam app`: questions to a network, in a browser."""

import argparse
import threading
from typing import Any

from scorecam_jax.cli import options
from scorecam_jax.cli.errors import UserError, say, translated
from scorecam_jax.cli.progress import Progress

NAME, ARGUMENTS = "app", ""

SUMMARY = "look at photographs in a browser"

DESCRIPTION = """\
Serve a page on which a photograph is explained at once: a map appears after the
first passes, and sharpens to the exact one. Classes, methods and layers are
chosen on it. The page is for this machine alone, unless --host opens it to
others, and nothing is sent anywhere. Ctrl-C ends it.
"""

# For what is being computed when the page ends.
_PATIENCE = 20.0


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_model(command)
    where = command.add_argument_group("where it listens")
    where.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="0.0.0.0 lets others on the network in; whoever reaches the page may use it "
        "(default: 127.0.0.1, this machine alone)",
    )
    where.add_argument(
        "--port", type=options.count, metavar="N", help="(default: the first free one from 7860)"
    )
    where.add_argument("--open", action="store_true", help="open the page in a browser")
    where.add_argument("--quiet", action="store_true", help="no progress bar")
    options.add_cache(command)


def run(asked: argparse.Namespace) -> int:
    """Serve until stopped."""
    from scorecam_jax.app import page
    from scorecam_jax.app.engine import Networks
    from scorecam_jax.cli import common

    def load(*, layer: str | None, layers: int, embedding: bool) -> Any:
        wanted = argparse.Namespace(**vars(asked), like=embedding)
        try:
            return common.load(wanted, layer=layer, layers=layers)
        except UserError as error:
            raise ValueError(str(error)) from error  # the page tells it

    try:
        page.installed()
    except ImportError as error:
        raise translated(error) from error
    with Progress(1, enabled=not asked.quiet) as progress:
        progress.start("loading the model")
        given = {"name": asked.model, "weights": asked.weights, "labels": asked.labels}
        try:
            networks = Networks(load, **given, size=asked.size)
            progress.start("compiling")
            networks.warm()
            progress.start("starting the page")
            try:
                served, address = page.launch(
                    networks, host=asked.host, port=asked.port, inbrowser=asked.open
                )
            except OSError as error:
                where = f"{asked.host} at port {asked.port or '7860 to 7959'}"
                raise UserError(
                    f"cannot listen on {where}, which may be in use: name another --port"
                ) from error
        except (ValueError, TypeError) as error:
            raise translated(error) from error
    try:
        say(f"open {address} in a browser; Ctrl-C ends this")
        threading.Event().wait()
    finally:
        served.close(verbose=False)
        networks.close(_PATIENCE)
    return 0
