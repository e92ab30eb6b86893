"""`scorecam layers`: what can be explained."""

import argparse

import jax

from scorecam_jax import list_layers, models
from scorecam_jax.cli.common import input_shape, load


def run(options: argparse.Namespace) -> int:
    """Print the models, and the layers of one."""
    options.layer = None
    classifier = load(options, or_random=True)
    inputs = jax.ShapeDtypeStruct(input_shape(classifier), "float32")
    found = [layer for layer in list_layers(classifier.model, inputs) if len(layer.shape) == 4]
    width = max(len(layer.path) for layer in found)
    print(f"models: {', '.join(models.names())}")
    print(f"layers of {options.model} that can be explained (*: unless another is named):")
    for layer in found:
        mark = "*" if layer.path == classifier.layer else " "
        shape = " x ".join(map(str, layer.shape[1:]))
        print(f"{mark} {layer.path:<{width}}  {shape:<16} {layer.kind}")
    return 0
