"""From a model's outputs to the scores of the classes to explain."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from scorecam_jax._internal.notes import check_arrays, choose_one, is_one_array


def class_scores(
    score: Callable[..., Any], outputs: Any, batch: int
) -> Float[Array, "batch classes"]:
    """Apply `score` to the outputs, in float32 or wider.

    Raises:
        TypeError: the outputs hold something else than arrays.
        ValueError: the result is not (batch, classes), or `score` cannot take several outputs.
    """
    check_arrays(outputs)
    try:
        scores = score(jax.tree.map(in_full_precision, outputs))
    except (TypeError, AttributeError) as error:
        if is_one_array(outputs):
            raise
        raise ValueError(choose_one(outputs, batch)) from error
    if not hasattr(scores, "shape") and not is_one_array(outputs):
        raise ValueError(choose_one(outputs, batch))
    shape = getattr(scores, "shape", type(scores).__name__)
    if not hasattr(scores, "shape") or len(shape) != 2 or shape[0] != batch:
        raise ValueError(
            f"score(outputs) gave {shape}, wanted (N, classes) = ({batch}, ...); pass a score "
            "function that reduces your model's outputs to one row of class scores per input. If "
            "the inputs are a single image, add a batch axis: inputs[None]"
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
