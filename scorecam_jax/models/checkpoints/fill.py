"""Filling a bundled network with a checkpoint's weights."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Num

from scorecam_jax.models.checkpoints.errors import short, within
from scorecam_jax.models.checkpoints.layout import Names, renamed
from scorecam_jax.models.layers import Weighted

Shapes = dict[str, tuple[int, ...]]


def from_checkpoint(
    make: Callable[[nnx.Rngs], nnx.Module],
    checkpoint: Mapping[str, Num[np.ndarray, "..."]],
    names: Names,
) -> nnx.Module:
    """Build a network whose layers hold a checkpoint's weights.

    A tensor is named by its layer's path in the network and a key of the layer's `tensors`, such as
    `weight` or `bias`, or `norm.weight` for a folded batch norm. `names` turns that into the
    publisher's name.

    Args:
        make: builds the network. Its initial weights are never computed.
        checkpoint: PyTorch's tensors by name (convolutions OIHW), as `load_checkpoint` returns.
        names: as in `Layout`.

    Raises:
        ValueError: entries are missing, left over, of the wrong shape, or not finite.
    """
    model = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    reader = _Reader(checkpoint)
    for path, layer in _weighted(model):
        tensors = {
            name: reader(renamed(f"{path}{name}", names), shape)
            for name, shape in layer.tensors().items()
        }
        with np.errstate(over="ignore", invalid="ignore"):
            layer.fill(tensors)
        if not reader.unusable and not _is_finite(layer):
            reader.unusable.append(f"{path[:-1]} folded with its batch norm exceeds float32")
    reader.check(type(model).__name__)
    return model


def wanted(make: Callable[[nnx.Rngs], nnx.Module], names: Names) -> Shapes:
    """The tensors that a network needs from a checkpoint: shapes by the publisher's names.

    Args:
        make: as in `from_checkpoint`.
        names: as in `from_checkpoint`.
    """
    model = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    return {
        renamed(f"{path}{name}", names): shape
        for path, layer in _weighted(model)
        for name, shape in layer.tensors().items()
    }


def fits(value: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has a shape, or can be reshaped to it along the axes after the first.

    A dense layer may be stored as a convolution over a whole grid, and vice versa.
    """
    return value.shape == shape or (
        value.ndim != len(shape) and value.shape[:1] == shape[:1] and value.size == math.prod(shape)
    )


def _weighted(model: nnx.Module) -> Iterator[tuple[str, Weighted]]:
    """The parts of a network with weights, each with the prefix of its tensors' paths."""
    for path, layer in nnx.iter_modules(model):
        if isinstance(layer, Weighted):
            yield "".join(f"{part}." for part in path), layer


def _is_finite(layer: Any) -> bool:
    """Whether a layer's own weights are finite, without those of layers inside it."""
    values = [value for value in vars(layer).values() if isinstance(value, nnx.Variable)]
    return all(np.isfinite(np.asarray(value[...])).all() for value in values)


class _Reader:
    """Returns a checkpoint's entries, and records those that do not fit."""

    def __init__(self, checkpoint: Mapping[str, np.ndarray]):
        self.checkpoint = checkpoint
        # A counter of training steps is not needed for inference.
        self.unread = {name for name in checkpoint if not name.endswith("num_batches_tracked")}
        self.missing: list[str] = []
        self.misshapen: list[str] = []
        self.unusable: list[str] = []

    def __call__(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self.unread.discard(name)
        value = self.checkpoint.get(name)
        if value is None:
            self.missing.append(name)
        elif not fits(value, shape):
            self.misshapen.append(f"{name} is {value.shape}, wanted {shape}")
        elif np.iscomplexobj(value):
            self.unusable.append(f"{name} is {value.dtype}")
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                value = value.astype(np.float32)
            if not np.isfinite(value).all():
                self.unusable.append(f"{name} holds NaN, infinity or values beyond float32")
            elif name.endswith("running_var") and value.min() < 0:
                self.unusable.append(f"{name} holds negative variances")
            else:
                return value.reshape(shape)
        return np.zeros(shape, np.float32)

    def check(self, network: str) -> None:
        complaints: list[str] = []
        for what, entries in (
            ("missing", self.missing),
            ("left over", sorted(self.unread)),
            ("of the wrong shape", self.misshapen),
            ("unusable", self.unusable),
        ):
            if entries:
                shown = [_readable(entry) for entry in entries[:3]]
                more = f" and {len(entries) - 3} more" if len(entries) > 3 else ""
                complaints.append(f"{what}: {', '.join(shown)}{more}")
        if complaints:
            question = (
                "Did training diverge, or is the file damaged?"
                if self.unusable
                else "Is it for another architecture, or does it use other names?"
            )
            raise ValueError(
                f"the checkpoint does not fit {network}; {within('; '.join(complaints), 360)}. "
                + question
            )


def _readable(entry: str) -> str:
    return entry if len(entry) <= 80 and entry.isprintable() else short(entry, 80)
