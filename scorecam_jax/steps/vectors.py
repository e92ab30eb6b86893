"""Directions of vectors."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def unit(vectors: Float[Array, "*rows features"]) -> Float[Array, "*rows features"]:
    """Vectors scaled to length 1; a zero vector stays zero."""
    squares = (vectors**2).sum(-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.where(squares > 0, squares, 1))


def cosines(
    vectors: Float[Array, "*rows features"], references: Float[Array, "n features"]
) -> Float[Array, "*rows n"]:
    """The cosine of the angle between each vector and each reference; 0 for a zero vector."""
    return jnp.matmul(unit(vectors), unit(references).T, precision="highest")
