"""Batch sizes by platform: inputs per call, and masked inputs per pass."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.per_input import take_rows
from scorecam_jax.engine.memory import estimate_temporaries

_CPU_BATCH = 4
_ACCELERATOR_BATCH = 128
_ACCELERATOR_TOGETHER = 8


def default_batch_size(model: AnyModel, inputs: Float[Array, "batch ..."], mesh: Any = None) -> int:
    """Choose the number of masked inputs per pass and device.

    On a CPU few, so that they stay in its caches. On an accelerator 128, above which throughput no
    longer grows, or as many as half of the device's free memory holds, by an estimate of the
    model's needs. Devices that do not report their memory, and devices that a program is only
    compiled for, are assumed to have enough.
    """
    device = device_of(mesh)
    if device.platform == "cpu":
        return _CPU_BATCH
    memory = None
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # not a device of this machine
        memory = device.memory_stats()
    if not memory or "bytes_limit" not in memory:
        return _ACCELERATOR_BATCH
    platform = {"gpu": "cuda"}.get(device.platform, device.platform)
    free = memory["bytes_limit"] - memory.get("bytes_in_use", 0)
    return max(1, min(_ACCELERATOR_BATCH, free // 2 // _bytes_per_input(model, inputs, platform)))


def even_size(count: int, most: int, parts: int = 1) -> int:
    """The smallest size of chunks of which no more are needed than of chunks of `most`.

    The last chunk is filled up. With 128 of 385 masks at a time, it would hold a single mask.

    Args:
        count: how many masks there are.
        most: the largest size.
        parts: how many equal parts a chunk has; see `streams`.

    >>> even_size(385, most=128)
    97
    """
    chunks = max(1, -(-count // most))
    size = parts * -(-count // (chunks * parts))
    return max(1, min(size, most, count))


def streams(mesh: Any = None) -> int:
    """Choose the number of independent parts of a pass on each device.

    A CPU's cores wait for one another at the end of each operation, unless there is a second part
    to work on. More than two parts take long to compile and are no faster.
    """
    return 2 if device_of(mesh).platform == "cpu" else 1


def inputs_together(count: int) -> int:
    """Choose how many of `count` inputs share a call, so that their masks fill the passes.

    One on a CPU, whose passes are small. Elsewhere a power of two up to 8, so that any number of
    inputs needs at most four programs.
    """
    if device_of().platform == "cpu":
        return 1
    return min(_ACCELERATOR_TOGETHER, 1 << max(count - 1, 0).bit_length())


def device_of(mesh: Any = None) -> Any:
    """A device of the mesh, preferably of this process; without a mesh, the default device."""
    devices = mesh.local_devices or list(mesh.devices.flat) if isinstance(mesh, Mesh) else []
    if devices:
        return devices[0]
    config: Any = jax.config  # not all of its attributes are declared
    default = config.jax_default_device  # a device, a platform's name or None
    if default is None or isinstance(default, str):
        return jax.local_devices(backend=default)[0]
    return default


def _bytes_per_input(model: AnyModel, inputs: Array, platform: str) -> int:
    several = 8
    batch = jax.ShapeDtypeStruct((several, *inputs.shape[1:]), inputs.dtype)

    def forward(inputs: Any) -> Any:
        return take_rows(model, jnp.zeros(several, int))(inputs)

    temporaries = estimate_temporaries(jax.make_jaxpr(forward)(batch), platform)
    # The masked inputs and their masks come on top of what the model needs.
    return max(1, temporaries // several + 3 * inputs[:1].size * inputs.dtype.itemsize)
