"""What all methods share: a method is a formula, and `run` puts it to a network.

A formula is a function `(context, **options) -> Found` that stands right below its public
function. It is written for arrays with the channels last and a targets axis, and is compiled with
the network.
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
from scorecam_jax.steps.fuse import Fusion, check_fusion
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
    """A number that is part of a pytree's structure, so that `jit`, `vmap` and `scan` keep it."""


class LayerMap(NamedTuple):
    """What one of several layers contributed to a fused heatmap.

    Attributes:
        heatmap: as of an `Explanation`, the layer's own.
        peak: likewise.
        deviation: likewise.
    """

    heatmap: Float[Array, "batch *targets_and_spatial"]
    peak: Float[Array, "batch *targets"]
    deviation: Float[Array, "batch *targets_and_spatial"] | None = None


class Explanation(NamedTuple):
    """What the network looked at, and how that was found.

    Axes: B inputs, T targets (absent if `targets` was None, an int or (B,)), K channels. Of a model
    of several layers `weights`, `scores`, `activations` and `scored` are tuples with one entry for
    each layer, as the model orders them.

    Attributes:
        heatmap: (B, [T,] *spatial), in [0, 1], at the input's size. All zero where the weighted
            sum is nowhere positive, or where the network's values are not finite. From
            `variants.SIGNED` in [-1, 1]: positive where the input is evidence for the target,
            negative where it is evidence against it.
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
            of other methods or scores have other units. 1 for a method that scales nothing. Of a
            fused heatmap, its maximum before it was scaled, times the geometric mean of the
            layers' peaks.
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
        layers: of several layers, what each contributed: its own heatmap, peak and deviation. None
            if the model shows a single layer, or the method looks at none.
        shortfall: (B, [T]), of a method whose attributions should sum to confidence − empty (or to
            the confidence, if `empty` is None), by how much they do not: the sum less that
            difference. None for other methods.
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
    """What a formula returns; each with the targets axis.

    Attributes:
        heatmap: (B, T, *spatial), or (B, 1, *spatial) if it is the same for all targets.
        weights: (B, T, K) or (B, 1, K), or None.
        scores: (B, T, masks), or None.
        peak: (B, T), or None for 1.
        empty: (B, T), the targets' scores on the baseline alone, or None.
        deviation: as `heatmap`, or None.
        scored: (B, K), or None.
        sums: what the heatmap was scaled from, at the layer's resolution if it has one, or None.
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

    def score_own_masks(
        self, masks: Float[Array, "batch *grid targets masks"], render: Render
    ) -> tuple[Float[Array, "batch targets masks"], Float[Array, "batch targets 1"]]:
        """Score each target under masks of its own.

        Returns:
            The scores, and those under an empty mask.
        """
        targets, count = masks.shape[-2:]
        # Every mask is scored for all targets, at no cost. Each target has use for its own.
        scores = self.score_masks(with_empty_mask(jax.lax.collapse(masks, masks.ndim - 2)), render)
        each = scores[..., :-1].reshape(*scores.shape[:2], targets, count)
        own = jnp.moveaxis(jnp.diagonal(each, axis1=1, axis2=2), -1, 1)
        return own, scores[..., -1:]

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
    """Renders masks of a frame, and puts them into the image."""

    frame: Frame

    def __call__(self, render: Render, maps: Array, shape: Sequence[int]) -> Array:
        return render_in(self.frame, render, maps, shape)


def render_in(
    frame: Frame | None, render: Render, maps: Float[Array, "n *grid"], shape: Sequence[int]
) -> Float[Array, "n *spatial"]:
    """Render masks of a layer, and put them into the image."""
    if frame is None:
        return render(maps, shape)
    return frame.into_image(render(maps, frame.shape), shape)


def target_gradients(
    scores: Callable[[Any], Float[Array, "batch classes"]],
    at: Any,
    targets: Int[Array, "batch targets"],
) -> Any:
    """The gradients of the targets' scores by arrays, a pytree, with a targets axis put in."""
    confidence, pull = jax.vjp(scores, at)
    return pull_targets(pull, confidence, targets)


def pull_targets(
    pull: Callable[[Array], Any],
    confidence: Float[Array, "batch classes"],
    targets: Int[Array, "batch targets"],
) -> Any:
    """The same, of scores that `jax.vjp` took apart already."""
    classes = confidence.shape[1]
    directions = jax.nn.one_hot(jnp.clip(targets, 0, classes - 1), classes, axis=-1)
    (slopes,) = jax.vmap(pull, 1, 1)(directions.astype(confidence.dtype))
    return slopes


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
    fuse: Fusion
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
    """Check what a user passed to a method.

    Args:
        method: the public function.
        model: what the user passed.
        inputs: what the user passed.
        targets: what the user passed.
        options: what the user passed by keyword, of those that methods share.

    Returns:
        The model of the image alone, the images, the targets (B, T) or None, whether T is to be
        left out of the explanation, and the channel axis.

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

    Of a model of several layers the formula is run on each, and the heatmaps are fused.

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
        together: what is run instead of the formula on a model of several layers, if the layers
            have something in common: (contexts, fuse, **options) -> (what was found in each, the
            fused heatmap's deviation or None), where `fuse` turns what was found into a heatmap.
        reads_layer: whether the formula looks at a layer. If not, it is run once.
        in_frame: whether its heatmaps are of the layer's frame, as opposed to the whole image.
        signed: whether negative values of its heatmaps are evidence against the target.
        **options: the formula's own. Floats among them may vary without another compilation.

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
        fuse=check_fusion(shared.get("fuse", "product")), together=together,
        reads_layer=reads_layer, in_frame=in_frame, signed=signed,
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


def _frames_of(model: AnyModel, inputs: Array, count: int) -> Sequence[Frame | None]:
    """The part of the image that each of a model's layers lies over; None for all of it."""
    frames = getattr(model, "frames", None)
    if frames is not None:
        return frames(inputs)
    return [getattr(getattr(model, "func", None), "frame", None)] * count


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
    shown = jax.lax.optimization_barrier(shown)  # stored once, whoever reads it
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
    if several and asked.together:
        fuse = functools.partial(fuse_found, asked.fuse, asked.signed, contexts)
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
        heatmap, peak = fuse_found(asked.fuse, asked.signed, contexts, found)
        explanation = _fused(explanation, ended, heatmap, peak, deviation, _seen(contexts))
    twice = is_softmax_of_probabilities(outputs, of_targets(confidence, targets), targets).any()
    return explanation, confidence, twice


def _add(tap: Array, activations: Array) -> Array:
    return activations + tap.astype(activations.dtype)


def _seen(contexts: Sequence[Context]) -> Bool[Array, "batch *spatial"] | None:
    """Which pixels any of some layers see; None if all see all."""
    shape = spatial_shape(contexts[0].inputs, contexts[0].channel_axis)
    frames = [context.frame for context in contexts]
    if not any(frames):
        return None
    seen = [np.ones(shape, bool) if frame is None else frame.is_seen(shape) for frame in frames]
    return jnp.broadcast_to(np.any(seen, 0), (len(contexts[0].inputs), *shape))


def _end(context: Context, found: Found, layer: Array) -> Found:
    """What a formula found, in the image, of all targets and all of the layer's channels."""
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
        (_finite(found.heatmap), weights, scores, peak, found.empty),
    )
    return found._replace(heatmap=heatmap, weights=weights, scores=scores, peak=peak, empty=empty)


def _finite(maps: Float[Array, "batch targets *spatial"]) -> Float[Array, "batch targets *spatial"]:
    """What is not finite shows nothing: an empty map deceives nobody."""
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
    """The explanation of several layers together, from that of the last one."""
    shape = last.targets.shape
    heatmap = jnp.broadcast_to(_finite(heatmap), (*shape, *heatmap.shape[2:]))
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
