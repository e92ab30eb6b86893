"""The layers that bundled networks are made of.

A layer with weights says which tensors of a checkpoint it takes, and takes them: `tensors` and
`fill`, as `Weighted` has it. A network of its own weights does the same.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Num

from scorecam_jax.models.convolutions import convolve
from scorecam_jax.models.convolutions.direct import Pads

Tensors = Mapping[str, Num[np.ndarray, "..."]]


@runtime_checkable
class Weighted(Protocol):
    """A part of a network whose weights come from a checkpoint."""

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor that it takes, as PyTorch stores it, by its name here."""

    def fill(self, tensors: Tensors) -> None:
        """Take these tensors, float32, as weights."""


class Conv(nnx.Module):
    """A 2-D convolution with bias and activation, channels last.

    `depthwise` convolves each channel by itself, `groups` as many parts of the channels. With
    `epsilon`, a batch norm follows the convolution in the published network.
    It is folded into kernel and bias when a checkpoint is read; `epsilon` is what it adds to
    variances.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        padding: str | int | Pads = "SAME",
        depthwise: bool = False,
        groups: int = 1,
        bias: bool = True,
        activation: Callable[[jax.Array], jax.Array] | None = None,
        epsilon: float | None = None,
        rngs: nnx.Rngs,
    ):
        shape = (size, size, 1 if depthwise else inputs // groups, outputs)
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.stride = stride
        self.padding = padding
        self.groups = inputs if depthwise else groups
        # Whether the checkpoint has one; with a batch norm it has none.
        self.has_bias = bias and epsilon is None
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
            groups=self.groups,
        )
        x = x + self.bias[...].astype(dtype)[None, None, None]
        return x if self.activation is None else self.activation(x)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The kernel, its bias, and what its batch norm knows."""
        height, width, inputs, outputs = self.kernel.shape
        names = ["bias"] if self.has_bias else []
        if self.epsilon is not None:
            names += [f"norm.{kind}" for kind in BATCH_NORM]
        return {"weight": (outputs, inputs, height, width), **dict.fromkeys(names, (outputs,))}

    def fill(self, tensors: Tensors) -> None:
        """Take the kernel, with its batch norm folded in."""
        kernel = tensors["weight"].transpose(2, 3, 1, 0)
        bias = tensors["bias"] if self.has_bias else np.zeros(kernel.shape[-1], np.float32)
        if self.epsilon is not None:
            scale, bias = batch_norm(tensors, self.epsilon, "norm.")
            kernel = kernel * scale
        self.kernel = nnx.Param(jnp.asarray(kernel, jnp.float32))
        self.bias = nnx.Param(jnp.asarray(bias, jnp.float32))


class Linear(nnx.Module):
    """A matrix product over the last axis, with a bias unless it is to have none."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """The product, with the bias added."""
        x = x @ self.kernel[...]
        return x if self.bias is None else x + _along_last(self.bias, x.ndim)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The matrix, outputs first, and the bias."""
        inputs, outputs = self.kernel.shape
        bias = {} if self.bias is None else {"bias": (outputs,)}
        return {"weight": (outputs, inputs), **bias}

    def fill(self, tensors: Tensors) -> None:
        """Take the matrix and the bias."""
        self.kernel = nnx.Param(jnp.asarray(tensors["weight"].T))
        if self.bias is not None:
            self.bias = nnx.Param(jnp.asarray(tensors["bias"]))


class LayerNorm(nnx.Module):
    """The features of each place, of mean 0 and variance 1, then scaled and shifted.

    Mean and variance are computed in float32 at least.

    References:
        Ba, Kiros, Hinton, "Layer Normalization", 2016 (arXiv 1607.06450), equation 4.
    """

    def __init__(self, width: int, *, epsilon: float = 1e-6):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The normalised features, of the type of the input."""
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centred = wide - wide.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        normed = (centred * jax.lax.rsqrt(variance + self.epsilon)).astype(x.dtype)
        return normed * _along_last(self.scale, x.ndim) + _along_last(self.bias, x.ndim)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The scale and the shift."""
        return dict.fromkeys(("weight", "bias"), self.scale.shape)

    def fill(self, tensors: Tensors) -> None:
        """Take the scale and the shift."""
        self.scale = nnx.Param(jnp.asarray(tensors["weight"]))
        self.bias = nnx.Param(jnp.asarray(tensors["bias"]))


def _along_last(vector: nnx.Param[jax.Array], ndim: int) -> jax.Array:
    return jnp.expand_dims(vector[...], tuple(range(ndim - 1)))


BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def batch_norm(
    tensors: Tensors, epsilon: float, prefix: str = ""
) -> tuple[Float[np.ndarray, " channels"], Float[np.ndarray, " channels"]]:
    """What a batch norm in evaluation multiplies by, and what it adds then.

    Args:
        tensors: its weight, bias and statistics.
        epsilon: what it adds to variances.
        prefix: what the tensors' names begin with.
    """
    weight, bias, mean, variance = (tensors[f"{prefix}{kind}"] for kind in BATCH_NORM)
    scale = weight / np.sqrt(variance + epsilon)
    return scale, bias - mean * scale


class Unchanged(nnx.Module):
    """What stands where a layer was left out."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The same."""
        return x
