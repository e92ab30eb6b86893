"""What depends on the platform: how many masked inputs make a pass, and in how many parts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from scorecam_jax._internal.per_input import take_rows
from scorecam_jax._internal.trees import join_arrays, split_arrays

_CPU_BATCH = 4
_ACCELERATOR_BATCH = 128


def default_batch_size(model: Callable[..., Any], inputs: Float[Array, "batch ..."]) -> int:
    """Choose how many masked inputs make a pass.

    On a CPU few, which stay in its caches. On an accelerator 128, above which throughput no longer
    grows, or as many as half of the device's free memory holds, by the memory that the model
    compiled for eight inputs states; devices that do not report their memory are taken to have
    enough.
    """
    if jax.default_backend() == "cpu":
        return _CPU_BATCH
    memory = jax.local_devices()[0].memory_stats()
    if not memory or "bytes_limit" not in memory:
        return _ACCELERATOR_BATCH
    free = memory["bytes_limit"] - memory.get("bytes_in_use", 0)
    return max(1, min(_ACCELERATOR_BATCH, free // 2 // _bytes_per_input(model, inputs)))


def streams() -> int:
    """Choose into how many independent parts a pass is split.

    A CPU's cores wait for one another at the end of each operation, unless there is another part
    to go on with. More than two make a program that takes long to compile, and is no faster.
    """
    return 2 if jax.default_backend() == "cpu" else 1


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
