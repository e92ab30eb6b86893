"""What every method returns, and how its compiled part is called."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from scorecam_jax._internal import checks
from scorecam_jax._internal.per_input import check_declared, split_inputs
from scorecam_jax._internal.trees import split_arrays


class Explanation(NamedTuple):
    """What the network looked at, and how that was found.

    Axes: B inputs, T targets (absent if `targets` was None, an int or (B,)), K channels.

    Attributes:
        heatmap: (B, [T,] *spatial), in [0, 1], at the input's size. All zero where the weighted
            sum is nowhere positive.
        weights: (B, [T,] K), what each activation map was multiplied by; None for a method that
            weights no whole maps.
        scores: (B, [T,] K), the target's score under each mask, 0 for channels not chosen; None
            for a method that masks nothing.
        activations: the layer's output, as the model gave it.
        outputs: the model's outputs on the unmasked inputs.
        targets: (B, [T]), the classes explained.
    """

    heatmap: Float[Array, "batch *targets_and_spatial"]
    weights: Float[Array, "batch *targets channels"] | None
    scores: Float[Array, "batch *targets channels"] | None
    activations: Any
    outputs: Any
    targets: Int[Array, "batch *targets"]


_WITH_TARGETS = ("heatmap", "weights", "scores", "targets")


def explain(
    compiled: Callable[..., Any],
    functions: Any,
    inputs: Any,
    targets: Any,
    *operands: Any,
    channel_axis: int,
    **settings: Any,
) -> Explanation:
    """Check the arguments and run a method's compiled part on them.

    Args:
        compiled: `(arrays, inputs, targets, *operands, static=, channel_axis=, **settings)` ->
            (Explanation with a targets axis, class scores (B, classes)), under `jit` with the
            keywords static.
        functions: the pytree of callables that `join_arrays(arrays, static)` is to give back.
        inputs: what the user passed.
        targets: what the user passed.
        *operands: further arrays.
        channel_axis: where the channels are.
        **settings: further static arguments.
    """
    model, *others = functions
    model, inputs = split_inputs(model, inputs)
    functions = (model, *others)
    inputs = checks.check_inputs(inputs, channel_axis)
    check_declared(model, inputs.shape[0])
    targets, squeeze = checks.check_targets(targets, inputs.shape[0])
    arrays, static = split_arrays(functions)
    run = functools.partial(compiled, static=static, channel_axis=channel_axis, **settings)
    if targets is not None and not checks.is_traced(targets):
        # The trace that tells the number of classes is the one the call below runs.
        _, confidence = jax.eval_shape(run, arrays, inputs, targets, *operands)
        checks.check_classes(targets, confidence.shape[1])
    explanation, _ = run(arrays, inputs, targets, *operands)
    if not squeeze:
        return explanation
    values = {name: getattr(explanation, name) for name in _WITH_TARGETS}
    return explanation._replace(**jax.tree.map(lambda value: value[:, 0], values))
