"""The two layers the bundled networks are made of."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.convolutions import convolve


class Conv(nnx.Module):
    """A 2-D convolution with bias and activation, channels last.

    With `epsilon`, a batch norm follows the convolution in the published network. It is folded
    into kernel and bias when a checkpoint is read; `epsilon` is what it adds to variances.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        padding: str | int = "SAME",
        depthwise: bool = False,
        activation: Callable[[jax.Array], jax.Array] | None = None,
        epsilon: float | None = None,
        rngs: nnx.Rngs,
    ):
        shape = (size, size, 1 if depthwise else inputs, outputs)
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.stride = stride
        self.padding = padding
        self.depthwise = depthwise
        self.activation = activation
        self.epsilon = epsilon

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations; rows and columns are height and width by the stride."""
        kernel = self.kernel[...]
        dtype = jnp.result_type(x, kernel)
        x = convolve(
            x.astype(dtype),
            kernel.astype(dtype),
            stride=self.stride,
            padding=self.padding,
            depthwise=self.depthwise,
        )
        x = x + self.bias[...].astype(dtype)[None, None, None]
        return x if self.activation is None else self.activation(x)


class Linear(nnx.Module):
    """A matrix product with bias."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        """The product, with the bias added."""
        return x @ self.kernel[...] + self.bias[...][None]
