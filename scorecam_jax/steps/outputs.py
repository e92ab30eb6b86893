"""From a model's outputs to the scores of the classes to explain."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from scorecam_jax._internal.notes import (
    check_arrays,
    choose_one,
    is_one_array,
    is_our_own,
    unscorable,
)
from scorecam_jax.steps.scores import is_softmax


def class_scores(
    score: Callable[..., Any], outputs: Any, batch: int
) -> Float[Array, "batch classes"]:
    """Apply `score` to the outputs, in float32 or wider.

    Raises:
        TypeError: the outputs contain something other than arrays.
        ValueError: the result is not (batch, classes), it is a softmax over a single class, or
            `score` cannot take several outputs.
    """
    check_arrays(outputs)
    leaves = jax.tree.leaves(outputs)
    lacks = unscorable([(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves], batch)
    if lacks and not _is_floating(leaves) and is_softmax(score):
        raise ValueError(lacks)
    try:
        scores = score(jax.tree.map(in_full_precision, outputs))
    except (TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ValueError) and is_our_own(error.__traceback__):
            raise
        if lacks:
            raise ValueError(lacks) from error
        if is_one_array(outputs):
            raise
        raise ValueError(choose_one(outputs, batch)) from error
    if not hasattr(scores, "shape") and not is_one_array(outputs):
        raise ValueError(choose_one(outputs, batch))
    shape = getattr(scores, "shape", type(scores).__name__)
    if not hasattr(scores, "shape") or len(shape) != 2 or shape[0] != batch:
        if lacks and (not shape or not _is_floating(leaves)):
            raise ValueError(lacks)
        raise ValueError(
            f"score(outputs) gave {shape}, wanted (N, classes) = ({batch}, ...); pass a score "
            "function that reduces your model's outputs to one row of class scores per input. If "
            "the inputs are a single image, add a batch axis: inputs[None]"
        )
    if shape[1] == 1 and is_softmax(score):
        raise ValueError(
            "the score is a softmax over a single class, which is 1 whatever the input: pass "
            "score=scores.sigmoid for a yes-or-no logit (scores.binary to explain the no as well), "
            "or score=scores.values for a regression and for outputs that are probabilities already"
        )
    return scores


def _is_floating(leaves: Any) -> bool:
    """Whether any of some arrays is floating point."""
    return any(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves)


def is_softmax_of_probabilities(
    outputs: Any,
    scores: Float[Array | np.ndarray, "n targets"],
    targets: Int[Array | np.ndarray, "n targets"],
) -> Bool[Array, " n"]:
    """Return for which inputs the scores are the softmax of outputs that are already probabilities.

    Probabilities are rows of nonnegative numbers that sum to 1. Two kinds of rows do not count:
    equal probabilities, which a softmax does not change, and one-hot rows, which may be logits.
    """
    found = jnp.zeros(len(targets), bool)
    for leaf in jax.tree.leaves(outputs):
        if leaf.ndim != 2 or leaf.shape[1] < 2 or not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue
        rows = in_full_precision(leaf)
        sums_to_one = (rows >= 0).all(1) & (jnp.abs(rows.sum(1) - 1) < _TOLERANCE)
        again = of_targets(jnp.asarray(jax.nn.softmax(rows)), jnp.asarray(targets))
        same = (jnp.abs(scores - again) <= _ROUNDING * again).all(1)
        uneven = (rows.max(1) - rows.min(1) > _TOLERANCE) & (rows.max(1) < 1)
        found |= sums_to_one & same & uneven
    return found


_TOLERANCE = 1e-2  # of a sum of probabilities in half precision
_ROUNDING = 1e-5


def of_targets(
    scores: Float[Array, "n classes"], targets: Int[Array, "n targets"]
) -> Float[Array, "n targets"]:
    """Return each row's scores of its targets."""
    return jnp.take_along_axis(scores, targets, 1, mode="clip")


def in_full_precision(values: Any) -> Any:
    """Widen a floating-point array narrower than float32 to float32."""
    if not jnp.issubdtype(jnp.result_type(values), jnp.floating):
        return values
    return jnp.asarray(values, jnp.promote_types(jnp.result_type(values), jnp.float32))
