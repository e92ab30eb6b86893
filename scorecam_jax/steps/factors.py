"""Nonnegative matrix factorisation, small and inside `jit`."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax.steps.masks import divide


def factorize(
    matrix: Float[Array, "places channels"], count: int, steps: int = 100
) -> tuple[Float[Array, "places count"], Float[Array, "count channels"]]:
    """Factorise a nonnegative matrix X into nonnegative S V, with the least Σ (X − S V)².

    V starts with rows of X, each the longest of what those before it do not explain (successive
    projection), so nothing is random. Then S and V are improved in turn, a column at a time
    (hierarchical alternating least squares). The largest value of each column of S is 1: a row of
    V is what a place holds where its share is whole. Of a matrix of lower rank than `count`, the
    last columns are 0.

    Args:
        matrix: X, nonnegative.
        count: how many columns S has.
        steps: how many times both are improved.

    Returns:
        S and V. They count as constants in derivatives.

    Source: Araújo et al. 2001 (successive projection), and Cichocki and Phan 2009 (hierarchical
    alternating least squares).

    >>> shares, vectors = factorize(jnp.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.5]]), 2)
    >>> shares.round(3).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]
    >>> vectors.round().astype(int).tolist()
    [[0, 3], [2, 0]]
    """
    matrix = jax.lax.stop_gradient(matrix)

    def pick(residual: Array, _: None) -> tuple[Array, Array]:
        lengths = (residual**2).sum(1)
        longest = lengths.argmax()
        direction = divide(residual[longest], jnp.sqrt(lengths[longest]))
        along = jnp.matmul(residual, direction, precision="highest")
        return residual - along[:, None] * direction[None], longest

    _, places = jax.lax.scan(pick, matrix, length=count)

    def improve(shares: Array, target: Array, vectors: Array) -> Array:
        squares = jnp.matmul(vectors, vectors.T, precision="highest")
        wanted = jnp.matmul(target, vectors.T, precision="highest")

        def column(number: Any, shares: Array) -> Array:
            missed = wanted[:, number] - jnp.matmul(shares, squares[:, number], precision="highest")
            moved = shares[:, number] + divide(missed, squares[number, number])
            return shares.at[:, number].set(jax.nn.relu(moved))

        return jax.lax.fori_loop(0, count, column, shares)

    def step(_: Any, both: tuple[Array, Array]) -> tuple[Array, Array]:
        shares, vectors = both
        shares = improve(shares, matrix, vectors)
        return shares, improve(vectors.T, matrix.T, shares.T).T

    start = jnp.zeros((len(matrix), count), matrix.dtype), matrix[places]
    shares, vectors = jax.lax.fori_loop(0, steps, step, start)
    size = shares.max(0)
    return divide(shares, jnp.broadcast_to(size, shares.shape)), vectors * size[:, None]
