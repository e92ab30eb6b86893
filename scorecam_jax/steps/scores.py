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

import contextvars
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scorecam_jax._internal.checks import as_array, is_traced, is_true


def is_probability(score: Callable[..., Any]) -> bool:
    """Tell whether a score function gives probabilities.

    `jax.nn.softmax`, `jax.nn.sigmoid`, `sigmoid` and `binary` do, and so does `select` of one of
    these, `segmentation` with one of these as its activation, and `similarity` with a temperature.
    The other scores of this package do not. A function of your own says it with its attribute
    `probability`, or by returning what one of these scores gives. Otherwise it counts as one that
    does.

    >>> is_probability(select("logits")), is_probability(values)
    (True, False)
    >>> is_probability(lambda outputs: values(outputs["logits"]))
    False
    """
    return kind_of(score) is not False


def kind_of(score: Callable[..., Any], outputs: Callable[[], Any] | None = None) -> bool | None:
    """Whether a score function gives probabilities; None if that cannot be told.

    Args:
        score: the function.
        outputs: () -> the shapes of a model's outputs, which tell of more functions.
    """
    kernel = _kernel(score)
    if kernel is jax.nn.softmax or kernel is jax.nn.sigmoid:
        return True
    said = getattr(kernel, "probability", None)
    if said is not None:
        return bool(said)
    if kernel in (None, jax.nn.log_softmax) or _is_of_this_package(kernel):
        return False
    carried = _carried(kernel, _Outputs)
    if carried is None and outputs is not None:
        carried = _carried(score, outputs)
    return carried


_GIVEN: contextvars.ContextVar[list[tuple[Any, bool]] | None] = contextvars.ContextVar(
    "what scores of this package gave, and whether that is a probability", default=None
)


def _carried(score: Callable[..., Any], outputs: Callable[[], Any]) -> bool | None:
    """The kind of the score of this package whose result a function returns as it is."""
    given: list[tuple[Any, bool]] = []
    found: list[bool] = []

    def trace(outputs: Any) -> Any:
        result = score(outputs)
        found.extend(kind for value, kind in given if value is result)
        return result

    token = _GIVEN.set(given)
    try:
        shapes = outputs()
        trace(shapes) if isinstance(shapes, _Outputs) else jax.eval_shape(trace, shapes)
    except Exception:
        pass  # what is wrong with it is told where it is called
    finally:
        _GIVEN.reset(token)
    return found[-1] if found else None


class _Outputs:
    """What stands for a model's outputs where they are not known: its parts are of its kind."""

    def __getitem__(self, key: Any) -> "_Outputs":
        return _Outputs()

    def __getattr__(self, name: str) -> "_Outputs":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Outputs()

    def __iter__(self) -> Any:
        raise TypeError("how many outputs there are is not known")


def _gives(kind: Callable[..., bool]) -> Callable[[Any], Any]:
    """Note what a score gives, and whether that is a probability: `kind` of its first argument."""

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def score(*args: Any) -> Any:
            given = _GIVEN.get()
            if given is None:
                return function(*args)
            unknown = any(isinstance(leaf, _Outputs) for leaf in jax.tree.leaves(args))
            result = _Outputs() if unknown else function(*args)
            given.append((result, kind(args[0])))
            return result

        return score

    return decorate


def _no(_: Any) -> bool:
    return False


def _yes(_: Any) -> bool:
    return True


def _is_of_this_package(function: Any) -> bool:
    return getattr(function, "__module__", "").split(".")[0] == "scorecam_jax"


def is_softmax(score: Callable[..., Any]) -> bool:
    """Tell whether a score function is known to take a softmax, or its logarithm, over classes."""
    kernel = _kernel(score)
    return kernel is jax.nn.softmax or kernel is jax.nn.log_softmax


def _kernel(score: Any) -> Any:
    """The function that makes the scores, inside those that prepare its input."""
    while isinstance(score, functools.partial):
        inner = getattr(score.func, "inner", None)
        score = score.func if inner is None else inner(*score.args)
    return score


@_gives(_no)
def logits(outputs: Any) -> Any:
    """The outputs themselves."""
    return outputs


@_gives(_no)
def values(outputs: Float[Array, "n *values"]) -> Float[Array, "n values"]:
    """The outputs as they are: the values of a regression or the logits of a classifier.

    Outputs (N,), one value per input, become a single column (N, 1), whose target is 0.

    >>> values(jnp.array([0.5, 2.0])).tolist()
    [[0.5], [2.0]]
    """
    return outputs.reshape(outputs.shape[0], math.prod(outputs.shape[1:]))


@_gives(_yes)
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


@_gives(_yes)
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
    rather_than: Any,
    *,
    share: float = 1.0,
    score: Callable[[Any], Any] = logits,
) -> Partial:
    """Each class's score less that of other classes: why this rather than that.

    The score of class c is y_c − share · mean of y_d over the classes d in `rather_than`. It works
    with any method; methods that weigh maps by scores weigh by its increase.

    Args:
        rather_than: the other class; several, (n,), of which the mean is taken; or several for
            each class, (classes, n), as `nearest` finds them.
        share: how much of the other classes' score is taken off.
        score: outputs -> y (N, classes).

    Raises:
        TypeError: `rather_than` is not integer.
        ValueError: `rather_than` has no class in it or too many axes, or names no class.

    Source: Finer-CAM (Zhang et al., CVPR 2025, arXiv 2501.11309), which takes off the mean over
    similar classes.

    >>> contrast(1)(jnp.array([[3.0, 2.0, 0.0]])).tolist()
    [[1.0, 0.0, -2.0]]
    """
    others = as_array(rather_than)
    if not jnp.issubdtype(others.dtype, jnp.integer):
        raise TypeError(f"rather_than is {others.dtype}, wanted integer class indices")
    if others.ndim > 2 or not others.size:
        raise ValueError(
            f"rather_than has shape {others.shape}, wanted a class, several (n,), or several for "
            "each class (classes, n)"
        )
    return Partial(_Contrast(), jnp.atleast_1d(others), jnp.asarray(share, jnp.float32), score)


@dataclasses.dataclass(frozen=True)
class _Contrast:
    probability = False

    @_gives(_no)
    def __call__(
        self, others: jax.Array, share: jax.Array, score: Callable[[Any], Any], outputs: Any
    ) -> jax.Array:
        scores = score(outputs)
        self.check(scores.shape[1], others)
        if others.ndim == 1:
            return scores - share * scores[:, others].mean(1, keepdims=True)
        return scores - share * scores[:, others].mean(2)

    @staticmethod
    def check(classes: int, others: Any, *_: Any) -> None:
        if classes < 2:
            raise ValueError(
                "the scores have a single class, so there is none to contrast it with: a "
                "yes-or-no logit has two with score=scores.binary"
            )
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
    distances = jnp.abs(scores[0, :, None] - scores[0][None])
    distances = jnp.where(jnp.eye(len(distances), dtype=bool), jnp.inf, distances)
    return jax.lax.top_k(-distances, count)[1]


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

    @_gives(lambda self: is_probability(self.activation))
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


def detection(
    box: Any,
    *,
    activation: Callable[[jax.Array], jax.Array] | None = None,
    layout: str | None = None,
    channel_axis: int = 1,
) -> Partial:
    """Each class's score in the box that matches best, for outputs (boxes, scores).

    The score of class c is max over the boxes b of IoU(b, box) · score(b, c). `boxes` is
    (N, M, 4) and `scores` is (N, M, classes), in [0, 1]. If the model has other outputs too, reach
    these with `select`.

    Args:
        box: (4,), the detection to explain: two opposite corners (low, low, high, high), in the
            coordinates and order of the model's own boxes.
        activation: applied to the scores first, over their last axis. Name `jax.nn.sigmoid` or
            `jax.nn.softmax` if the model gives logits: the product with an overlap has a meaning
            for scores in [0, 1] only.
        layout: for outputs that are one array (N, 4 + classes, M), how its boxes are written:
            "corners", (low, low, high, high), or "centers", (center, center, size, size). The
            given box is in corners all the same.
        channel_axis: of one array, the axis of 4 + classes: 1, or -1 for (N, M, 4 + classes).

    Raises:
        ValueError: the box is not (4,) or has no area, the layout is unknown, or the outputs are
            not as the layout says.

    Source: D-RISE's similarity of detections (Petsiuk et al., CVPR 2021, arXiv 2006.03204), with
    the class's score in place of the cosine similarity of all classes' scores.

    >>> boxes = jnp.array([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]]])
    >>> scores = jnp.array([[[0.25, 0.0], [0.75, 0.5]]])
    >>> detection([0, 0, 2, 2])((boxes, scores)).tolist()
    [[0.375, 0.25]]
    >>> raw = jnp.concatenate([boxes, scores], 2)  # (N, M, 4 + classes)
    >>> detection([0, 0, 2, 2], layout="corners", channel_axis=-1)(raw).tolist()
    [[0.375, 0.25]]
    """
    if layout not in (None, *_LAYOUTS):
        raise ValueError(f"layout is {layout!r}, wanted one of {', '.join(map(repr, _LAYOUTS))}")
    box = as_array(box)
    known = not is_traced(box)
    if box.shape != (4,) or (known and not is_true(lambda: (box[2:] > box[:2]).all())):
        raise ValueError(f"box is {box}, wanted (low, low, high, high) with high above low")
    return Partial(_Detection(activation, layout, channel_axis), jnp.asarray(box, jnp.float32))


_LAYOUTS = ("corners", "centers")


@dataclasses.dataclass(frozen=True)
class _Detection:
    activation: Callable[[jax.Array], jax.Array] | None
    layout: str | None = None
    channel_axis: int = 1

    def split(self, outputs: Any) -> tuple[jax.Array, jax.Array]:
        """Boxes (N, M, 4), in corners, and scores (N, M, classes)."""
        if self.layout is None:
            if isinstance(outputs, tuple | list) and len(outputs) == 2:
                boxes, scores = outputs
                shape, other = (getattr(each, "shape", ()) for each in outputs)
                if len(shape) == len(other) == 3 and (*other[:2], 4) == shape:
                    return boxes, scores
            raise ValueError(
                f"detection found outputs of {_found(outputs)}, wanted (boxes, scores) of shapes "
                "(N, M, 4) and (N, M, classes): reach them with select, or, for one array "
                "(N, 4 + classes, M), name its layout='corners' or layout='centers', with "
                "channel_axis=-1 for (N, M, 4 + classes)"
            )
        shape = getattr(outputs, "shape", ())
        if len(shape) != 3 or shape[self.channel_axis] <= 4:
            raise ValueError(
                f"detection found outputs of {_found(outputs)}, wanted for layout={self.layout!r} "
                f"one array with four coordinates and the classes along axis {self.channel_axis}: "
                f"(N, {'4 + classes, M' if self.channel_axis == 1 else 'M, 4 + classes'})"
            )
        rows = jnp.moveaxis(outputs, self.channel_axis, -1)
        boxes, scores = rows[..., :4], rows[..., 4:]
        if self.layout == "centers":
            centers, sizes = boxes[..., :2], boxes[..., 2:]
            boxes = jnp.concatenate([centers - sizes / 2, centers + sizes / 2], -1)
        return boxes, scores

    @_gives(_no)
    def __call__(self, box: jax.Array, outputs: Any) -> jax.Array:
        boxes, scores = self.split(outputs)
        scores = scores if self.activation is None else self.activation(scores)
        low = jnp.maximum(boxes[..., :2], box[None, None, :2])
        high = jnp.minimum(boxes[..., 2:], box[None, None, 2:])
        overlap = jnp.maximum(high - low, 0).prod(-1)
        areas = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)
        iou = overlap / (areas + (box[2:] - box[:2]).prod() - overlap)
        return (iou[..., None] * scores).max(1)


def _found(outputs: Any) -> str:
    shapes = jax.tree.map(lambda leaf: getattr(leaf, "shape", type(leaf).__name__), outputs)
    return f"shape {shapes}" if hasattr(outputs, "shape") else f"shapes {shapes}"


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

    @_gives(lambda self: self.probability)
    def __call__(self, references: jax.Array, embeddings: jax.Array) -> jax.Array:
        cosines = jnp.matmul(unit(embeddings), unit(references).T, precision="highest")
        if self.temperature is None:
            return cosines
        return jax.nn.softmax(cosines / self.temperature)


def unit(vectors: Float[Array, "*rows features"]) -> Float[Array, "*rows features"]:
    """Vectors scaled to length 1; a zero vector stays zero."""
    squares = (vectors**2).sum(-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.where(squares > 0, squares, 1))
