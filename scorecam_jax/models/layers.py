"""The two layers the bundled networks are made of, and how a checkpoint fills them."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Num

from scorecam_jax.models import winograd


class Conv(nnx.Module):
    """A 2-D convolution with bias and activation, channels last.

    The batch norm that follows the convolution in the published network is folded into its
    weights when a checkpoint is read: `source` names the convolution's entries there and, if
    there is one, the batch norm's.
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
        source: tuple[str, ...],
        epsilon: float = 1e-5,
        rngs: nnx.Rngs,
    ):
        shape = (size, size, 1 if depthwise else inputs, outputs)
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.stride = stride
        self.padding = padding
        self.depthwise = depthwise
        self.activation = activation
        self.source = source
        self.epsilon = epsilon

    def __call__(
        self, x: Float[Array, "batch height width inputs"]
    ) -> Float[Array, "batch rows columns outputs"]:
        """The activations; rows and columns are height and width by the stride."""
        kernel = self.kernel[...]
        dtype = jnp.result_type(x, kernel)
        x, kernel = x.astype(dtype), kernel.astype(dtype)
        if self.depthwise:
            x = _depthwise(x, kernel, self.stride, self.padding)
        elif kernel.shape[:2] == (1, 1):
            # On a CPU faster than the convolution it equals.
            x = x[:, :: self.stride, :: self.stride] @ kernel[0, 0]
        elif kernel[..., 0].size <= 27:
            x = _of_few_inputs(x, kernel, self.stride, self.padding)
        elif tile := _tile(x, kernel, self.stride, self.padding):
            x = _in_tiles(x, kernel, tile)
        else:
            x = _convolve(x, kernel, self.stride, self.padding)
        x = x + self.bias[...].astype(dtype)[None, None, None]
        return x if self.activation is None else self.activation(x)


class Linear(nnx.Module):
    """A matrix product with bias; `source` names its entries in a checkpoint."""

    def __init__(self, inputs: int, outputs: int, *, source: tuple[str, ...], rngs: nnx.Rngs):
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.source = source

    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        """The product, with the bias added."""
        return x @ self.kernel[...] + self.bias[...][None]


def _convolve(
    x: jax.Array, kernel: jax.Array, stride: int, padding: str | int, groups: int = 1
) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        _pads(x, kernel, stride, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _of_few_inputs(x: jax.Array, kernel: jax.Array, stride: int, padding: str | int) -> jax.Array:
    """A convolution in which few numbers make an output: on a CPU faster as a matrix product."""

    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        windows = jnp.concatenate(list(_shifts(x, kernel, stride, padding)), -1)
        return windows @ kernel.reshape(-1, kernel.shape[-1])

    def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _convolve(x, kernel, stride, padding)

    return lax.platform_dependent(x, kernel, cpu=product, default=convolution)


def _tile(x: jax.Array, kernel: jax.Array, stride: int, padding: str | int) -> int:
    """Winograd's tile with which a CPU is fastest, or 0 if it is without."""
    same = kernel.shape[:2] == (3, 3) and stride == 1 and padding in ("SAME", 1)
    if not same or x.dtype != jnp.float32:
        return 0
    # One image does not repay the kernel's transform, and the tiles of many leave the caches.
    if len(x) == 1 or x.nbytes > 16e6:
        return 0
    # Larger tiles take fewer products, but more of them lie outside a small grid.
    return 4 if min(x.shape[1:3]) >= 28 else 2


def _in_tiles(x: jax.Array, kernel: jax.Array, tile: int) -> jax.Array:
    """A 3×3 convolution of stride 1 with fewer products on a CPU; see `winograd`."""
    # Not where the platform is chosen: a loop around the network then need not repeat it.
    transformed = winograd.transform_kernel(kernel, tile)

    def fast(x: jax.Array, kernel: jax.Array, transformed: jax.Array) -> jax.Array:
        return winograd.convolve(x, transformed, tile)

    def direct(x: jax.Array, kernel: jax.Array, transformed: jax.Array) -> jax.Array:
        return _convolve(x, kernel, 1, 1)

    return lax.platform_dependent(x, kernel, transformed, cpu=fast, default=direct)


def _depthwise(x: jax.Array, kernel: jax.Array, stride: int, padding: str | int) -> jax.Array:
    """Each channel's own convolution.

    XLA's grouped convolution is about ten times slower on a CPU than the sum of shifted products
    that defines it; accelerators have kernels for it. The choice is made where the program is
    compiled, not where it is traced, so that it follows the arrays' device.
    """

    def products(x: jax.Array, kernel: jax.Array) -> jax.Array:
        exact = jnp.promote_types(x.dtype, jnp.float32)
        taps = kernel.reshape(-1, 1, 1, 1, kernel.shape[-1]).astype(exact)
        shifts = _shifts(x, kernel, stride, padding)
        sums = (shift.astype(exact) * tap for shift, tap in zip(shifts, taps, strict=True))
        return sum(sums, start=jnp.zeros((), exact)).astype(x.dtype)

    def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _convolve(x, kernel, stride, padding, groups=x.shape[-1])

    return lax.platform_dependent(x, kernel, cpu=products, default=grouped)


def _pads(
    x: jax.Array, kernel: jax.Array, stride: int, padding: str | int
) -> Sequence[tuple[int, int]]:
    if isinstance(padding, int):
        return [(padding, padding)] * 2
    return lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)


def _shifts(
    x: jax.Array, kernel: jax.Array, stride: int, padding: str | int
) -> Iterator[jax.Array]:
    """What each number of a kernel is multiplied with, in the kernel's order."""
    pads = _pads(x, kernel, stride, padding)
    # Without the barrier XLA sees through the padding for some of the shifts, and computes the
    # activation before it once more for them.
    padded = lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))
    ends = [padded.shape[axis + 1] - kernel.shape[axis] + 1 for axis in (0, 1)]
    for i, j in np.ndindex(*kernel.shape[:2]):
        yield padded[:, i : i + ends[0] : stride, j : j + ends[1] : stride]


def from_checkpoint(
    make: Callable[[nnx.Rngs], nnx.Module], checkpoint: Mapping[str, Num[np.ndarray, "..."]]
) -> nnx.Module:
    """Build a network whose layers hold a checkpoint's weights.

    Args:
        make: builds the network; its weights are never computed.
        checkpoint: PyTorch's tensors by name (convolutions OIHW), as `load_checkpoint` returns.

    Raises:
        ValueError: names the entries that are missing, left over or of another shape.
    """
    model = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    reader = _Reader(checkpoint)
    for _, layer in nnx.iter_modules(model):
        if isinstance(layer, Conv):
            _fill_conv(layer, reader)
        elif isinstance(layer, Linear):
            inputs, outputs = layer.kernel.shape
            (name,) = layer.source
            layer.kernel = nnx.Param(jnp.asarray(reader(f"{name}.weight", (outputs, inputs)).T))
            layer.bias = nnx.Param(jnp.asarray(reader(f"{name}.bias", (outputs,))))
    reader.check(type(model).__name__)
    return model


def _fill_conv(layer: Conv, reader: "_Reader") -> None:
    height, width, inputs, outputs = layer.kernel.shape
    conv, *norm = layer.source
    kernel = reader(f"{conv}.weight", (outputs, inputs, height, width)).transpose(2, 3, 1, 0)
    if norm:
        scale, shift, mean, variance = (
            reader(f"{norm[0]}.{key}", (outputs,))
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + layer.epsilon)
        kernel, bias = kernel * scale, shift - mean * scale
    else:
        bias = reader(f"{conv}.bias", (outputs,))
    layer.kernel = nnx.Param(jnp.asarray(kernel, jnp.float32))
    layer.bias = nnx.Param(jnp.asarray(bias, jnp.float32))


class _Reader:
    """Hands out a checkpoint's entries and keeps account of what does not fit."""

    def __init__(self, checkpoint: Mapping[str, np.ndarray]):
        self.checkpoint = checkpoint
        # A counter of training steps, of no use in evaluation.
        self.unread = {name for name in checkpoint if not name.endswith("num_batches_tracked")}
        self.missing: list[str] = []
        self.misshapen: list[str] = []

    def __call__(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self.unread.discard(name)
        value = self.checkpoint.get(name)
        if value is None:
            self.missing.append(name)
        elif value.shape != shape:
            self.misshapen.append(f"{name} is {value.shape}, wanted {shape}")
        else:
            return value.astype(np.float32)
        return np.zeros(shape, np.float32)

    def check(self, network: str) -> None:
        found: list[str] = []
        for complaint, names in (
            ("missing", self.missing),
            ("left over", sorted(self.unread)),
            ("of another shape", self.misshapen),
        ):
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                found.append(f"{complaint}: {', '.join(names[:5])}{more}")
        if found:
            raise ValueError(
                f"the checkpoint does not fit {network}; {'; '.join(found)}. "
                "Is it another architecture's, or named differently?"
            )
