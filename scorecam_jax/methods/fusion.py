"""One heatmap from several layers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from scorecam_jax._internal.checks import is_traced
from scorecam_jax.contract.model import AnyModel, channel_axis_of
from scorecam_jax.contract.several import split_inputs
from scorecam_jax.methods.base import Explanation
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.steps.frames import Frame
from scorecam_jax.steps.masks import normalize


def fuse_layers(
    model: AnyModel,
    inputs: jax.typing.ArrayLike,
    targets: Any = None,
    *,
    fuse: Callable[..., Any] = jnp.mean,
    method: Callable[..., Explanation] = score_cam,
    **options: Any,
) -> Explanation:
    """Explain through each of a model's layers, and fuse the heatmaps.

    Early layers see fine detail, late ones know the class. Multiplying the maps of both keeps what
    they agree on, in the spirit of Poly-CAM (Englebert et al., arXiv 2204.13359); their mean keeps
    what any of them saw. It takes the masked passes of every layer.

    Args:
        model: a `Model` of several layers, from an adapter with `layer=[...]`, or any function
            `inputs -> (outputs, (activations, ...))`.
        inputs: as `method` takes them.
        targets: as `method` takes them.
        fuse: `jnp.mean`, `jnp.max`, `jnp.prod` or any function that takes the heatmaps, stacked
            along a first axis, and `axis=0`.
        method: what explains one layer.
        **options: passed to `method`.

    Returns:
        An `Explanation` whose heatmap, the fused one, is again scaled to [0, 1], and whose
        weights, scores, activations and, if interpolated, `scored` are tuples with one entry a
        layer. It has no `deviation`.

    Raises:
        TypeError: the model gives a single layer's activations.
    """
    model, inputs = split_inputs(model, inputs)
    measured = getattr(model, "measured", None)
    if measured is not None and not is_traced(model, inputs):
        model = measured(inputs, options.get("score"))
    _, layers = jax.eval_shape(model, inputs)
    if not isinstance(layers, tuple | list):
        raise TypeError(
            "fuse_layers takes a model of several layers, but this one gives a single array of "
            "activations; pass a list of paths to the adapter, layer=['layer3', 'layer4']"
        )
    axis = channel_axis_of(model, options.get("channel_axis"))
    own = getattr(model, "frames", None)
    frames = [None] * len(layers) if own is None else own(inputs)
    explanations: list[Explanation] = []
    for index in range(len(layers)):
        one = jax.tree_util.Partial(_OneLayer(index, len(layers), axis, frames[index]), model)
        explanations.append(method(one, inputs, targets, **options))
        targets = explanations[0].targets
    first, spatial = explanations[0], jnp.ndim(inputs) - 2
    fused = fuse(jnp.stack([e.heatmap for e in explanations]), axis=0)
    each: dict[str, Any] = {
        name: tuple(getattr(e, name) for e in explanations)
        for name in ("weights", "scores", "activations")
    }
    if first.scored is not None:
        each["scored"] = tuple(e.scored for e in explanations)
    peak = fused.max(tuple(range(-spatial, 0)))
    return first._replace(heatmap=normalize(fused, spatial), peak=peak, deviation=None, **each)


@dataclasses.dataclass(frozen=True)
class _OneLayer:
    index: int
    count: int
    channel_axis: int
    frame: Frame | None

    def __call__(self, model: Any, inputs: Any, edit: Any = None) -> tuple[Any, Any]:
        if edit is None:
            outputs, layers = model(inputs)
        else:
            edits = tuple(edit if i == self.index else None for i in range(self.count))
            outputs, layers = model(inputs, edit=edits)
        return outputs, layers[self.index]
