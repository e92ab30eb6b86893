"""Score masked inputs: what all metrics that run the model have in common."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from scorecam_jax._internal import checks
from scorecam_jax._internal.filter_jit import filter_jit
from scorecam_jax.contract.model import AnyModel, channel_axis_of
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.engine.independence import check_independence
from scorecam_jax.engine.options import Output, Scoring, check_options
from scorecam_jax.engine.score_masks import score_masks
from scorecam_jax.steps.masks import Render, spatial_shape
from scorecam_jax.steps.outputs import class_scores
from scorecam_jax.steps.scores import complement_of

PerImage = Float[Array, " batch"]


def masked_scores(
    model: AnyModel,
    inputs: Float[Array, "batch ..."],
    shown: Float[Array, "batch *grid masks"],
    render: Render,
    targets: Any,
    masking: Scoring,
) -> tuple[Float[Array, "batch masks"], Float[Array, "batch masks"]]:
    """Score the targets under each mask. Returns the scores, and one minus each score."""
    axis = channel_axis_of(model, masking.get("channel_axis"))
    checks.check_batch_size(masking.get("batch_size"))
    targets = _one_each(targets, len(inputs))
    score = masking.get("score") or jax.nn.softmax
    check_independence(model, inputs, score)
    scores, classes = _compiled(
        model, score, render, inputs, shown, targets,
        checks.as_array(masking.get("baseline", 0.0)), axis, masking.get("batch_size"),
        masking.get("mesh"), masking.get("remat", False),
    )  # fmt: skip
    if targets is not None:
        checks.check_classes(targets, classes.shape[1])
    return scores[:, 0], scores[:, 1]


@filter_jit
def _compiled(
    model: AnyModel,
    score: Callable[..., Any],
    render: Render,
    inputs: Float[Array, "batch ..."],
    shown: Float[Array, "batch *grid masks"],
    targets: Int[Array, "batch one"] | None,
    baseline: Any,
    channel_axis: int,
    batch_size: int | None,
    mesh: Any,
    remat: bool,
) -> tuple[Float[Array, "batch two masks"], Array]:
    confidence = class_scores(score, model(inputs)[0], len(inputs))
    classes = confidence.shape[1]
    targets = confidence.argmax(1)[:, None] if targets is None else targets.clip(0, classes - 1)
    scores = score_masks(
        model, inputs, shown, render, score=Partial(_with_complements, score),
        targets=jnp.concatenate([targets, classes + targets], 1), baseline=baseline,
        channel_axis=channel_axis, batch_size=batch_size, mesh=mesh, remat=remat,
    )  # fmt: skip
    return scores, confidence[:0]


def _with_complements(score: Callable[..., Any], outputs: Any) -> Float[Array, "n twice_classes"]:
    return jnp.concatenate([score(outputs), complement_of(score)(outputs)], 1)


def classes_of(
    model: AnyModel, inputs: Float[Array, "batch ..."], targets: Any, reading: Output
) -> Int[Array, " batch"]:
    """The class of each input: the given target, or else the best class."""
    targets = _one_each(targets, len(inputs))
    if targets is not None:
        return targets[:, 0]
    return _best_class(model, inputs, reading.get("score") or jax.nn.softmax)


def _one_each(targets: Any, count: int) -> Int[Array, "batch one"] | None:
    """The checked targets; ValueError if there are several per input."""
    targets, one_each = checks.check_targets(targets, count)
    if not one_each:
        raise ValueError(
            f"targets have shape {targets.shape}, wanted one class per input: measure each of an "
            "explanation's heatmaps with its own target"
        )
    return targets


def count_classes(model: AnyModel, inputs: Float[Array, "batch ..."], reading: Output) -> int:
    """The number of classes that the model scores."""
    score = reading.get("score") or jax.nn.softmax
    scores = jax.eval_shape(lambda x: class_scores(score, model(x)[0], len(x)), inputs)
    return scores.shape[1]


@filter_jit
def _best_class(
    model: AnyModel, inputs: Float[Array, "batch ..."], score: Callable[..., Any]
) -> Int[Array, " batch"]:
    return class_scores(score, model(inputs)[0], len(inputs)).argmax(1)


def fitting(
    model: AnyModel,
    inputs: Any,
    heatmaps: Any,
    given: Output,
    known: Collection[str] = tuple(Scoring.__annotations__),
) -> tuple[Callable[..., Any], Array, Array, int]:
    """Check arguments; return a model of the image alone, inputs, heatmaps and the channel axis."""
    check_options("the metric", known, given)
    axis = channel_axis_of(model, given.get("channel_axis"))
    model, inputs = split_inputs(model, inputs)
    inputs = checks.check_inputs(inputs, axis)
    heatmaps = jnp.asarray(heatmaps)
    wanted = (len(inputs), *spatial_shape(inputs, axis))
    if heatmaps.shape != wanted:
        raise ValueError(
            f"heatmaps have shape {heatmaps.shape}, wanted {wanted}: one heatmap per input, of the "
            f"size of the inputs {inputs.shape}"
        )
    return model, inputs, heatmaps, axis
