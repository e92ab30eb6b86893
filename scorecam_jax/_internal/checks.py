"""Errors about arguments: each says what was found, what was wanted and what to try."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scorecam_jax._internal.trees import contents


def is_traced(*values: Any) -> bool:
    """Return whether any value is a tracer, which cannot be checked."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def as_array(values: Any) -> Any:
    """Convert numbers and nested lists of numbers to an array; arrays are returned unchanged."""
    return values if hasattr(values, "dtype") else np.asarray(values)


def is_true(condition: Callable[[], Any]) -> bool:
    """Evaluate a condition on arrays whose values are known, under an outer `jit` too."""
    with jax.ensure_compile_time_eval():
        return bool(condition())


def check_deleted(**trees: Any) -> None:
    """ValueError if an array was deleted, for example by donation to a compiled function."""
    for name, tree in trees.items():
        for leaf in jax.tree.leaves(contents(tree)):
            known = isinstance(leaf, jax.Array) and not is_traced(leaf)
            if known and leaf.is_deleted():
                raise ValueError(
                    f"an array of the {name}, of shape {leaf.shape}, was deleted, probably by "
                    "donating it to a compiled function: pass that function's result instead, or "
                    "remove its donate_argnums"
                )


def check_inputs(inputs: Any, channel_axis: int) -> Array:
    """Return the inputs as an array; TypeError or ValueError if no model could take them."""
    inputs = as_array(inputs)
    check_deleted(inputs=inputs)
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise TypeError(
            f"inputs are {inputs.dtype}, wanted floating point: preprocess them as the model "
            "expects, for example inputs.astype('float32') / 255"
        )
    if inputs.ndim < 3:
        raise ValueError(
            f"inputs have shape {inputs.shape}, wanted (batch, *spatial, channels); for a single "
            "image add a batch axis: inputs[None]"
        )
    if channel_axis not in (*range(1, inputs.ndim), *range(1 - inputs.ndim, 0)):
        raise ValueError(
            f"channel_axis is {channel_axis}, wanted -1 (channels last) or 1 (channels first)"
        )
    if not is_traced(inputs) and not is_true(lambda: jnp.isfinite(inputs).all()):
        raise ValueError("inputs contain NaN or infinity: check how they were loaded and scaled")
    return jnp.asarray(inputs)


_MULTI_HOT = (
    "If row i marks the classes of input i, explain these classes with "
    "targets=numpy.flatnonzero(targets[i])[None] and inputs[i:i+1]; if each row marks a single "
    "class, pass targets=targets.argmax(1)"
)


def check_targets(targets: Any, batch: int) -> tuple[Array | None, bool]:
    """Return targets as (batch, T) integers or None, and whether to drop T from the result."""
    if targets is None:
        return None, True
    given, targets = targets, as_array(targets)
    if targets.dtype.kind in "OSU":
        raise TypeError(
            f"targets are {given!r}, wanted integer class indices: labels.index(name) finds the "
            "index of a name in the model's list of labels"
        )
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"targets are {targets.dtype}, wanted integer class indices. {_MULTI_HOT}")
    if targets.ndim == 0:
        return jnp.broadcast_to(jnp.asarray(targets), (batch, 1)), True
    if targets.ndim > 2 or targets.shape[0] != batch:
        raise ValueError(
            f"targets have shape {targets.shape}, wanted None, an int, ({batch},) for one class of "
            f"each of the {batch} inputs, or ({batch}, T) for T classes of each"
        )
    targets = jnp.asarray(targets)
    return (targets[:, None], True) if targets.ndim == 1 else (targets, False)


def check_classes(targets: Any, classes: int) -> None:
    """ValueError if a known target is not a class, or if targets mark classes by 0 and 1."""
    if is_traced(targets) or not targets.size:
        return
    if not is_true(lambda: (targets.min() >= 0) & (targets.max() < classes)):
        raise ValueError(
            f"targets {np.unique(targets).tolist()} are not all classes of this model, which has "
            f"{classes}: 0 to {classes - 1}"
        )
    # These are marks, not indices: as indices, a row of 0 and 1 would repeat a class. Only [0, 1]
    # and [1, 0] of a two-class model would not.
    if (
        targets.ndim == 2
        and targets.shape[1] == classes > 1
        and is_true(
            lambda: (targets <= 1).all() & ((classes > 2) | (targets[:, 0] == targets[:, 1]).any())
        )
    ):
        raise ValueError(
            f"targets are 0 and 1, with a column for each of the {classes} classes, wanted class "
            f"indices. {_MULTI_HOT}"
        )


def check_batch_size(batch_size: int | None) -> None:
    """ValueError unless None or positive."""
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, wanted None or at least 1")


def check_channels(count: int, available: int) -> None:
    """ValueError unless `count` is between 1 and the number of available channels."""
    if not 1 <= count <= available:
        raise ValueError(
            f"channels={count}, but the layer has {available}: wanted 1 to {available}, or None "
            "for all of them"
        )


def check_edit(model: Any) -> None:
    """TypeError if the model cannot take `edit`."""
    try:
        signature = inspect.signature(model)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, edit=None)
    except TypeError:
        raise TypeError(
            f"this method needs a model that takes edit, and {signature} does not: make the model "
            "with an adapter such as from_linen, or give the function an argument edit=None and "
            "apply it to the layer's activations before the rest of the network runs"
        ) from None


def check_baseline(baseline: Any, inputs: Array) -> Array:
    """Return the baseline in the inputs' dtype; ValueError if it does not broadcast to them."""
    baseline = jnp.asarray(baseline, inputs.dtype)
    lead = (1,) * (inputs.ndim - baseline.ndim)
    sizes = zip(lead + baseline.shape, inputs.shape, strict=False)
    if baseline.ndim > inputs.ndim or not all(mine in (1, size) for mine, size in sizes):
        raise ValueError(
            f"baseline has shape {baseline.shape}, wanted one that broadcasts to the inputs' "
            f"{inputs.shape}: a number, a value for each channel, an image, or one for each input"
        )
    return baseline.reshape(lead + baseline.shape)


def check_model_outputs(returned: Any, inputs: Array) -> tuple[Any, Any]:
    """Return a model's outputs and activations; TypeError or ValueError if they do not fit."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise TypeError(_NO_ACTIVATIONS)
    outputs, activations = returned
    several = isinstance(activations, tuple | list) and len(activations) > 0
    for layer in activations if several else [activations]:
        shape = getattr(layer, "shape", None)
        if shape is None:
            raise TypeError(_NO_ACTIVATIONS)
        if len(shape) != inputs.ndim or shape[0] != inputs.shape[0]:
            raise ValueError(
                f"the layer's activations have shape {shape}, wanted rank {inputs.ndim} like the "
                f"inputs {inputs.shape}: (batch, *grid, channels). Name a layer before the spatial "
                "axes are pooled away; for tokens pass grid=(height, width) to the adapter"
            )
    return outputs, activations


_NO_ACTIVATIONS = (
    "the model did not return (outputs, activations): wanted activations (batch, *grid, "
    "channels), one array or a tuple of one per layer. from_linen and the other adapters make such "
    "a model from a network"
)
