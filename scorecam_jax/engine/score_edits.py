"""Scoring inputs with edited activations, a chunk of edits at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from scorecam_jax._internal.trees import join_arrays, split_arrays
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.sharding import explicit_mesh, lay_out
from scorecam_jax.engine.tuning import default_batch_size
from scorecam_jax.steps.outputs import class_scores, of_targets


def score_edits(
    model: AnyModel,
    inputs: Float[Array, "batch ..."],
    edit: Callable[[Array, Array], Array],
    count: int,
    *,
    score: Callable[..., Any],
    targets: Int[Array, "batch targets"],
    batch_size: int | None = None,
    channel_axis: int = -1,
    mesh: Mesh | None = None,
    remat: bool = False,
) -> Float[Array, "batch targets edits"]:
    """Score each input with its activations edited; only the network after the layer runs again.

    Args:
        model: `(inputs, edit) -> (outputs, activations)`.
        inputs: (B, *spatial, C), floating point.
        edit: (activations (B, *grid, K), number) -> what replaces them; a pytree, so that the
            arrays in it are operands.
        count: the number of edits, numbered from 0.
        score: outputs -> (n, classes).
        targets: (B, T), the classes to read from each input's scores.
        batch_size: inputs per pass; None: `default_batch_size`'s choice.
        channel_axis: where inputs and activations have their channels.
        mesh: the edits are split over all of its devices. None: the mesh over whose explicit axes
            `inputs` are sharded, if there is one.
        remat: recompute the passes in the backward pass instead of storing them.

    Returns:
        The targets' scores, (B, T, count), in float32 or wider.
    """
    arrays, static = split_arrays((model, score, edit))
    mesh = mesh or explicit_mesh(inputs)
    devices = 1 if mesh is None else mesh.size
    per_pass = batch_size or default_batch_size(model, inputs, mesh)
    size = max(1, per_pass // max(1, len(inputs)))
    chunks = -(-count // (size * devices))
    numbers = jnp.arange(chunks * size * devices) % max(1, count)

    def score_one(arrays: Any, number: Array, inputs: Array, targets: Array) -> Array:
        model, score, edit = join_arrays(arrays, static)

        def replace(activations: Array) -> Array:
            edited = edit(jnp.moveaxis(activations, channel_axis, -1), number)
            return jnp.moveaxis(edited, -1, channel_axis).astype(activations.dtype)

        outputs, _ = model(inputs, edit=replace)
        return of_targets(class_scores(score, outputs, len(inputs)), targets)

    def loop(arrays: Any, numbers: Array, *operands: Array) -> Array:
        one = jax.checkpoint(score_one) if remat else score_one
        chunk = jax.vmap(one, (None, 0, None, None))
        return jax.lax.map(lambda numbers: chunk(arrays, numbers, *operands), numbers[..., 0])[
            :, :, None
        ]

    whole, operands = PartitionSpec(), (inputs, targets)
    arrays, operands = lay_out((arrays, operands), mesh, whole)
    numbers = numbers.reshape(chunks, size, devices)
    if mesh is not None:
        split = PartitionSpec(None, None, mesh.axis_names)
        loop = jax.shard_map(
            loop, mesh=mesh, in_specs=(whole, split, whole, whole), out_specs=split, check_vma=False
        )
        numbers = lay_out(numbers, mesh, split)
    scores = jax.lax.collapse(lay_out(loop(arrays, numbers, *operands), mesh, whole), 0, 3)
    return jnp.moveaxis(scores[:count], 0, -1)
