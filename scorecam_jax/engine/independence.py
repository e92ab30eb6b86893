"""Whether a model scores each image independently of its batch, and deterministically."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scorecam_jax._internal.checks import check_inputs, is_traced
from scorecam_jax._internal.trees import contents, join_arrays, split_arrays
from scorecam_jax.contract.model import AnyModel, channel_axis_of
from scorecam_jax.contract.per_input import declared_arrays, take_rows
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.program.jaxprs import flatten
from scorecam_jax.program.rows import Fault, find_fault
from scorecam_jax.steps.outputs import class_scores

_TRAINING = (
    "pass what makes the network predict: train=False, is_training=False, deterministic=True or "
    "use_running_average=True"
)


def check_model(
    model: AnyModel,
    inputs: Any,
    *,
    score: Callable[..., Any] = jax.nn.softmax,
    channel_axis: int | None = None,
) -> None:
    """Check that a model scores each image independently of the other images in its batch.

    Masked passes batch images as memory allows. Heatmaps would be wrong if the model used batch
    statistics or dropout, subtracted a mean over the batch, or were closed over arrays with one row
    per image. Methods check this themselves, unless they run under `jit`: then call this first.

    Cost: one trace of the model with one image more, which is cached. For most networks the trace
    shows that rows do not mix, and nothing is run. Otherwise the network is compiled for that
    batch and run three times, once for each program and shape.

    Args:
        model: as in `score_cam`.
        inputs: as in `score_cam`, with known values.
        score: outputs -> (N, classes).
        channel_axis: as in `score_cam`.

    Raises:
        ValueError: scores depend on the other images, on their order, or on the call.
        Exception: whatever the model raises, if it does not run on these inputs.

    >>> def centred(x):
    ...     return x.mean((1, 2)) - x.mean((0, 1, 2))[None], x
    >>> images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    >>> check_model(centred, images)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ValueError: the scores of an image depend on the images that are beside it
    """
    axis = channel_axis_of(model, channel_axis)
    model, inputs = split_inputs(model, inputs)
    inputs = check_inputs(inputs, axis)
    if check_independence(model, inputs, score) is None:
        _judge(model, inputs, len(inputs), score)  # raises what is wrong with the model


def check_independence(model: AnyModel, inputs: Array, score: Callable[..., Any]) -> bool | None:
    """As `check_model`; with unknown values, from the program alone.

    Returns:
        Whether the program shows that the model's outputs are sigmoids. None if the model does not
        run on one image more.
    """
    count = len(inputs)
    if not count:
        return False
    # With one more there are several, and what is closed over does not follow.
    more = count + 1
    declared = declared_arrays(contents(model))
    longer = take_rows(model, jnp.arange(more) % count) if declared else model
    try:
        verdict = _judge(longer, inputs, more, score)
    except Exception:
        _check_closed_over(model, inputs, score)
        return None  # running the model will say what else is wrong with it
    fault, known = verdict.fault, not is_traced(inputs, contents(model))
    if fault is not None and known and not verdict.passed:
        verdict.passed = _try(longer, inputs, score, fault)
    return verdict.sigmoids


def _program(arrays: Any, inputs: Array, *, static: Any) -> tuple[Array, Any]:
    model, score = join_arrays(arrays, static)
    follow = getattr(model, "follow_score", None)
    model = model if follow is None else follow(score, inputs)
    outputs, _ = model(inputs)
    return class_scores(score, outputs, len(inputs)), outputs


_compiled = jax.jit(_program, static_argnames="static")


def _judge(model: AnyModel, inputs: Array, count: int, score: Any) -> "_Verdict":
    """What the program of so many images shows."""
    arrays, static = split_arrays((model, score))
    batch = jax.ShapeDtypeStruct((count, *inputs.shape[1:]), inputs.dtype)
    program = _compiled.trace(arrays, batch, static=static).jaxpr
    declared = {id(array) for array in declared_arrays(contents(model))}
    of_rows = (id(array) in declared for array in jax.tree.leaves(arrays))
    return _verdict(program, (*of_rows, True))


class _Verdict:
    """What the program shows, and whether a trial with the rows in another order succeeded."""

    def __init__(self, fault: Fault | None, sigmoids: bool) -> None:
        self.fault, self.sigmoids, self.passed = fault, sigmoids, False


@functools.lru_cache(maxsize=64)
def _verdict(program: Any, of_rows: tuple[bool, ...]) -> _Verdict:
    return _Verdict(find_fault(program, of_rows), _ends_in_sigmoids(program.jaxpr))


# What passes values on in another shape or type.
_TRANSPARENT = ("layer", "name", "convert_element_type", "copy", "reshape", "squeeze")


def _ends_in_sigmoids(jaxpr: Any) -> bool:
    """Whether a program's second result, if it is the last, is a sigmoid."""
    program = flatten(jaxpr)
    made = {value: node for node in program.nodes for value in node.results}
    value = program.outputs[1] if len(program.outputs) == 2 else None
    node = None if value is None else made.get(value)
    while node is not None and node.eqn.primitive.name in _TRANSPARENT:
        value = node.operands[0]
        node = None if value is None else made.get(value)
    return node is not None and node.eqn.primitive.name == "logistic"


def _check_closed_over(model: AnyModel, inputs: Array, score: Any) -> None:
    """ValueError if a model that takes these inputs, and not one more, holds rows of its own."""
    try:
        fault = _judge(model, inputs, len(inputs), score).fault
    except Exception:
        return
    if fault is not None and fault.kind == "constant" and len(inputs) > 1:
        raise ValueError(_closed_over(fault, len(inputs)))


def _try(model: AnyModel, inputs: Array, score: Any, fault: Fault) -> bool:
    """Score the rows twice, and in another order beside another row; False if under `jit`."""
    last = jnp.flip(inputs[-1:], tuple(range(1, inputs.ndim)))
    rows, others = (jnp.concatenate([inputs, factor * last]) for factor in (0.5, -2))
    order = jnp.roll(jnp.arange(len(rows)), 1)
    arrays, static = split_arrays((model, score))
    scored = [_compiled(arrays, rows, static=static)[0] for _ in range(2)]
    if is_traced(scored):  # what the model is closed over is not known
        return False
    first, again = map(np.asarray, scored)
    if not _alike(first, again, inputs):
        raise ValueError(
            f"two equal calls of the model give different scores, by up to "
            f"{np.abs(first - again).max():.2g}: {_TRAINING}, and take out what draws anew at "
            "each call"
        )
    arrays, static = split_arrays((take_rows(model, order), score))
    turned = np.asarray(_compiled(arrays, others[order], static=static)[0])
    first, turned = first[:-1], turned[1:]  # the same images
    if _alike(first, turned, inputs):
        return True
    if fault.kind == "constant":
        raise ValueError(_closed_over(fault, len(inputs)))
    if fault.kind == "random":
        reason = (
            f"random numbers of shape {fault.shape} are drawn for each place in the batch, as by "
            f"dropout: {_TRAINING}"
        )
    else:
        reason = (
            f"rows meet in {fault.operation!r}, as in the statistics of a batch or in a score less "
            f"its mean over the batch: {_TRAINING}; and score each row by itself, over axis 1"
        )
    raise ValueError(
        "the scores of an image depend on the images that are beside it, or on its place among "
        f"them, and masked passes put other images together: {reason}"
    )


def _closed_over(fault: Fault, count: int) -> str:
    return (
        f"the network holds an array of shape {fault.shape} with one row for each of the "
        f"{count} images, which masked passes would pair with the wrong images: pass it to the "
        "adapter among the arguments, as scorecam_jax.per_input(array), or call the method with "
        "inputs=(images, array)"
    )


def _alike(one: np.ndarray, other: np.ndarray, inputs: Array) -> bool:
    """Whether two results are equal up to rounding."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return True  # which `diagnose` tells
    if min(one.min(), other.min()) >= 0 and max(one.max(), other.max()) <= 1:
        # Of a network that is sure of these images, probabilities hardly move.
        one, other = (np.log(values.clip(1e-30)) for values in (one, other))
    coarse = 20 if inputs.dtype.itemsize < 4 else 1
    least = coarse * (1e-3 * one.std() + 1e-5 * np.abs(one).max())
    return bool(np.abs(one - other).max() <= least)
