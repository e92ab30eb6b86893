"""From a volume to a network's input, and from a heatmap back to the volume."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class VolumePreprocess:
    """Turns volumes into a network's inputs, and maps heatmaps back to the volumes.

    Calling it on a volume returns (depth, height, width, 1) float32, `(values - mean) / std`.

    Attributes:
        size: (depth, height, width) of the input. Volumes are resized linearly.
        mean: the mean to subtract, in the file's units, such as Hounsfield units.
        std: the divisor.
    """

    size: tuple[int, int, int]
    mean: int | float = 0.0
    std: int | float = 1.0
    channels: ClassVar[int] = 1

    def __call__(
        self, volume: Float[np.ndarray, "slices rows columns"]
    ) -> Float[np.ndarray, "depth height width 1"]:
        """The network's input for a volume of any size."""
        values = jnp.asarray(volume, jnp.float32)
        resized = jax.image.resize(values, self.size, "linear", antialias=True)
        return np.asarray((resized - self.mean) / self.std)[..., None]

    def restore(
        self,
        heatmap: Float[Array | np.ndarray, "depth height width"],
        shape: tuple[int, ...],
    ) -> Float[np.ndarray, "slices rows columns"]:
        """Resize a heatmap linearly to the shape of the volume."""
        values = jnp.asarray(heatmap, jnp.float32)
        return np.asarray(jax.image.resize(values, shape, "linear", antialias=False))
