"""Scoring masked inputs, a chunk at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from scorecam_jax._internal import checks
from scorecam_jax._internal.trees import join_arrays, split_arrays
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.per_input import check_declared, take_rows
from scorecam_jax.engine.schedule import schedule
from scorecam_jax.engine.sharding import explicit_mesh, lay_out
from scorecam_jax.engine.tuning import default_batch_size, even_size, streams
from scorecam_jax.program.hoist import hoist
from scorecam_jax.steps import masks as _masks
from scorecam_jax.steps.masks import Render, spatial_shape
from scorecam_jax.steps.outputs import class_scores, of_targets


def score_masks(
    model: AnyModel,
    inputs: Float[Array, "batch ..."],
    masks: Float[Array, "batch *grid channels"],
    render: Render,
    *,
    score: Callable[..., Any],
    targets: Int[Array, "batch targets"],
    baseline: Any = 0.0,
    batch_size: int | None = None,
    channel_axis: int = -1,
    mesh: Mesh | None = None,
    remat: bool = False,
) -> Float[Array, "batch targets channels"]:
    """Score each input under each of its masks.

    Full-size masks and masked inputs exist for `batch_size` pairs of (input, mask) at a time. A
    mask that is zero everywhere shows only the baseline. All such masks of an input share one
    score, which is computed once. The loop over chunks stops after the last pair that needs its own
    pass. Under `vmap` every pair is scored, because shapes must be static.

    Args:
        model: `inputs -> (outputs, activations)`.
        inputs: (B, *spatial, C), floating point.
        masks: (B, *grid, K), at any resolution.
        render: turns a chunk of masks (n, *grid) into full-size masks (n, *spatial) in [0, 1];
            a zero mask must stay zero.
        score: outputs -> (n, classes).
        targets: (B, T), the classes to read from each input's scores.
        baseline: what shows where the mask is 0; broadcasts against `inputs`.
        batch_size: the most masked inputs at a time, which a CPU puts to the model in two
            independent halves; None: `default_batch_size`'s choice.
        channel_axis: where the channels of `inputs` are.
        mesh: the pairs are split over all of its devices. None takes the one over whose explicit
            axes `inputs` are sharded, if there is one.
        remat: recompute the masked passes in the backward pass instead of storing them.

    Returns:
        The targets' scores, (B, T, K), in float32 or wider.
    """
    checks.check_batch_size(batch_size)
    check_declared(model, inputs.shape[0])
    baseline = checks.check_baseline(baseline, inputs)
    batch, channels, wanted = masks.shape[0], masks.shape[-1], targets.shape[1]
    spatial = spatial_shape(inputs, channel_axis)
    maps = jax.lax.optimization_barrier(jax.lax.collapse(jnp.moveaxis(masks, -1, 1), 0, 2))
    arrays, static = split_arrays((model, score, render))

    def score_pairs(arrays: Any, pairs: Array, *operands: Array) -> Array:
        parts = jnp.array_split(pairs, max(1, min(len(pairs), streams(mesh))))
        return jnp.concatenate([score_part(arrays, part, *operands) for part in parts])

    def score_part(
        arrays: Any, pairs: Array, inputs: Array, baseline: Array, maps: Array, targets: Array
    ) -> Array:
        model, score, render = join_arrays(arrays, static)
        image = pairs // channels
        model = take_rows(model, image)
        shown = _masks.apply_masks(
            _rows(inputs, image), render(maps[pairs], spatial), _rows(baseline, image), channel_axis
        )
        outputs, _ = model(shown)
        return of_targets(class_scores(score, outputs, len(pairs)), targets[image])

    mesh = mesh or explicit_mesh(inputs)
    operands = (inputs, baseline, maps, targets)
    score_once = jax.checkpoint(score_pairs) if remat else score_pairs
    total = batch * channels
    devices = 1 if mesh is None else mesh.size
    most = batch_size or default_batch_size(model, inputs, mesh)
    size = even_size(-(-total // devices), most, streams(mesh))
    if total == 0 or (mesh is None and total <= size):
        flat = score_once(arrays, jnp.arange(total), *operands)
        return jnp.moveaxis(flat.reshape(batch, channels, wanted), 1, 2)

    def loop(arrays: Any, pairs: Array, due: Array, *operands: Array) -> Array:
        pairs, due = pairs[..., 0], due[..., 0]
        if len(pairs) == 1:
            return score_once(arrays, pairs[0], *operands)[None, :, None]
        run = hoist(score_pairs, arrays, pairs[0], *operands)
        no_scores = jnp.zeros_like(jax.eval_shape(run, pairs[0], *operands))

        def step(carry: None, chunk: tuple[Array, Array]) -> tuple[None, Array]:
            pairs, due = chunk
            scored = jax.lax.cond(
                due,
                lambda pairs: run(pairs, *operands),
                lambda pairs: no_scores,
                pairs,
            )
            return carry, scored

        # Around the cond: within it, operands common to all chunks would be stored for each.
        body = jax.checkpoint(step, prevent_cse=False) if remat else step
        return jax.lax.scan(body, None, (pairs, due))[1][:, :, None]

    whole = PartitionSpec()
    arrays, operands = lay_out((arrays, operands), mesh, whole)
    # Asked of the masks in the order in which they are shown, so that no other order is stored.
    live = (operands[2] != 0).any(tuple(range(1, maps.ndim))).reshape(batch, channels)
    plan = schedule(live, size, devices)
    pairs = plan.pairs
    if mesh is not None:
        split = PartitionSpec(None, None, mesh.axis_names)
        loop = jax.shard_map(
            loop,
            mesh=mesh,
            in_specs=(whole, split, PartitionSpec(None, None), *[whole] * len(operands)),
            out_specs=split,
            check_vma=False,
        )
        pairs = lay_out(pairs, mesh, split)
    scored = lay_out(loop(arrays, pairs, plan.due, *operands), mesh, whole)
    return jnp.moveaxis(plan.collect(scored.reshape(-1, wanted)), 1, 2)


def _rows(values: Array, rows: Int[Array, " n"]) -> Array:
    return values if values.shape[0] == 1 else values[rows]
