"""From a model's outputs to the scores of the classes to explain."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def class_scores(
    score: Callable[..., Any], outputs: Any, batch: int
) -> Float[Array, "batch classes"]:
    """Apply `score` to the outputs, in float32 or wider.

    Raises:
        ValueError: the result is not (batch, classes).
    """
    scores = score(jax.tree.map(in_full_precision, outputs))
    shape = getattr(scores, "shape", type(scores).__name__)
    if not hasattr(scores, "shape") or len(shape) != 2 or shape[0] != batch:
        raise ValueError(
            f"score(outputs) gave {shape}, wanted (N, classes) = ({batch}, ...); pass a score "
            "function that reduces your model's outputs to one row of class scores per input"
        )
    return scores


def select(
    scores: Float[Array, "n classes"], targets: Int[Array, "n targets"]
) -> Float[Array, "n targets"]:
    """Return each row's scores of its targets."""
    return jnp.take_along_axis(scores, targets, 1, mode="clip")


def in_full_precision(values: Any) -> Any:
    """Widen a floating-point array narrower than float32 to float32."""
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return values
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))
