"""The layers of the bundled networks.

A layer with weights is `Weighted`: `tensors` lists the checkpoint tensors that it needs, and `fill`
takes them. Networks with weights outside their layers are `Weighted` too.
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
        """The shape of each tensor needed, as PyTorch stores it, by its name here."""

    def fill(self, tensors: Tensors) -> None:
        """Take these tensors, float32, as weights."""


class Conv(nnx.Module):
    """A 2-D convolution with bias and activation, channels last.

    With `depthwise`, each channel is convolved separately; with `groups`, each of that many groups
    of channels. With `epsilon`, a batch norm follows the convolution in the published network, and
    adds `epsilon` to variances. It is folded into kernel and bias when a checkpoint is read.
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
        # Whether the checkpoint has a bias. Convolutions before a batch norm have none.
        self.has_bias = bias and epsilon is None
        self.activation = activation
        self.epsilon = epsilon

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations, downsampled by the stride."""
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
        """The kernel, its bias, and the parameters and statistics of its batch norm."""
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
    """A matrix product over the last axis, with a bias unless `bias` is False."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True, rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        """The product plus the bias."""
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
    """Normalises the features at each place to mean 0 and variance 1, then scales and shifts.

    Mean and variance are computed in float32 or wider.

    References:
        Ba, Kiros, Hinton, "Layer Normalization", 2016 (arXiv 1607.06450), equation 4.
    """

    def __init__(self, width: int, *, epsilon: float = 1e-6):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """The normalised features, rounded to the input's type before scaling."""
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
    """The scale and the shift of a batch norm at inference: it returns x · scale + shift.

    Args:
        tensors: the batch norm's weight, bias and statistics.
        epsilon: the number that it adds to variances.
        prefix: the prefix of the tensors' names.
    """
    weight, bias, mean, variance = (tensors[f"{prefix}{kind}"] for kind in BATCH_NORM)
    scale = weight / np.sqrt(variance + epsilon)
    return scale, bias - mean * scale


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The Gaussian error linear unit, x · Φ(x), without approximation.

    By `erf`, as PyTorch computes it: on a CPU, a vision transformer's pass takes 5 % less time than
    by `erfc`, as `jax.nn.gelu` computes it. Narrower types are computed in float32, in which
    1 + erf(x) does not lose the small values.

    References:
        Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016 (arXiv 1606.08415), section 2.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (0.5 * wide * (1 + jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


class Unchanged(nnx.Module):
    """The identity, in place of a layer that was left out."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The input."""
        return x
