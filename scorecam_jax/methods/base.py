"""What all methods share: a method is a formula, and `run` puts it to a network.

A formula is a function `(context, **options) -> Found` that stands right below its public
function. It is written for arrays with the channels last and a targets axis, and is compiled with
the network.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from scorecam_jax._internal import checks
from scorecam_jax._internal.filter_jit import filter_jit
from scorecam_jax._internal.frameworks import check_instance
from scorecam_jax._internal.notes import noting
from scorecam_jax._internal.signatures import options_of
from scorecam_jax.contract.model import AnyModel, channel_axis_of
from scorecam_jax.contract.per_input import check_declared
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.engine.independence import check_independence
from scorecam_jax.engine.options import check_options
from scorecam_jax.engine.score_edits import score_edits
from scorecam_jax.engine.score_masks import score_masks
from scorecam_jax.engine.sharding import explicit_mesh, lay_out_like, replicate
from scorecam_jax.steps.channels import Channels, choice_of, put, take
from scorecam_jax.steps.combine import (
    into_range,
    peak_of,
    resize_rectify_normalize,
    sum_in_range,
)
from scorecam_jax.steps.frames import Frame
from scorecam_jax.steps.masks import Render, spatial_shape
from scorecam_jax.steps.outputs import (
    class_scores,
    in_full_precision,
    is_softmax_of_probabilities,
    of_targets,
)
from scorecam_jax.steps.scores import check_score, is_softmax


@jax.tree_util.register_static
class Axis(int):
    """A number that is part of a pytree's structure, so that `jit`, `vmap` and `scan` keep it."""


class Explanation(NamedTuple):
    """What the network looked at, and how that was found.

    Axes: B inputs, T targets (absent if `targets` was None, an int or (B,)), K channels.

    Attributes:
        heatmap: (B, [T,] *spatial), in [0, 1], at the input's size. All zero where the weighted
            sum is nowhere positive, or where the network's values are not finite. From
            `variants.SIGNED` in [-1, 1]: positive where the input speaks for the target, negative
            where it speaks against it.
        weights: (B, [T,] K), what each activation map was multiplied by; None for a method that
            weights no whole maps.
        scores: (B, [T,] K), the target's score under each mask, 0 for channels not chosen; None
            for a method that masks nothing. Interpolated where `scored` is False.
        activations: the layer's output, as the model gave it.
        outputs: the model's outputs on the unmasked inputs.
        targets: (B, [T]), the classes explained.
        peak: (B, [T]), the maximum of the rectified sum before it was scaled to [0, 1], so that
            heatmaps of several targets or inputs can be put on one scale: peak · heatmap. It is
            taken at the layer's resolution. Of a signed heatmap, the largest absolute value. Sums
            of other methods or scores have other units. 1 for a method that scales nothing.
        confidence: (B, [T]), the targets' scores on the unmasked inputs.
        empty: (B, [T]), the targets' scores on the baseline alone; None for a method that does
            not score the baseline.
        deviation: as `heatmap`, the standard deviation of each pixel that `Interpolated` leaves;
            None if nothing was interpolated.
        scored: (B, K), which channels `Interpolated` scored, where the other channels' scores are
            interpolated; None if nothing was.
        channel_axis: where `activations` have their channels, counted from the last axis.
        seen: (B, *spatial), which pixels the network reads at all, if it crops the image; None if
            the layer lies over the whole image. The heatmap is 0 where nothing is seen, which
            does not tell that the pixel is unimportant.
    """

    heatmap: Float[Array, "batch *targets_and_spatial"]
    weights: Float[Array, "batch *targets channels"] | None
    scores: Float[Array, "batch *targets channels"] | None
    activations: Any
    outputs: Any
    targets: Int[Array, "batch *targets"]
    peak: Float[Array, "batch *targets"]
    confidence: Float[Array, "batch *targets"] | None = None
    empty: Float[Array, "batch *targets"] | None = None
    deviation: Float[Array, "batch *targets_and_spatial"] | None = None
    scored: Bool[Array, "batch channels"] | None = None
    channel_axis: int = Axis(-1)
    seen: Bool[Array, "batch *spatial"] | None = None


_WITH_TARGETS = (
    "heatmap", "weights", "scores", "targets", "peak", "confidence", "empty", "deviation",
)  # fmt: skip


class Found(NamedTuple):
    """What a formula returns; each with the targets axis.

    Attributes:
        heatmap: (B, T, *spatial), or (B, 1, *spatial) if it is the same for all targets.
        weights: (B, T, K) or (B, 1, K), or None.
        scores: (B, T, masks), or None.
        peak: (B, T), or None for 1.
        empty: (B, T), the targets' scores on the baseline alone, or None.
        deviation: as `heatmap`, or None.
        scored: (B, K), or None.
    """

    heatmap: Float[Array, "batch targets *spatial"]
    weights: Float[Array, "batch targets channels"] | None = None
    scores: Float[Array, "batch targets masks"] | None = None
    peak: Float[Array, "batch targets"] | None = None
    empty: Float[Array, "batch targets"] | None = None
    deviation: Float[Array, "batch targets *spatial"] | None = None
    scored: Bool[Array, "batch channels"] | None = None


@dataclasses.dataclass(frozen=True)
class Context:
    """What a formula is given.

    Attributes:
        model: inputs -> (outputs, activations).
        inputs: (B, *spatial, C), channels where the model has them.
        outputs: the model's, on these inputs.
        activations: (B, *grid, K), channels last, in float32 or wider; of the chosen channels.
        chosen: (B, K), the chosen channels among all of the layer's; None if all are.
        targets: (B, T).
        confidence: (B, classes), the scores of the unmasked inputs.
        score: outputs -> (N, classes).
        channel_axis: where inputs and the model's activations have their channels.
        baseline: what shows where a mask is 0.
        passes: `batch_size`, `mesh` and `remat`.
        slopes: what `gradients` returns.
        frame: the part of the image that the layer lies over; None for all of it.
    """

    model: AnyModel
    inputs: Float[Array, "batch ..."]
    outputs: Any
    activations: Float[Array, "batch *grid channels"]
    chosen: Int[Array, "batch channels"] | None
    targets: Int[Array, "batch targets"]
    confidence: Float[Array, "batch classes"]
    score: Callable[..., Any]
    channel_axis: int
    baseline: Array
    passes: Mapping[str, Any]
    slopes: Float[Array, "batch targets *grid channels"] | None
    frame: Frame | None = None

    @property
    def gradients(self) -> Float[Array, "batch targets *grid channels"]:
        """The gradients of the targets' scores, of a formula that `run` was told needs them."""
        if self.slopes is None:
            raise ValueError("the formula was run without gradients: pass gradients=True to run")
        return self.slopes

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of heatmaps and masks: the inputs', or those of the layer's frame in them."""
        if self.frame is not None:
            return self.frame.shape
        return spatial_shape(self.inputs, self.channel_axis)

    def into_image(self, maps: Float[Array, "..."]) -> Float[Array, "..."]:
        """Put heatmaps or masks into images of the inputs' size."""
        if self.frame is None:
            return maps
        return self.frame.into_image(maps, spatial_shape(self.inputs, self.channel_axis))

    @property
    def space(self) -> tuple[int, ...]:
        """The grid's axes of `gradients`, and of `activations` with a targets axis put in."""
        return tuple(range(2, self.activations.ndim))

    def score_masks(
        self, masks: Float[Array, "batch *grid masks"], render: Render
    ) -> Float[Array, "batch targets masks"]:
        """Score the inputs under masks, as the caller wants it done."""
        if self.frame is not None:
            render = Partial(_InFrame(self.frame), render)
        return score_masks(
            self.model, self.inputs, masks, render, score=self.score, targets=self.targets,
            baseline=self.baseline, channel_axis=self.channel_axis, **self.passes,
        )  # fmt: skip

    def score_edits(
        self, edit: Callable[[Array, Array], Array], count: int
    ) -> Float[Array, "batch targets edits"]:
        """Score the inputs with `count` edits of the activations, as the caller wants it done."""
        return score_edits(
            self.model, self.inputs, edit, count, score=self.score, targets=self.targets,
            channel_axis=self.channel_axis, **self.passes,
        )  # fmt: skip

    def finish(
        self,
        sums: Float[Array, "batch targets *grid"],
        scores: Float[Array, "batch targets masks"] | None = None,
    ) -> Found:
        """Resize sums to the input's size, rectify them, and scale them to [0, 1]."""
        return Found(resize_rectify_normalize(sums, self.shape), None, scores, peak_of(sums))

    def finish_weighted(
        self,
        weights: Float[Array, "batch targets channels"],
        scores: Float[Array, "batch targets masks"] | None = None,
    ) -> Found:
        """Sum the maps by their weights, Σ_k w_k A_k, and finish the sum."""
        sums, size = sum_in_range(self.activations, weights)
        found = self.finish(sums, scores)
        return found._replace(weights=weights, peak=peak_of(sums) * size)

    def finish_products(self, slopes: Float[Array, "batch targets *grid channels"]) -> Found:
        """Sum the products of slopes and maps, Σ_k g_k ∘ A_k, and finish the sum."""
        maps = self.activations[:, None]
        relative, size = into_range(slopes, (*self.space, -1), factors=maps)
        sums = (relative * maps).sum(-1)
        return self.finish(sums)._replace(peak=peak_of(sums) * size.reshape(sums.shape[:2]))


@dataclasses.dataclass(frozen=True)
class _InFrame:
    """Renders masks of a frame, and puts them into the image."""

    frame: Frame

    def __call__(self, render: Render, maps: Array, shape: Sequence[int]) -> Array:
        return self.frame.into_image(render(maps, self.frame.shape), shape)


class _Asked(NamedTuple):
    """What is asked of a model, checked; each as in `Context`, before anything ran."""

    formula: Callable[..., Found]
    model: AnyModel
    inputs: Float[Array, "batch ..."]
    targets: Int[Array, "batch targets"] | None
    score: Callable[..., Any]
    channel_axis: int
    channels: Channels | None
    gradients: bool
    baseline: Any
    passes: Mapping[str, Any]


def run(
    method: Callable[..., Explanation],
    formula: Callable[..., Found],
    model: AnyModel,
    inputs: Any,
    targets: Any,
    shared: Mapping[str, Any],
    *,
    score: Callable[..., Any],
    channels: int | Channels | None = None,
    gradients: bool = False,
    edits: bool = False,
    **options: Any,
) -> Explanation:
    """Check the arguments, and run a formula compiled with the network.

    Args:
        method: the public function.
        formula: `(context, **options) -> Found`.
        model: what the user passed.
        inputs: what the user passed.
        targets: what the user passed.
        shared: the options of `Masking` that the user passed.
        score: outputs -> (N, classes), unless the user passed another.
        channels: None, a number, or a choice such as `Gradient(32)`. The formula sees the chosen
            channels only; weights and scores go back to their places among all channels.
        gradients: give the formula the gradients of the targets' scores.
        edits: the formula edits the activations.
        **options: the formula's own. Floats among them may vary without another compilation.

    Raises:
        TypeError: an option is unknown, the inputs are not floating point, or the formula needs a
            model that takes `edit` and this one does not.
        ValueError: inputs, targets, options and the model's activations do not fit together.
    """
    check_options(method.__name__, options_of(method), shared)
    check_instance(model)
    checks.check_deleted(model=model)
    axis = channel_axis_of(model, shared.get("channel_axis"))
    model, inputs = split_inputs(model, inputs)
    inputs = checks.check_inputs(inputs, axis)
    check_declared(model, len(inputs))
    targets, squeeze = checks.check_targets(targets, len(inputs))
    checks.check_batch_size(shared.get("batch_size"))
    if gradients or edits:
        checks.check_edit(model)
    model = _measured(model, shared.get("score") or score, inputs, axis)
    asked = _Asked(
        formula=formula, model=model, inputs=inputs, targets=targets,
        score=shared.get("score") or score, channel_axis=axis, channels=choice_of(channels),
        gradients=gradients, baseline=checks.as_array(shared.get("baseline", 0.0)),
        passes={
            "batch_size": shared.get("batch_size"), "mesh": shared.get("mesh"),
            "remat": shared.get("remat", False),
        },
    )  # fmt: skip
    with noting(inputs, axis):
        sigmoids = check_independence(model, inputs, asked.score)
        if targets is not None and not checks.is_traced(targets):
            # The trace that tells the number of classes is the one that the call below runs.
            _, confidence, _ = _compiled.eval_shape(asked, **options)
            checks.check_classes(targets, confidence.shape[1])
            check_score(asked.score, confidence.shape[1])
        explanation, _, twice = _compiled(asked, **options)
    if sigmoids and is_softmax(asked.score) and explanation.outputs.shape[1:] != (1,):
        warnings.warn(
            "the model's outputs already are probabilities, a sigmoid each, and the score is their "
            "softmax, which hardly varies: pass score=scores.values", stacklevel=3,
        )  # fmt: skip
    known = not checks.is_traced(twice, asked.baseline)
    if known and twice and _sums_to_one(model, inputs, asked.baseline):
        warnings.warn(
            "the model's outputs already are probabilities, and the score is their softmax, which "
            "hardly varies: pass score=scores.values", stacklevel=3,
        )  # fmt: skip
    if not squeeze:
        return explanation
    values = {name: getattr(explanation, name) for name in _WITH_TARGETS}
    return explanation._replace(**jax.tree.map(lambda value: value[:, 0], values))


def _measured(model: AnyModel, score: Callable[..., Any], inputs: Array, axis: int) -> AnyModel:
    """The model with its places measured where they were guessed, if values are known."""
    measured = getattr(model, "measured", None)
    if measured is None or checks.is_traced(model, inputs):
        return model
    with noting(inputs, axis):
        return measured(inputs, score)


def _frame_of(model: AnyModel, inputs: Array) -> Frame | None:
    """The part of the image that a model's layer lies over; None for all of it."""
    frames = getattr(model, "frames", None)
    if frames is not None:
        return frames(inputs)[0]
    return getattr(getattr(model, "func", None), "frame", None)


@filter_jit
def _sums_to_one(model: AnyModel, inputs: Array, baseline: Any) -> Array:
    """Whether the outputs on the baseline are probabilities too, and not so by chance."""
    blank = jnp.broadcast_to(checks.check_baseline(baseline, inputs), inputs.shape)
    outputs, _ = model(blank)
    arrays = [leaf for leaf in jax.tree.leaves(outputs) if leaf.ndim == 2]
    return jnp.any(jnp.stack([jnp.abs(leaf.sum(1) - 1).max() < 1e-3 for leaf in arrays]))


@filter_jit
def _compiled(
    asked: _Asked, **options: Any
) -> tuple[Explanation, Float[Array, "batch classes"], Array]:
    inputs, channel_axis, gradients = asked.inputs, asked.channel_axis, asked.gradients
    model, score, targets, channels = asked.model, asked.score, asked.targets, asked.channels
    # With weights sharded over explicit axes, JAX would ask the model how to shard its results.
    if len(inputs):
        model, score = replicate((model, score), asked.passes["mesh"] or explicit_mesh(inputs))

    # An adapter's model may choose its layer by the outputs that the score reads.
    follow = getattr(model, "follow_score", None)
    model = model if follow is None else follow(score, inputs)

    def forward(tap: Any) -> tuple[Array, tuple[Any, Array]]:
        edit = {"edit": lambda a: a + tap.astype(a.dtype)} if gradients else {}
        outputs, activations = checks.check_model_outputs(model(inputs, **edit), inputs)
        return class_scores(score, outputs, len(inputs)), (outputs, activations)

    if gradients:
        layer = jax.eval_shape(forward, jnp.zeros(()))[1][1]
        tap = in_full_precision(jnp.zeros(layer.shape, layer.dtype))
        confidence, pull, (outputs, layer) = jax.vjp(forward, tap, has_aux=True)
    else:
        confidence, (outputs, layer) = forward(None)
    layer = jax.lax.optimization_barrier(layer)  # stored once, whoever reads it
    if targets is None:
        targets = confidence.argmax(1)[:, None]
    activations = in_full_precision(jnp.moveaxis(layer, channel_axis, -1))
    chosen = None
    if channels is not None:
        checks.check_channels(channels.count, activations.shape[-1])
        importance = channels(model, inputs, activations, targets, score, channel_axis)
        chosen = jax.lax.top_k(importance, channels.count)[1]

    slopes = None
    if gradients:
        classes = confidence.shape[1]
        directions = jax.nn.one_hot(jnp.clip(targets, 0, classes - 1), classes, axis=-1)
        (slopes,) = jax.vmap(pull, 1, 1)(directions.astype(confidence.dtype))
        slopes = lay_out_like(jnp.moveaxis(slopes, channel_axis % layer.ndim + 1, -1), inputs)

    frame = _frame_of(model, inputs)
    context = Context(
        model=model, inputs=inputs, outputs=outputs, activations=take(activations, chosen),
        chosen=chosen, targets=targets, confidence=confidence, score=score,
        channel_axis=channel_axis, baseline=asked.baseline, passes=asked.passes, slopes=slopes,
        frame=frame,
    )  # fmt: skip
    found = asked.formula(context, **options)
    seen = None
    if frame is not None:
        shape = spatial_shape(inputs, channel_axis)
        seen = jnp.broadcast_to(frame.is_seen(shape), (len(inputs), *shape))
        heatmap, deviation = jax.tree.map(
            lambda maps: jnp.where(seen[:, None], context.into_image(maps), 0),
            (found.heatmap, found.deviation),
        )
        found = found._replace(heatmap=heatmap, deviation=deviation)
    peak = jnp.ones(targets.shape, found.heatmap.dtype) if found.peak is None else found.peak
    weights, scores = (
        None if values is None else put(values, chosen, activations.shape[-1])
        for values in (found.weights, found.scores)
    )
    # What is not finite shows nothing: an empty map deceives nobody.
    space = tuple(range(2, found.heatmap.ndim))
    finite = jnp.isfinite(found.heatmap).all(space, keepdims=True)
    heatmap, weights, scores, peak, empty = jax.tree.map(
        lambda values: jnp.broadcast_to(values, (*targets.shape, *values.shape[2:])),
        (jnp.where(finite, found.heatmap, 0), weights, scores, peak, found.empty),
    )
    explanation = Explanation(
        heatmap, weights, scores, layer, outputs, targets, peak, of_targets(confidence, targets),
        empty, found.deviation, found.scored, Axis(channel_axis % layer.ndim - layer.ndim), seen,
    )  # fmt: skip
    twice = is_softmax_of_probabilities(outputs, of_targets(confidence, targets), targets).any()
    return explanation, confidence, twice
