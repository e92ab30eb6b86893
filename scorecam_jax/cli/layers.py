"""`scorecam layers`: what can be explained."""

import argparse
from typing import Any

from scorecam_jax.cli import options
from scorecam_jax.cli.errors import UserError, say, translated

NAME, ARGUMENTS = "layers", ""

SUMMARY = "list the models, and the layers of one"

DESCRIPTION = """\
List the models that can be loaded and the layers of one of them, in the order
in which they run, with the shapes of their outputs: height x width x channels.
Any of them can be given to --layer. What --layers 2 and --layers 3 explain
beside the default is marked 2 and 3.
"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_model(command)


def run(asked: argparse.Namespace) -> int:
    """Print the models, and the layers of one."""
    import jax

    from scorecam_jax import list_layers, models
    from scorecam_jax.cli.common import input_shape, load

    classifier = load(asked, or_random=True)
    inputs = jax.ShapeDtypeStruct(input_shape(classifier), "float32")
    try:
        layers = list_layers(classifier.model, inputs)
        added = _added(classifier, inputs)
    except (TypeError, ValueError) as error:
        raise translated(error) from error
    # Attention matrices are read by methods of their own, which find them.
    found = [x for x in layers if len(x.shape) == 4 and x.kind != "attention matrix"]
    if not found:
        raise UserError(f"{asked.model} has no layer with a grid")
    width = max(len(layer.path) for layer in found)
    lines = [
        f"models: {', '.join(models.names())}",
        f"layers of {asked.model} that can be explained (*: the default; 2, 3: what --layers 2 and "
        "--layers 3 add to it):",
    ]
    for layer in found:
        mark = "*" if layer.path == classifier.layer else added.get(layer.path, " ")
        shape = " x ".join(map(str, layer.shape[1:]))
        lines.append(f"{mark} {layer.path:<{width}}  {shape:<16} {layer.kind}")
    say("\n".join(lines))
    return 0


def _added(classifier: Any, inputs: Any) -> dict[str, str]:
    """Which layers --layers 2 and --layers 3 choose."""
    from scorecam_jax import list_layers

    marks: dict[str, str] = {}
    for count in (3, 2):
        layers = list_layers(classifier.with_layers(count).model, inputs)
        marks |= {layer.path: str(count) for layer in layers if layer.shown}
    return marks
