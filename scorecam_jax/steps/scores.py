"""What to explain: functions from a model's outputs to scores (N, classes), for `score=`.

`score_cam(model, inputs, targets, score=...)` explains the columns that `targets` names. The
default, `jax.nn.softmax`, suits classifiers with one class per input. The functions here suit other
outputs. A score function is called on chunks of masked inputs, so a region, a box or reference
embeddings given to it apply to all inputs of a call.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scorecam_jax._internal.checks import is_traced


def logits(outputs: Any) -> Any:
    """The outputs themselves."""
    return outputs


def values(outputs: Float[Array, "n *values"]) -> Float[Array, "n values"]:
    """The outputs as they are: the values of a regression or the logits of a classifier.

    Outputs (N,), one value per input, become a single column (N, 1), whose target is 0.

    >>> values(jnp.array([0.5, 2.0])).tolist()
    [[0.5], [2.0]]
    """
    return outputs.reshape(outputs.shape[0], math.prod(outputs.shape[1:]))


def sigmoid(logits: Float[Array, "n *classes"]) -> Float[Array, "n classes"]:
    """Each class's own probability, for several labels per input or a single yes-or-no label.

    >>> sigmoid(jnp.array([[0.0, 100.0]])).tolist()
    [[0.5, 1.0]]
    """
    return jax.nn.sigmoid(values(logits))


def complement_of(score: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function outputs -> 1 − score(outputs), accurate for sure networks where that is known.

    In floating point, one minus a softmax of 0.99999999 is 0. The sum of the other classes' is not.

    >>> complement_of(jax.nn.softmax)(jnp.array([[40.0, 0.0]]))
    Array([[4.248354e-18, 1.000000e+00]], dtype=float32)
    """
    if score is jax.nn.softmax:
        return _softmax_complement
    if score is sigmoid:
        return Partial(_negated, sigmoid)
    return Partial(_one_minus, score)


def _softmax_complement(logits: Float[Array, "n classes"]) -> Float[Array, "n classes"]:
    probabilities = jax.nn.softmax(logits)
    is_best = jax.nn.one_hot(logits.argmax(1), logits.shape[1], dtype=bool)
    rest = jnp.where(is_best, 0, probabilities).sum(1, keepdims=True)
    return jnp.where(is_best, rest, 1 - probabilities)


def _negated(score: Callable[[Any], Any], logits: Array) -> Array:
    return score(-logits)


def _one_minus(score: Callable[[Any], Any], outputs: Any) -> Any:
    return 1 - score(outputs)


def select(*path: str | int, score: Callable[[Any], Any] = jax.nn.softmax) -> Partial:
    """Score one of several outputs.

    Args:
        *path: the keys, indices or attribute names that lead to the output.
        score: the score function to apply to that output.

    >>> score = select("heads", 1, score=values)
    >>> score({"heads": (jnp.zeros((1, 3)), jnp.array([[4.0]])), "features": None}).tolist()
    [[4.0]]
    """
    return Partial(_Select(path), score)


@dataclasses.dataclass(frozen=True)
class _Select:
    path: tuple[str | int, ...]

    def __call__(self, score: Callable[[Any], Any], outputs: Any) -> Any:
        for key in self.path:
            try:
                outputs = outputs[key]
            except (TypeError, KeyError, IndexError):
                if not isinstance(key, str) or not hasattr(outputs, key):
                    found = list(outputs) if isinstance(outputs, dict) else type(outputs).__name__
                    raise ValueError(
                        f"the model's outputs have no {key!r} at {self.path}, only {found}"
                    ) from None
                outputs = getattr(outputs, key)
        return score(outputs)


def segmentation(
    region: Any,
    *,
    activation: Callable[[jax.Array], jax.Array] | None = None,
    channel_axis: int = -1,
) -> Partial:
    """Each class's mean logit over a region, for outputs (N, *spatial, classes).

    Args:
        region: (*spatial), boolean or weights, of the outputs' size. It applies to all inputs.
        activation: applied to the logits first, over their last axis. `jax.nn.softmax` gives the
            mean probability.
        channel_axis: the class axis of the outputs.

    Raises:
        ValueError: the region is empty, or its size differs from the outputs'.

    Source: Seg-Grad-CAM's target, the mean of a class's logits over pixels of interest
    (Vinogradova et al. 2020, arXiv 2002.11434).

    >>> logits = jnp.array([[[1.0, 5.0], [3.0, 7.0], [9.0, 9.0]]])  # a signal of 3, two classes
    >>> segmentation(jnp.array([True, True, False]))(logits).tolist()
    [[2.0, 6.0]]
    """
    region = jnp.asarray(region, jnp.float32)
    if not is_traced(region) and not bool(region.any()):
        raise ValueError("the region is empty, wanted at least one cell")
    return Partial(_Segmentation(activation, channel_axis), region)


@dataclasses.dataclass(frozen=True)
class _Segmentation:
    activation: Callable[[jax.Array], jax.Array] | None
    channel_axis: int

    def __call__(self, region: jax.Array, outputs: jax.Array) -> jax.Array:
        logits = jnp.moveaxis(outputs, self.channel_axis, -1)
        if region.shape != logits.shape[1:-1]:
            raise ValueError(
                f"the region has shape {region.shape}, wanted the outputs' {logits.shape[1:-1]}; "
                "outputs are (N, *spatial, classes): if the classes come first, pass channel_axis=1"
            )
        cells = logits if self.activation is None else self.activation(logits)
        axes = tuple(range(region.ndim))
        weighted = jnp.tensordot(cells, region, (tuple(axis + 1 for axis in axes), axes))
        return weighted / jnp.maximum(region.sum(), jnp.finfo(jnp.float32).tiny)


def detection(box: Any) -> Partial:
    """Each class's score in the box that matches best, for outputs (boxes, scores).

    The score of class c is max over the boxes b of IoU(b, box) · score(b, c). `boxes` is
    (N, M, 4) and `scores` is (N, M, classes), in [0, 1]. If the model has other outputs too, reach
    these with `select`.

    Args:
        box: (4,), the detection to explain: two opposite corners (low, low, high, high), in the
            coordinates and order of the model's own boxes.

    Raises:
        ValueError: the box is not (4,) or has no area.

    Source: D-RISE's similarity of detections (Petsiuk et al., CVPR 2021, arXiv 2006.03204), with
    the class's score in place of the cosine similarity of all classes' scores.

    >>> boxes = jnp.array([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]]])
    >>> scores = jnp.array([[[0.25, 0.0], [0.75, 0.5]]])
    >>> detection([0, 0, 2, 2])((boxes, scores)).tolist()
    [[0.375, 0.25]]
    """
    box = jnp.asarray(box, jnp.float32)
    if box.shape != (4,) or (not is_traced(box) and not bool((box[2:] > box[:2]).all())):
        raise ValueError(f"box is {box}, wanted (low, low, high, high) with high above low")
    return Partial(_detection, box)


def _detection(box: jax.Array, outputs: tuple[jax.Array, jax.Array]) -> jax.Array:
    boxes, scores = outputs
    low = jnp.maximum(boxes[..., :2], box[None, None, :2])
    high = jnp.minimum(boxes[..., 2:], box[None, None, 2:])
    overlap = jnp.maximum(high - low, 0).prod(-1)
    areas = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)
    iou = overlap / (areas + (box[2:] - box[:2]).prod() - overlap)
    return (iou[..., None] * scores).max(1)


def similarity(references: Any, *, temperature: float | None = None) -> Partial:
    """Each reference's cosine similarity to the outputs, for embeddings (N, D).

    Args:
        references: (classes, D), embeddings of texts or of other inputs.
        temperature: None gives the cosines, in [-1, 1]. A number gives the probabilities
            softmax(cosine / temperature) over the references; CLIP uses 0.01.

    Raises:
        ValueError: the references are not (classes, D), or a temperature is given for a single
            reference, whose probability is always 1.

    Source: CLIP's zero-shot classifier (Radford et al. 2021, arXiv 2103.00020).

    >>> similarity([[2.0, 0.0], [0.0, 1.0]])(jnp.array([[0.0, 4.0]])).tolist()
    [[0.0, 1.0]]
    """
    references = jnp.asarray(references, jnp.float32)
    if references.ndim != 2:
        raise ValueError(f"references have shape {references.shape}, wanted (classes, D)")
    if temperature is not None and len(references) == 1:
        raise ValueError(
            "probabilities over a single reference are always 1: add references to compare with, "
            "or leave temperature=None for the cosine"
        )
    return Partial(_Similarity(temperature), references)


@dataclasses.dataclass(frozen=True)
class _Similarity:
    temperature: float | None

    def __call__(self, references: jax.Array, embeddings: jax.Array) -> jax.Array:
        cosines = _unit(embeddings) @ _unit(references).T
        if self.temperature is None:
            return cosines
        return jax.nn.softmax(cosines / self.temperature)


def _unit(vectors: jax.Array) -> jax.Array:
    squares = (vectors**2).sum(-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.where(squares > 0, squares, 1))  # a zero vector stays zero
