"""Arrays over the devices of a mesh."""

from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array

from scorecam_jax._internal.trees import join_arrays, split_arrays


def explicit_mesh(values: Array) -> Any:
    """Return the mesh over whose explicit axes an array is sharded, or None."""
    sharding = jax.typeof(values).sharding
    return None if all(axis is None for axis in sharding.spec) else sharding.mesh


def lay_out(values: Any, mesh: Any, spec: PartitionSpec) -> Any:
    """Shard a pytree of arrays as `spec` says; without a mesh of explicit axes it need not be."""
    if mesh is None or AxisType.Explicit not in mesh.axis_types:
        return values
    return jax.reshard(values, NamedSharding(mesh, spec))


def lay_out_like(values: Array, inputs: Array) -> Array:
    """Shard the first axis of an array as that of `inputs`, if that is over explicit axes."""
    mesh, spec = explicit_mesh(inputs), jax.typeof(inputs).sharding.spec
    return values if mesh is None else lay_out(values, mesh, PartitionSpec(spec[0]))


def replicate(tree: Any, mesh: Any) -> Any:
    """Lay out every array of a pytree whole on all devices; the rest of the tree stays as it is."""
    arrays, static = split_arrays(tree)
    return join_arrays(lay_out(arrays, mesh, PartitionSpec()), static)
