"""From scores to weights: pure functions `(scores, live, empty) -> weights`.

`scores` (B, T, K) holds the target's score under each mask. `live` (B, 1, K) tells which masks are
not zero. `empty` (B, T, 1) is the score under an empty mask, which shows only the baseline. Weights
are (B, T, K).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def score_itself(
    scores: Float[Array, "b t k"], live: Bool[Array, "b 1 k"], empty: Float[Array, "b t 1"]
) -> Float[Array, "b t k"]:
    """Weight each channel by its score, even if its mask is empty."""
    return scores


def score_of_live(
    scores: Float[Array, "b t k"], live: Bool[Array, "b 1 k"], empty: Float[Array, "b t 1"]
) -> Float[Array, "b t k"]:
    """Weight each channel by its score. Constant channels, whose masks are empty, get weight 0."""
    return jnp.where(live, scores, 0)


def increase_of_confidence(
    scores: Float[Array, "b t k"], live: Bool[Array, "b 1 k"], empty: Float[Array, "b t 1"]
) -> Float[Array, "b t k"]:
    """Weight each channel by the increase of its score over the baseline's.

    Source: Score-CAM, Eqs. 6 to 8: C(A_k) = f(X ∘ H_k) − f(X_b).
    """
    return scores - empty


def softmax_over_channels(
    scores: Float[Array, "b t k"], live: Bool[Array, "b 1 k"], empty: Float[Array, "b t 1"]
) -> Float[Array, "b t k"]:
    """Softmax of the scores over the channels. The baseline's score cancels.

    Source: Score-CAM, Algorithm 1: α = softmax(S), S_k = f(M_k) − f(X_b).
    """
    return jax.nn.softmax(scores, axis=-1)


def softmax_of_chosen(
    scores: Float[Array, "b t k"], chosen: Bool[Array, "b t k"]
) -> Float[Array, "b t k"]:
    """Softmax of the scores over the chosen channels; the others get 0."""
    return jax.nn.softmax(scores, axis=-1, where=chosen)
