"""What all methods share: a method is a formula, and `run` applies it to a network.

A formula is a function `(context, **options) -> Found`, defined right below the method's public
function. Its arrays have the channels last and a targets axis. It is compiled with the network.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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
from scorecam_jax.methods.several import fuse_found, layers_of, one_layer
from scorecam_jax.steps.channels import Channels, choice_of, put, take
from scorecam_jax.steps.combine import (
    into_range,
    peak_of,
    resize_rectify_normalize,
    sum_in_range,
)
from scorecam_jax.steps.frames import Frame
from scorecam_jax.steps.fuse import Fusion, check_fusion, usual_fusion
from scorecam_jax.steps.masks import Render, spatial_shape, with_empty_mask
from scorecam_jax.steps.outputs import (
    class_scores,
    in_full_precision,
    is_softmax_of_probabilities,
    of_targets,
)
from scorecam_jax.steps.scores import check_score, is_softmax


@jax.tree_util.register_static
class Axis(int):
    """A number that `jit`, `vmap` and `scan` keep, because it is part of a pytree's structure."""


class LayerMap(NamedTuple):
    """One layer's contribution to a fused heatmap.

    Attributes:
        heatmap: the layer's own, as in `Explanation`.
        peak: the layer's own, as in `Explanation`.
        deviation: the layer's own, as in `Explanation`.
    """

    heatmap: Float[Array, "batch *targets_and_spatial"]
    peak: Float[Array, "batch *targets"]
    deviation: Float[Array, "batch *targets_and_spatial"] | None = None


class Explanation(NamedTuple):
    """A heatmap of what the network looked at, and the values from which it was computed.

    Axes: B inputs, T targets (absent if `targets` was None, an int or (B,)), K channels. For a
    model of several layers, `weights`, `scores`, `activations` and `scored` are tuples with one
    entry per layer, in the model's order.

    Attributes:
        heatmap: (B, [T,] *spatial), in [0, 1], at the input's size. All zero where the weighted
            sum is nowhere positive, or where the network's values are not finite. With
            `variants.SIGNED`, in [-1, 1]: positive where the input is evidence for the target,
            negative where it is evidence against it.
        weights: (B, [T,] K), the factors of the activation maps; None for a method that does not
            weight whole maps.
        scores: (B, [T,] K), the target's score under each mask, 0 for channels not chosen; None
            for a method that masks nothing. Interpolated where `scored` is False.
        activations: the layer's output, as the model returned it.
        outputs: the model's outputs on the unmasked inputs.
        targets: (B, [T]), the classes explained.
        peak: (B, [T]), the maximum of the rectified sum before scaling to [0, 1], at the layer's
            resolution. peak · heatmap puts heatmaps of several targets or inputs on one scale,
            within one method and score. For a signed heatmap, the largest absolute value. 1 for a
            method that does not scale. For a fused heatmap, its maximum before scaling, times the
            geometric mean of the layers' peaks.
        confidence: (B, [T]), the targets' scores on the unmasked inputs.
        empty: (B, [T]), the targets' scores on the baseline alone; None for a method that does
            not score the baseline.
        deviation: as `heatmap`, each pixel's standard deviation due to interpolation; None if
            nothing was interpolated.
        scored: (B, K), which channels `Interpolated` scored; the others' scores are interpolated.
            None if nothing was interpolated.
        channel_axis: the channel axis of `activations`, counted from the last axis.
        seen: (B, *spatial), which pixels the network reads, if it crops the image; None if the
            layer covers the whole image. The heatmap is 0 at other pixels, which does not mean that
            they are unimportant.
        layers: for several layers, each one's own heatmap, peak and deviation. None if the model
            has a single layer, or the method reads none.
        shortfall: (B, [T]), the sum of the attributions minus the value to which they should sum:
            confidence − empty, or the confidence if `empty` is None. None for methods whose
            attributions have no such sum.
    """

    heatmap: Float[Array, "batch *targets_and_spatial"]
    weights: Float[Array, "batch *targets channels"] | tuple[Any, ...] | None
    scores: Float[Array, "batch *targets channels"] | tuple[Any, ...] | None
    activations: Any
    outputs: Any
    targets: Int[Array, "batch *targets"]
    peak: Float[Array, "batch *targets"]
    confidence: Float[Array, "batch *targets"] | None = None
    empty: Float[Array, "batch *targets"] | None = None
    deviation: Float[Array, "batch *targets_and_spatial"] | None = None
    scored: Bool[Array, "batch channels"] | tuple[Any, ...] | None = None
    channel_axis: int = Axis(-1)
    seen: Bool[Array, "batch *spatial"] | None = None
    layers: tuple[LayerMap, ...] | None = None
    shortfall: Float[Array, "batch *targets"] | None = None


_WITH_TARGETS = (
    "heatmap", "weights", "scores", "targets", "peak", "confidence", "empty", "deviation", "layers",
    "shortfall",
)  # fmt: skip


class Found(NamedTuple):
    """The result of a formula; each array has the targets axis.

    Attributes:
        heatmap: (B, T, *spatial), or (B, 1, *spatial) if it is the same for all targets.
        weights: (B, T, K) or (B, 1, K), or None.
        scores: (B, T, masks), or None.
        peak: (B, T), or None for 1.
        empty: (B, T), the targets' scores on the baseline alone, or None.
        deviation: as `heatmap`, or None.
        scored: (B, K), or None.
        sums: the heatmap before scaling, at the layer's resolution if there is a layer, or None.
        shortfall: (B, T), or None.
    """

    heatmap: Float[Array, "batch targets *spatial"]
    weights: Float[Array, "batch targets channels"] | None = None
    scores: Float[Array, "batch targets masks"] | None = None
    peak: Float[Array, "batch targets"] | None = None
    empty: Float[Array, "batch targets"] | None = None
    deviation: Float[Array, "batch targets *spatial"] | None = None
    scored: Bool[Array, "batch channels"] | None = None
    sums: Float[Array, "batch targets *_"] | None = None
    shortfall: Float[Array, "batch targets"] | None = None


@dataclasses.dataclass(frozen=True)
class Context:
    """The argument of a formula.

    Attributes:
        model: inputs -> (outputs, activations).
        inputs: (B, *spatial, C), with the channels at the model's axis.
        outputs: the model's outputs on these inputs.
        activations: (B, *grid, K), the chosen channels; channels last, in float32 or wider.
        chosen: (B, K), the numbers of the chosen channels; None if all are chosen.
        targets: (B, T).
        confidence: (B, classes), the scores of the unmasked inputs.
        score: outputs -> (N, classes).
        channel_axis: the channel axis of inputs and of the model's activations.
        baseline: the values shown where a mask is 0.
        passes: `batch_size`, `mesh` and `remat`.
        slopes: the value of `gradients`, or None.
        frame: the part of the image that the layer covers; None for the whole image.
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
        """The gradients of the targets' scores; ValueError unless `run` had `gradients=True`."""
        if self.slopes is None:
            raise ValueError("the formula was run without gradients: pass gradients=True to run")
        return self.slopes

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of heatmaps and masks: those of the inputs, or of the layer's frame."""
        if self.frame is not None:
            return self.frame.shape
        return spatial_shape(self.inputs, self.channel_axis)

    def into_image(self, maps: Float[Array, "..."]) -> Float[Array, "..."]:
        """Place heatmaps or masks of the layer's frame in images of the inputs' size."""
        if self.frame is None:
            return maps
        return self.frame.into_image(maps, spatial_shape(self.inputs, self.channel_axis))

    @property
    def space(self) -> tuple[int, ...]:
        """The grid's axes of `gradients`, and of `activations` with a targets axis added."""
        return tuple(range(2, self.activations.ndim))

    def score_masks(
        self, masks: Float[Array, "batch *grid masks"], render: Render
    ) -> Float[Array, "batch targets masks"]:
        """Score the inputs under masks, with the caller's options."""
        if self.frame is not None:
            render = Partial(_InFrame(self.frame), render)
        return score_masks(
            self.model, self.inputs, masks, render, score=self.score, targets=self.targets,
            baseline=self.baseline, channel_axis=self.channel_axis, **self.passes,
        )  # fmt: skip

    def score_own_masks(
        self, masks: Float[Array, "batch *grid targets masks"], render: Render
    ) -> tuple[Float[Array, "batch targets masks"], Float[Array, "batch targets 1"]]:
        """Score each target under its own masks.

        Returns:
            The scores, and those under an empty mask.
        """
        targets, count = masks.shape[-2:]
        # Every mask is scored for all targets, at no cost. Only each target's own are kept.
        scores = self.score_masks(with_empty_mask(jax.lax.collapse(masks, masks.ndim - 2)), render)
        each = scores[..., :-1].reshape(*scores.shape[:2], targets, count)
        own = jnp.moveaxis(jnp.diagonal(each, axis1=1, axis2=2), -1, 1)
        return own, scores[..., -1:]

    def score_edits(
        self, edit: Callable[[Array, Array], Array], count: int
    ) -> Float[Array, "batch targets edits"]:
        """Score the inputs with `count` edits of the activations, with the caller's options."""
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
        heatmap = resize_rectify_normalize(sums, self.shape)
        return Found(heatmap, None, scores, peak_of(sums), sums=sums)

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
    """Renders masks of a frame and places them in the image."""

    frame: Frame

    def __call__(self, render: Render, maps: Array, shape: Sequence[int]) -> Array:
        return render_in(self.frame, render, maps, shape)


def render_in(
    frame: Frame | None, render: Render, maps: Float[Array, "n *grid"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    """Render masks of a layer and place them in the image."""
    if frame is None:
        return render(maps, shape)
    return frame.into_image(render(maps, frame.shape), shape)


def target_gradients(
    scores: Callable[[Any], Float[Array, "batch classes"]],
    at: Any,
    targets: Int[Array, "batch targets"],
) -> Any:
    """The gradients of the targets' scores with respect to a pytree, with a targets axis added."""
    confidence, pull = jax.vjp(scores, at)
    return pull_targets(pull, confidence, targets)


def pull_targets(
    pull: Callable[[Array], Any],
    confidence: Float[Array, "batch classes"],
    targets: Int[Array, "batch targets"],
) -> Any:
    """As `target_gradients`, from the results of `jax.vjp`."""
    classes = confidence.shape[1]
    directions = jax.nn.one_hot(jnp.clip(targets, 0, classes - 1), classes, axis=-1)
    (slopes,) = jax.vmap(pull, 1, 1)(directions.astype(confidence.dtype))
    return slopes


class _Asked(NamedTuple):
    """The checked arguments of `run`, before the model runs; see `run` and `Context`."""

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
    fuse: Fusion | None
    together: Callable[..., Any] | None
    reads_layer: bool
    in_frame: bool
    signed: bool


def check_question(
    method: Callable[..., Any],
    model: AnyModel,
    inputs: Any,
    targets: Any,
    options: Mapping[str, Any],
) -> tuple[AnyModel, Array, Array | None, bool, int]:
    """Check the arguments that a user passed to a method.

    Args:
        method: the public function.
        model: the user's argument.
        inputs: the user's argument.
        targets: the user's argument.
        options: the user's keyword arguments that methods share.

    Returns:
        The model of the image alone, the images, the targets (B, T) or None, whether to drop axis T
        from the explanation, and the channel axis.

    Raises:
        TypeError, ValueError: as in `run`.
    """
    check_options(method.__name__, options_of(method), options)
    check_instance(model)
    checks.check_deleted(model=model)
    axis = channel_axis_of(model, options.get("channel_axis"))
    model, inputs = split_inputs(model, inputs)
    inputs = checks.check_inputs(inputs, axis)
    check_declared(model, len(inputs))
    targets, squeeze = checks.check_targets(targets, len(inputs))
    return model, inputs, targets, squeeze, axis


def run(
    method: Callable[..., Any],
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
    together: Callable[..., Any] | None = None,
    reads_layer: bool = True,
    in_frame: bool = True,
    signed: bool = False,
    **options: Any,
) -> Explanation:
    """Check the arguments, and run a formula compiled with the network.

    With a model of several layers, the formula runs on each layer and the heatmaps are fused.

    Args:
        method: the public function.
        formula: `(context, **options) -> Found`.
        model: the user's argument.
        inputs: the user's argument.
        targets: the user's argument.
        shared: the options of `Masking` that the user passed.
        score: the default score, outputs -> (N, classes).
        channels: None, a number, or a choice such as `Gradient(32)`. The formula sees only the
            chosen channels; its weights and scores are returned at their places among all channels.
        gradients: whether the formula needs the gradients of the targets' scores.
        edits: whether the formula edits the activations.
        together: replaces the formula for a model of several layers, if the layers depend on each
            other: (contexts, fuse, **options) -> (each layer's `Found`, the fused heatmap's
            deviation or None), where `fuse` makes a heatmap of the layers' `Found`.
        reads_layer: whether the formula reads a layer. If not, it runs once.
        in_frame: whether its heatmaps cover the layer's frame, as opposed to the whole image.
        signed: whether negative values of its heatmaps are evidence against the target.
        **options: the formula's own. Changing floats among them causes no recompilation.

    Raises:
        TypeError: an option is unknown, the inputs are not floating point, or the formula needs a
            model that takes `edit` and this one does not.
        ValueError: inputs, targets, options and the model's activations do not fit together.
    """
    model, inputs, targets, squeeze, axis = check_question(method, model, inputs, targets, shared)
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
        fuse=check_fusion(shared["fuse"]) if "fuse" in shared else None, together=together,
        reads_layer=reads_layer, in_frame=in_frame, signed=signed,
    )  # fmt: skip
    with noting(inputs, axis):
        sigmoids = check_independence(model, inputs, asked.score)
        if targets is not None and not checks.is_traced(targets):
            # This trace, which gives the number of classes, is reused by the call below.
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
    """The model with assumed positions of its layers measured, if nothing is traced."""
    measured = getattr(model, "measured", None)
    if measured is None or checks.is_traced(model, inputs):
        return model
    with noting(inputs, axis):
        return measured(inputs, score)


def _frames_of(model: AnyModel, inputs: Array, count: int) -> Sequence[Frame | None]:
    """The part of the image that each layer of a model covers; None for the whole image."""
    frames = getattr(model, "frames", None)
    if frames is not None:
        return frames(inputs)
    return [getattr(getattr(model, "func", None), "frame", None)] * count


@filter_jit
def _sums_to_one(model: AnyModel, inputs: Array, baseline: Any) -> Array:
    """Whether the outputs on the baseline sum to 1 too, which rules out chance."""
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
    # If weights are sharded over explicit axes, JAX requires shardings inside the model.
    if len(inputs):
        model, score = replicate((model, score), asked.passes["mesh"] or explicit_mesh(inputs))

    # An adapter's model may choose its layer according to the outputs that the score reads.
    follow = getattr(model, "follow_score", None)
    model = model if follow is None else follow(score, inputs)

    def forward(taps: Any) -> tuple[Array, tuple[Any, Any]]:
        edit = {}
        if taps is not None:
            edits = [functools.partial(_add, tap) for tap in taps]
            edit = {"edit": tuple(edits) if several else edits[0]}
        outputs, shown = checks.check_model_outputs(model(inputs, **edit), inputs)
        return class_scores(score, outputs, len(inputs)), (outputs, shown)

    pull = None
    shown = jax.eval_shape(forward, None)[1][1] if gradients else None
    several = isinstance(shown, tuple | list)
    if gradients:
        taps = [in_full_precision(jnp.zeros(a.shape, a.dtype)) for a in layers_of(shown)]
        confidence, pull, (outputs, shown) = jax.vjp(forward, taps, has_aux=True)
    else:
        confidence, (outputs, shown) = forward(None)
        several = isinstance(shown, tuple | list)
    shown = jax.lax.optimization_barrier(shown)  # stored once for all readers
    if targets is None:
        targets = confidence.argmax(1)[:, None]
    slopes: list[Any] = [None] * len(layers_of(shown))
    if pull is not None:
        slopes = pull_targets(pull, confidence, targets)

    def context_of(number: int, layer: Array, slopes: Any, frame: Frame | None) -> Context:
        activations = in_full_precision(jnp.moveaxis(layer, channel_axis, -1))
        alone = one_layer(model, number, len(layers_of(shown))) if several else model
        chosen = None
        if channels is not None:
            checks.check_channels(channels.count, activations.shape[-1])
            importance = channels(alone, inputs, activations, targets, score, channel_axis)
            chosen = jax.lax.top_k(importance, channels.count)[1]
        if slopes is not None:
            axis = channel_axis % layer.ndim + 1
            slopes = lay_out_like(jnp.moveaxis(slopes, axis, -1), inputs)
        return Context(
            model=alone, inputs=inputs, outputs=outputs, activations=take(activations, chosen),
            chosen=chosen, targets=targets, confidence=confidence, score=score,
            channel_axis=channel_axis, baseline=asked.baseline, passes=asked.passes, slopes=slopes,
            frame=frame,
        )  # fmt: skip

    layers = layers_of(shown)
    whole: Sequence[Frame | None] = [None] * len(layers)
    frames = _frames_of(model, inputs, len(layers)) if asked.in_frame else whole
    contexts = list(map(context_of, range(len(layers)), layers, slopes, frames))
    if not asked.reads_layer:
        contexts, shown, several = contexts[-1:], layers[-1], False
    deviation = None
    grids = [context.activations.shape[1:-1] for context in contexts]
    fuse = functools.partial(fuse_found, asked.fuse or usual_fusion(grids), asked.signed, contexts)
    if several and asked.together:
        found, deviation = asked.together(contexts, fuse, **options)
    else:
        found = [asked.formula(context, **options) for context in contexts]
    ended = [
        _end(context, each, layer)
        for context, each, layer in zip(contexts, found, layers_of(shown), strict=True)
    ]
    first = layers_of(shown)[0]
    last = ended[-1]
    explanation = Explanation(
        last.heatmap, last.weights, last.scores, shown, outputs, targets, jnp.asarray(last.peak),
        of_targets(confidence, targets), last.empty, last.deviation, last.scored,
        Axis(channel_axis % first.ndim - first.ndim), _seen(contexts[-1:]),
        shortfall=last.shortfall,
    )  # fmt: skip
    if several:
        heatmap, peak = fuse(found)
        explanation = _fused(explanation, ended, heatmap, peak, deviation, _seen(contexts))
    twice = is_softmax_of_probabilities(outputs, of_targets(confidence, targets), targets).any()
    return explanation, confidence, twice


def _add(tap: Array, activations: Array) -> Array:
    return activations + tap.astype(activations.dtype)


def _seen(contexts: Sequence[Context]) -> Bool[Array, "batch *spatial"] | None:
    """Which pixels at least one of the layers sees; None if every layer sees the whole image."""
    shape = spatial_shape(contexts[0].inputs, contexts[0].channel_axis)
    frames = [context.frame for context in contexts]
    if not any(frames):
        return None
    seen = [np.ones(shape, bool) if frame is None else frame.is_seen(shape) for frame in frames]
    return jnp.broadcast_to(np.any(seen, 0), (len(contexts[0].inputs), *shape))


def _end(context: Context, found: Found, layer: Array) -> Found:
    """Complete a formula's result: in the image, for all targets and all channels of the layer."""
    seen = _seen([context])
    if seen is not None:
        heatmap, deviation = jax.tree.map(
            lambda maps: jnp.where(seen[:, None], context.into_image(maps), 0),
            (found.heatmap, found.deviation),
        )
        found = found._replace(heatmap=heatmap, deviation=deviation)
    targets = context.targets
    peak = jnp.ones(targets.shape, found.heatmap.dtype) if found.peak is None else found.peak
    weights, scores = (
        None if values is None else put(values, context.chosen, layer.shape[context.channel_axis])
        for values in (found.weights, found.scores)
    )
    heatmap, weights, scores, peak, empty = jax.tree.map(
        lambda values: jnp.broadcast_to(values, (*targets.shape, *values.shape[2:])),
        (finite_or_empty(found.heatmap), weights, scores, peak, found.empty),
    )
    return found._replace(heatmap=heatmap, weights=weights, scores=scores, peak=peak, empty=empty)


def finite_or_empty(
    maps: Float[Array, "batch targets *spatial"],
) -> Float[Array, "batch targets *spatial"]:
    """Replace maps that are not finite by zeros, because an empty map misleads nobody."""
    finite = jnp.isfinite(maps).all(tuple(range(2, maps.ndim)), keepdims=True)
    return jnp.where(finite, maps, 0)


def _fused(
    last: Explanation,
    layers: Sequence[Found],
    heatmap: Float[Array, "batch targets *spatial"],
    peak: Float[Array, "batch targets"],
    deviation: Float[Array, "batch targets *spatial"] | None,
    seen: Bool[Array, "batch *spatial"] | None,
) -> Explanation:
    """The explanation of several layers, made from the last layer's."""
    shape = last.targets.shape
    heatmap = jnp.broadcast_to(finite_or_empty(heatmap), (*shape, *heatmap.shape[2:]))
    if seen is not None:
        heatmap, deviation = jax.tree.map(
            lambda maps: jnp.where(seen[:, None], maps, 0), (heatmap, deviation)
        )

    def each(name: str) -> Any:
        values = tuple(getattr(layer, name) for layer in layers)
        return None if all(value is None for value in values) else values

    return last._replace(
        heatmap=heatmap, peak=jnp.broadcast_to(peak, shape), deviation=deviation, seen=seen,
        weights=each("weights"), scores=each("scores"), scored=each("scored"),
        layers=tuple(
            LayerMap(one.heatmap, jnp.asarray(one.peak), one.deviation) for one in layers
        ),
    )  # fmt: skip
