"""3×3 convolutions with fewer multiplications, for CPUs.

An m×m tile of the output takes (m+2)² products instead of 9m². The products are those of
transformed tiles of the input and the transformed kernel, summed over channels as matrix products.

References:
    Winograd, "Arithmetic Complexity of Computations", SIAM 1980; Lavin and Gray, "Fast Algorithms
    for Convolutional Neural Networks", CVPR 2016 (arXiv 1509.09308).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# The points, apart from infinity, at which polynomials are evaluated. Those for m = 4 keep the
# error at three times that of a direct sum; with the usual integers it is seven times.
_POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))}


def transform_kernel(
    kernel: Float[Array, "3 3 inputs outputs"], tile: int
) -> Float[Array, "products inputs outputs"]:
    """Transform a kernel for `convolve`: G g Gᵀ for each pair of channels.

    Args:
        kernel: the kernel of the convolution.
        tile: m, 2 or 4.
    """
    _, matrix, _ = _transforms(tile)
    both = jnp.asarray(np.kron(matrix, matrix), kernel.dtype)
    flat = both @ kernel.swapaxes(0, 1).reshape(9, -1)
    return flat.reshape(len(both), *kernel.shape[2:])


def convolve(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "products inputs outputs"],
    tile: int,
) -> Float[Array, "batch height width outputs"]:
    """Convolve with stride 1 and a border of one zero: Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A.

    Args:
        x: the activations.
        kernel: the result of `transform_kernel`.
        tile: m, 2 or 4.
    """
    inward, _, outward = _transforms(tile)
    batch, height, width, inputs = x.shape
    rows, columns = -(-height // tile), -(-width // tile)
    border = [(0, 0), *((1, n * tile + 1 - size) for n, size in ((rows, height), (columns, width)))]
    padded = jnp.pad(x, [*border, (0, 0)])
    size = len(inward)
    bands = _mix(inward, [padded[:, i : i + (rows - 1) * tile + 1 : tile] for i in range(size)])
    tiles = _mix(
        inward, [bands[:, :, :, j : j + (columns - 1) * tile + 1 : tile] for j in range(size)]
    )
    # Factors rounded to fewer bits would make several times the errors of a direct sum.
    products = jnp.matmul(tiles.reshape(size * size, -1, inputs), kernel, precision="highest")
    products = products.reshape(size, size, batch, rows, columns, -1)
    bands = _mix(outward, [products[:, i] for i in range(size)])
    tiles = _mix(outward, [bands[:, j] for j in range(size)], 4)
    y = jnp.moveaxis(tiles.reshape(tile, batch, rows, columns * tile, -1), 0, 2)
    y = y.reshape(batch, rows * tile, columns * tile, -1)
    return y[:, :height, :width]


def _mix(matrix: np.ndarray, values: Sequence[Array], axis: int = 0) -> Array:
    """Multiply a matrix by a vector of arrays, and stack the results along an axis.

    Without the barrier, XLA computes each sum again wherever it is used.
    """
    rows = [
        sum((float(c) * value for c, value in zip(row, values, strict=True) if c), start=0.0)
        for row in matrix
    ]
    return lax.optimization_barrier(jnp.stack(rows, axis))


def _transforms(tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bᵀ, G and Aᵀ of F(m, 3), by the Toom–Cook construction.

    A row of G evaluates the kernel's polynomial at a point, a column of Aᵀ the powers of the
    point, and a row of Bᵀ holds the polynomial that is zero at the other points.
    """
    points = np.array(_POINTS[tile])
    others = [np.delete(points, i) for i in range(len(points))]
    scale = np.array([np.prod(point - rest) for point, rest in zip(points, others, strict=True)])
    outward = np.column_stack([np.vander(points, tile, increasing=True).T, np.eye(tile)[-1]])
    kernel = np.vstack([np.vander(points, 3, increasing=True) / scale[:, None], np.eye(3)[-1]])
    inward = np.vstack(
        [*(np.append(np.poly(rest)[::-1], 0.0) for rest in others), np.poly(points)[::-1]]
    )
    inward = np.where(np.abs(inward) < 1e-12, 0.0, inward)  # what should have cancelled
    return inward, kernel, outward
