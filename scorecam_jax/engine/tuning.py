"""What depends on the platform: how many masked inputs make a pass, and in how many parts."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from scorecam_jax._internal.per_input import take_rows
from scorecam_jax._internal.trees import join_arrays, split_arrays

_CPU_BATCH = 4
_ACCELERATOR_BATCH = 128


def default_batch_size(
    model: Callable[..., Any], inputs: Float[Array, "batch ..."], mesh: Any = None
) -> int:
    """Choose how many masked inputs make a pass on each device of a mesh.

    On a CPU few, which stay in its caches. On an accelerator 128, above which throughput no longer
    grows, or as many as half of the device's free memory holds, by the memory that the model
    compiled for eight inputs states; devices that do not report their memory are taken to have
    enough. So are those that a program is only compiled for.
    """
    device = device_of(mesh)
    if device.platform == "cpu":
        return _CPU_BATCH
    memory = None
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # not a device of this machine
        memory = device.memory_stats()
    if not memory or "bytes_limit" not in memory:
        return _ACCELERATOR_BATCH
    free = memory["bytes_limit"] - memory.get("bytes_in_use", 0)
    return max(1, min(_ACCELERATOR_BATCH, free // 2 // _bytes_per_input(model, inputs)))


def streams(mesh: Any = None) -> int:
    """Choose into how many independent parts a pass is split on each device of a mesh.

    A CPU's cores wait for one another at the end of each operation, unless there is another part
    to go on with. More than two make a program that takes long to compile, and is no faster.
    """
    return 2 if device_of(mesh).platform == "cpu" else 1


def device_of(mesh: Any = None) -> Any:
    """One of a mesh's devices, of this process if there is one; without a mesh, the default."""
    devices = mesh.local_devices or list(mesh.devices.flat) if isinstance(mesh, Mesh) else []
    if devices:
        return devices[0]
    default = jax.config.jax_default_device  # a device, a platform's name or None
    if default is None or isinstance(default, str):
        return jax.local_devices(backend=default)[0]
    return default


def _bytes_per_input(model: Callable[..., Any], inputs: Array, trial: int = 8) -> int:
    arrays, static = split_arrays(model)
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arrays)
    batch = jax.ShapeDtypeStruct((trial, *inputs.shape[1:]), inputs.dtype)

    @jax.jit
    def forward(arrays: Any, inputs: Any) -> Any:
        model = take_rows(join_arrays(arrays, static), jnp.zeros(trial, int))
        return model(inputs)

    compiled = forward.lower(shapes, batch).compile().memory_analysis()
    temporary = 0 if compiled is None else compiled.temp_size_in_bytes
    # The masked inputs and their masks come on top of what the model needs.
    return max(1, temporary // trial + 3 * inputs[:1].size * inputs.dtype.itemsize)
