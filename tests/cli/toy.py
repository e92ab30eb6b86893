"""A network with known outputs, and helpers to call the command line and read its pictures."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax.cli import main as cli

LABELS = (
    "red panda, lesser panda, Ailurus fulgens",
    "green lizard, Lacerta viridis",
    "blue jay",
    "giant panda, panda",
    "crane",
    "crane",
    "tiger, Panthera tigris",
    "tiger cat",
    "catamaran",
)
RED, GREEN, BLUE = 0, 1, 2
UNIX = pytest.mark.skipif(sys.platform == "win32", reason="there are no such files or signals")
COMMANDS = ("explain", "compare", "app", "evaluate", "bench", "layers", "methods")


def colour_network(traces):
    """A network whose classes 0, 1 and 2 are redness, greenness and blueness, on a 4 x 4 grid."""

    def model(inputs, edit=lambda activations: activations):
        traces.append(inputs.shape)
        activations = edit(inputs.reshape(-1, 4, 4, 4, 4, 3).mean((2, 4)))
        colours = 60 * activations.mean((1, 2))
        others = -jnp.arange(1.0, len(LABELS) - 2)
        others = jnp.broadcast_to(others, (len(colours), len(LABELS) - 3))
        return jnp.concatenate([colours, others], 1), activations

    return jax.tree_util.Partial(model)


def scorecam(*arguments):
    return cli.main([str(argument) for argument in arguments])


def read(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def panels(path, count, size=(48, 32)):
    """The panels of a sheet at their original size. The left edge of a panel must not be white."""
    page = np.asarray(read(path)).astype(int)
    factor = max(1, 256 // max(size))
    size = size[0] * factor, size[1] * factor
    gap, width = 8, max(180, size[0])
    columns = (page.shape[1] - gap) // (width + gap)
    found = []
    for index in range(count):
        row, column = divmod(index, columns)
        left = gap + column * (width + gap) + (width - size[0]) // 2
        drawn = np.r_[0, (page[:, left] < 255).any(-1), 0]
        starts, ends = np.flatnonzero(np.diff(drawn) > 0), np.flatnonzero(np.diff(drawn) < 0)
        top = starts[ends - starts == size[1]][row]
        panel = page[top : top + size[1], left : left + size[0]]
        plain = panel[::factor, ::factor]
        np.testing.assert_array_equal(panel, np.kron(plain, np.ones((factor, factor, 1), int)))
        found.append(plain)
    return found
