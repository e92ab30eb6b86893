"""The network that the options name."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from scorecam_jax import models
from scorecam_jax.cli.errors import UserError, out_of_memory, translated


def load(
    name: str,
    weights: Path | None = None,
    *,
    layer: str | None = None,
    dtype: str | None = None,
    or_random: bool = False,
) -> models.Classifier:
    """Load a classifier.

    Args:
        name: of the network.
        weights: its checkpoint; None: its usual weights.
        layer: to explain; None: its usual layer.
        dtype: to run it in.
        or_random: initialise a network without weights at random.

    Raises:
        UserError: it cannot be loaded, or its weights are not finite.
    """
    if ":" in name and not {"", str(Path.cwd())} & set(sys.path):
        # A function of the user's own is sought where the command runs, as `python -m` does.
        sys.path.insert(0, str(Path.cwd()))
    try:
        if or_random and not (weights or models.packaged_weights(name)):
            return models.random(name, layer, dtype)
        classifier = models.load(name, weights=weights, layer=layer, dtype=dtype)
    except (ImportError, LookupError, OSError, TypeError, ValueError) as error:
        raise translated(error) from error
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"{name} is too large for this machine's memory") from error
    _check_finite(classifier.model, weights or name)
    return classifier


def input_shape(classifier: models.Classifier) -> tuple[int, ...]:
    """The shape of a batch of one."""
    return 1, *classifier.input_size, 3


def _check_finite(model: Any, origin: object) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        if not jax.numpy.issubdtype(getattr(leaf, "dtype", int), np.floating):
            continue
        wrong = leaf.size - np.count_nonzero(np.isfinite(np.asarray(leaf)))
        if wrong:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"the weights of {origin} are not finite: {wrong} of {leaf.size} values of {name} "
                "are NaN or infinite; the checkpoint may be of a training that diverged"
            )
