"""Filling a bundled network with a checkpoint's weights."""

import re
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Num

from scorecam_jax.models.checkpoints.errors import short, within
from scorecam_jax.models.layers import Conv, Linear


def from_checkpoint(
    make: Callable[[nnx.Rngs], nnx.Module],
    checkpoint: Mapping[str, Num[np.ndarray, "..."]],
    names: Mapping[str, str],
) -> nnx.Module:
    """Build a network whose layers hold a checkpoint's weights.

    A layer's entries are called as its path in the network, with `.weight` and `.bias`; those of
    a folded batch norm have `.norm` between.

    Args:
        make: builds the network; its weights are never computed.
        checkpoint: PyTorch's tensors by name (convolutions OIHW), as `load_checkpoint` returns.
        names: regular expressions and what replaces their matches, in order. They turn a layer's
            path, such as `layer1.layers.0.conv1.norm`, into the name in the checkpoint.

    Raises:
        ValueError: names the entries that are missing, left over, of another shape, or not
            finite.
    """
    model = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    reader = _Reader(checkpoint, names)
    for path, layer in nnx.iter_modules(model):
        name = ".".join(map(str, path))
        if isinstance(layer, Conv):
            _fill_conv(layer, name, reader)
        elif isinstance(layer, Linear):
            inputs, outputs = layer.kernel.shape
            layer.kernel = nnx.Param(jnp.asarray(reader(name, "weight", (outputs, inputs)).T))
            layer.bias = nnx.Param(jnp.asarray(reader(name, "bias", (outputs,))))
    reader.check(type(model).__name__)
    return model


def _fill_conv(layer: Conv, name: str, reader: "_Reader") -> None:
    height, width, inputs, outputs = layer.kernel.shape
    kernel = reader(name, "weight", (outputs, inputs, height, width)).transpose(2, 3, 1, 0)
    if layer.epsilon is None:
        bias = reader(name, "bias", (outputs,))
    else:
        scale, shift, mean, variance = (
            reader(f"{name}.norm", kind, (outputs,))
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        with np.errstate(over="ignore", invalid="ignore"):
            scale = scale / np.sqrt(variance + layer.epsilon)
            kernel, bias = kernel * scale, shift - mean * scale
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            reader.unusable.append(f"{name} folded with its batch norm exceeds float32")
    layer.kernel = nnx.Param(jnp.asarray(kernel, jnp.float32))
    layer.bias = nnx.Param(jnp.asarray(bias, jnp.float32))


class _Reader:
    """Hands out a checkpoint's entries and keeps account of what does not fit."""

    def __init__(self, checkpoint: Mapping[str, np.ndarray], names: Mapping[str, str]):
        self.checkpoint = checkpoint
        self.names = names
        # A counter of training steps, of no use in evaluation.
        self.unread = {name for name in checkpoint if not name.endswith("num_batches_tracked")}
        self.missing: list[str] = []
        self.misshapen: list[str] = []
        self.unusable: list[str] = []

    def __call__(self, layer: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        for pattern, replacement in self.names.items():
            layer = re.sub(pattern, replacement, layer)
        name = f"{layer}.{kind}"
        self.unread.discard(name)
        value = self.checkpoint.get(name)
        if value is None:
            self.missing.append(name)
        elif value.shape != shape:
            self.misshapen.append(f"{name} is {value.shape}, wanted {shape}")
        elif np.iscomplexobj(value):
            self.unusable.append(f"{name} is {value.dtype}")
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                value = value.astype(np.float32)
            if not np.isfinite(value).all():
                self.unusable.append(f"{name} holds NaN, infinity or values beyond float32")
            elif kind == "running_var" and value.min() < 0:
                self.unusable.append(f"{name} holds negative variances")
            else:
                return value
        return np.zeros(shape, np.float32)

    def check(self, network: str) -> None:
        complaints: list[str] = []
        for what, entries in (
            ("missing", self.missing),
            ("left over", sorted(self.unread)),
            ("of another shape", self.misshapen),
            ("no weights", self.unusable),
        ):
            if entries:
                shown = [_readable(entry) for entry in entries[:3]]
                more = f" and {len(entries) - 3} more" if len(entries) > 3 else ""
                complaints.append(f"{what}: {', '.join(shown)}{more}")
        if complaints:
            question = (
                "Did its training diverge, or was the file damaged?"
                if self.unusable
                else "Is it another architecture's, or named differently?"
            )
            raise ValueError(
                f"the checkpoint does not fit {network}; {within('; '.join(complaints), 360)}. "
                + question
            )


def _readable(entry: str) -> str:
    return entry if len(entry) <= 80 and entry.isprintable() else short(entry, 80)
