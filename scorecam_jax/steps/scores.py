"""What to explain: functions from a model's outputs to scores (N, classes), for `score=`.

`score_cam(model, inputs, targets, score=...)` explains the columns that `targets` names. The
default, `jax.nn.softmax`, suits classifiers with one class per input. The functions here suit other
outputs. A score function is called on chunks of masked inputs, so a region, a box or reference
embeddings given to it apply to all inputs of a call.

A constant that is added to a score says nothing about the input. Probabilities have no such
constant, and masks may be weighed by them as they are. Other scores are weighed by their increase
over the baseline's score; see `scorecam_jax.variants.default_for`. `is_probability` tells which is
which. A function of your own that returns what one of these gives is what that one is. Any other
counts as a probability, unless its attribute `probability` is False.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from scorecam_jax._internal.checks import as_array, is_traced, is_true
from scorecam_jax.steps.detection import Detections as Detections
from scorecam_jax.steps.detection import d_rise as d_rise
from scorecam_jax.steps.detection import detected as detected
from scorecam_jax.steps.detection import detection as detection
from scorecam_jax.steps.detection import labelled as labelled
from scorecam_jax.steps.detection import prediction as prediction
from scorecam_jax.steps.kinds import gives, is_probability
from scorecam_jax.steps.kinds import is_softmax as is_softmax
from scorecam_jax.steps.kinds import kind_of as kind_of
from scorecam_jax.steps.vectors import cosines


@gives(False)
def logits(outputs: Any) -> Any:
    """The outputs themselves."""
    return outputs


@gives(False)
def values(outputs: Float[Array, "n *values"]) -> Float[Array, "n values"]:
    """The outputs as they are: the values of a regression or the logits of a classifier.

    Outputs (N,), one value per input, become a single column (N, 1), whose target is 0.

    >>> values(jnp.array([0.5, 2.0])).tolist()
    [[0.5], [2.0]]
    """
    return outputs.reshape(outputs.shape[0], math.prod(outputs.shape[1:]))


@gives(True)
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


@gives(True)
def binary(logit: Float[Array, "n *one"]) -> Float[Array, "n 2"]:
    """The probabilities of "no" (target 0) and "yes" (target 1), from a single logit for "yes".

    The same as softmax([0, logit]).

    Raises:
        ValueError: there is more than one logit per input.

    >>> binary(jnp.array([[0.0], [100.0]])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    column = values(logit)
    if column.shape[1] != 1:
        raise ValueError(
            f"binary takes one logit per input, and the outputs have {column.shape[1]}: use "
            "jax.nn.softmax for classes that exclude one another, scores.sigmoid for labels"
        )
    return jax.nn.sigmoid(jnp.concatenate([-column, column], 1))


sigmoid.probability = True
binary.probability = True


def contrast(
    rather_than: Any = None,
    *,
    share: float = 1.0,
    weighted: bool = False,
    count: int = 3,
    score: Callable[[Any], Any] = logits,
) -> Partial:
    """Each class's score less that of other classes: why this rather than that.

    The score of class c is y_c − share · mean of y_d over the classes d in `rather_than`. It works
    with any method; methods that weigh maps by scores weigh by its increase.

    Args:
        rather_than: the other class; several, (n,), of which the mean is taken; or several for
            each class, (classes, n), as `nearest` finds them. None: for each class the `count`
            nearest by the outputs at hand. Under a mask these may be others than without: for
            methods that mask, pass what `nearest` finds.
        share: how much of the other classes' score is taken off.
        weighted: weight the mean by the classes' probabilities, Σ p_d y_d / Σ p_d with p = softmax
            of y. Gradients run through p.
        count: how many are nearest; all others, if there are fewer.
        score: outputs -> y (N, classes).

    Raises:
        TypeError: `rather_than` is not integer.
        ValueError: `rather_than` has no class in it or too many axes, or names no class; `count` is
            not positive.

    Source: Finer-CAM (Zhang et al., CVPR 2025, arXiv 2501.11309). `share=1, weighted=True` is the
    authors' and pytorch-grad-cam's Σ p_d (y_c − y_d) / Σ p_d; `share=.6` is torch-cam's.

    >>> contrast(1)(jnp.array([[3.0, 2.0, 0.0]])).tolist()
    [[1.0, 0.0, -2.0]]
    >>> contrast(count=1)(jnp.array([[3.0, 2.0, 0.0]])).tolist()
    [[1.0, -1.0, -2.0]]
    """
    share_of = jnp.asarray(share, jnp.float32)
    if rather_than is None:
        if count < 1:
            raise ValueError(f"count={count}, wanted at least 1 of the other classes")
        return Partial(_Contrast(weighted, count), None, share_of, score)
    others = as_array(rather_than)
    if not jnp.issubdtype(others.dtype, jnp.integer):
        raise TypeError(f"rather_than is {others.dtype}, wanted integer class indices")
    if others.ndim > 2 or not others.size:
        raise ValueError(
            f"rather_than has shape {others.shape}, wanted a class, several (n,), or several for "
            "each class (classes, n)"
        )
    return Partial(_Contrast(weighted), jnp.atleast_1d(others), share_of, score)


@dataclasses.dataclass(frozen=True)
class _Contrast:
    weighted: bool = False
    count: int = 0
    probability: ClassVar[bool] = False

    @gives(False)
    def __call__(
        self,
        others: jax.Array | None,
        share: jax.Array,
        score: Callable[[Any], Any],
        outputs: Any,
    ) -> jax.Array:
        scores = score(outputs)
        self.check(scores.shape[1], others)
        if others is None:
            near = jax.vmap(_nearest, (0, None))(scores, min(self.count, scores.shape[1] - 1))
            rest = jnp.take_along_axis(scores[:, None], near, 2)
        else:
            rest = scores[:, jnp.atleast_2d(others)]  # (N, 1 or classes, n)
        if self.weighted:
            return scores - share * (jax.nn.softmax(rest) * rest).sum(2)
        return scores - share * rest.mean(2)

    @staticmethod
    def check(classes: int, others: Any, *_: Any) -> None:
        if classes < 2:
            raise ValueError(
                "the scores have a single class, so there is none to contrast it with: a "
                "yes-or-no logit has two with score=scores.binary"
            )
        if others is None:
            return
        if others.ndim == 2 and len(others) != classes:
            raise ValueError(
                f"rather_than has shape {others.shape}, wanted ({classes}, n): some classes for "
                f"each of the {classes}"
            )
        if not is_traced(others) and not is_true(
            lambda: (others.min() >= 0) & (others.max() < classes)
        ):
            raise ValueError(
                f"rather_than={others.tolist()} are not all classes of this model, which has "
                f"{classes}: 0 to {classes - 1}"
            )


def nearest(outputs: Any, count: int = 3, *, score: Callable[[Any], Any] = logits) -> jax.Array:
    """Each class's `count` nearest others by their scores on one input, for `contrast`.

    Args:
        outputs: the model's, on a single input: other inputs have other neighbours.
        count: how many, at least 1 and fewer than there are classes.
        score: outputs -> (1, classes).

    Returns:
        (classes, count), the nearest first.

    Raises:
        ValueError: there are several inputs, or too few classes.

    >>> nearest(jnp.array([[9.0, 8.0, 0.0]]), 1).tolist()
    [[1], [0], [1]]
    """
    scores = score(outputs)
    if len(scores) != 1:
        raise ValueError(
            f"outputs are of {len(scores)} inputs, wanted 1: find the neighbours of each input, "
            "and explain it, by itself"
        )
    if not 1 <= count < scores.shape[1]:
        raise ValueError(f"count={count}, wanted 1 to {scores.shape[1] - 1} of the other classes")
    return _nearest(scores[0], count)


def _nearest(scores: Float[Array, " classes"], count: int) -> Int[Array, "classes count"]:
    """Each class's nearest others. In the order of their scores these lie beside it."""
    order = jnp.argsort(scores)
    beside = np.array([step for step in range(-count, count + 1) if step])
    places = jnp.arange(len(scores))[:, None] + beside[None]
    inside = (places >= 0) & (places < len(scores))
    found = order[places.clip(0, len(scores) - 1)]
    distances = jnp.where(inside, jnp.abs(scores[found] - scores[order][:, None]), jnp.inf)
    near = jnp.take_along_axis(found, jax.lax.top_k(-distances, count)[1], 1)
    return near[jnp.argsort(order)]


def check_score(score: Any, classes: int) -> None:
    """ValueError if the values in a score function do not fit the number of classes."""
    while isinstance(score, functools.partial):
        if isinstance(score.func, _Contrast):
            score.func.check(classes, *score.args)
        inner = getattr(score.func, "inner", None)
        score = None if inner is None else inner(*score.args)


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

    @staticmethod
    def inner(score: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return score

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
    region = as_array(region)
    if not is_traced(region) and not is_true(lambda: (region != 0).any()):
        raise ValueError("the region is empty, wanted at least one cell")
    return Partial(_Segmentation(activation, channel_axis), jnp.asarray(region, jnp.float32))


@dataclasses.dataclass(frozen=True)
class _Segmentation:
    activation: Callable[[jax.Array], jax.Array] | None
    channel_axis: int

    def inner(self, region: jax.Array) -> Callable[[jax.Array], jax.Array] | None:
        return self.activation

    @gives(lambda self: is_probability(self.activation))
    def __call__(self, region: jax.Array, outputs: jax.Array) -> jax.Array:
        logits = jnp.moveaxis(outputs, self.channel_axis, -1)
        if region.shape != logits.shape[1:-1]:
            raise ValueError(
                f"the region has shape {region.shape}, wanted the outputs' {logits.shape[1:-1]}; "
                "outputs are (N, *spatial, classes): if the classes come first, pass channel_axis=1"
            )
        cells = logits if self.activation is None else self.activation(logits)
        axes = tuple(range(region.ndim))
        pairs = tuple(axis + 1 for axis in axes), axes
        weighted = jnp.tensordot(cells, region, pairs, precision="highest")
        return weighted / jnp.maximum(region.sum(), jnp.finfo(jnp.float32).tiny)


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

    @property
    def probability(self) -> bool:
        return self.temperature is not None

    @gives(lambda self: self.probability)
    def __call__(self, references: jax.Array, embeddings: jax.Array) -> jax.Array:
        found = cosines(embeddings, references)
        return found if self.temperature is None else jax.nn.softmax(found / self.temperature)
