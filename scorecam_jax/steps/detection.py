"""Scores of detected objects: a box's class, a whole detection, one prediction of a detector.

Detectors lay their outputs out differently. `layout` names the way, and `Detections` is what all
of them are read into. All of it is part of `scorecam_jax.scores`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from scorecam_jax._internal.checks import as_array, is_traced, is_true
from scorecam_jax.steps.kinds import gives
from scorecam_jax.steps.vectors import cosines

Activation = Callable[[jax.Array], jax.Array]


class Detections(NamedTuple):
    """What a detector finds, for N images with M boxes each, or without N for boxes of yours.

    Attributes:
        boxes: (N, M, 4), two opposite corners (low, low, high, high); or (N, M, classes, 4) if
            each class has its own.
        scores: (N, M, classes), in [0, 1]: by what the detector ranks.
        objectness: (N, M), in [0, 1]: whether there is any object. None: the detector does not say.
    """

    boxes: Any
    scores: Any
    objectness: Any = None


Layout = str | Callable[[Any], Detections] | None


def detection(
    box: Any,
    *,
    activation: Activation | None = None,
    layout: Layout = None,
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
            for scores in [0, 1] only. The last four of the layouts need none.
        layout: how other outputs are read; the given box is in corners all the same.

            - `"corners"`: one array (N, 4 + classes, M), with boxes (low, low, high, high).
            - `"centers"`: the same, with boxes (center, center, size, size).
            - `"yolov8"`: as `"centers"`; also YOLO11. Before non-maximum suppression.
            - `"yolov5"`: one array (N, M, 5 + classes), with centres, the objectness, and classes
              given an object; also YOLOv3 and YOLOX. `score` is the product of both.
            - `"detr"`: `logits` or `pred_logits` (N, M, classes + 1), the last of no object, and
              `pred_boxes`, centres from 0 to 1.
            - `"deformable-detr"`: the same with a sigmoid for each of the classes; also RT-DETR.
            - `"faster-rcnn"`: `(proposals, class_logits, box_regression)`, of shapes (N, M, 4),
              (N, M, classes) and (N, M, 4 · classes), or a mapping of these names. Class 0 is the
              background, whose score is 0 here, as torchvision has it.
            - a function outputs -> `Detections`, such as `labelled(classes)`.
        channel_axis: of `"corners"` and `"centers"`, the axis of 4 + classes: 1, or -1 for
            (N, M, 4 + classes).

    Raises:
        ValueError: the box is not (4,) or has no area, the layout is unknown, or the outputs are
            not as the layout says.

    Source: D-RISE's similarity of detections (Petsiuk et al., CVPR 2021, arXiv 2006.03204), with
    the class's score in place of the cosine similarity of all classes' scores, which `d_rise` has.

    >>> boxes = jnp.array([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]]])
    >>> scores = jnp.array([[[0.25, 0.0], [0.75, 0.5]]])
    >>> detection([0, 0, 2, 2])((boxes, scores)).tolist()
    [[0.375, 0.25]]
    >>> raw = jnp.concatenate([boxes, scores], 2)  # (N, M, 4 + classes)
    >>> detection([0, 0, 2, 2], layout="corners", channel_axis=-1)(raw).tolist()
    [[0.375, 0.25]]
    """
    box = as_array(box)
    known = not is_traced(box)
    if box.shape != (4,) or (known and not is_true(lambda: (box[2:] > box[:2]).all())):
        raise ValueError(f"box is {box}, wanted (low, low, high, high) with high above low")
    reader = _Reader(layout, activation, channel_axis)
    return Partial(_Detection(reader), jnp.asarray(box, jnp.float32))


def d_rise(
    targets: "Detections | Detected",
    *,
    activation: Activation | None = None,
    layout: Layout = None,
    channel_axis: int = 1,
) -> Partial:
    """How well each of some detections is found again, as D-RISE measures it: a column for each.

    The score of target t is max over the boxes b of IoU(b, t) · cos(scores of b, scores of t) ·
    objectness of b. With `rise` this is D-RISE; any other method takes the same score.

    Args:
        targets: the detections to explain, without the axis N: boxes (T, 4), and scores
            (T, classes), of which only the proportions count. `detected` finds them.
        activation: as in `detection`.
        layout: as in `detection`.
        channel_axis: as in `detection`.

    Raises:
        ValueError: boxes and scores of the targets do not fit each other or the outputs, the
            layout is unknown, or the outputs are not as it says.

    Source: D-RISE (Petsiuk et al., CVPR 2021, arXiv 2006.03204). An objectness that a detector does
    not state is left out, as there; that of DETR and Faster R-CNN is taken as one minus the
    probability of no object.

    >>> boxes = jnp.array([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]]])
    >>> scores = jnp.array([[[0.0, 0.5], [0.75, 0.0]]])
    >>> d_rise(Detections([[0, 0, 2, 2]], [[1.0, 0.0]]))((boxes, scores)).tolist()
    [[0.5]]
    """
    boxes, scores = (jnp.asarray(each, jnp.float32) for each in targets[:2])
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape[:-1] != boxes.shape[:1]:
        raise ValueError(
            f"targets have boxes {boxes.shape} and scores {scores.shape}, wanted (T, 4) and "
            "(T, classes): a row for each detection to explain, of a single image"
        )
    return Partial(_DRise(_Reader(layout, activation, channel_axis)), boxes, scores)


def prediction(
    index: int,
    *,
    of_box: bool = False,
    activation: Activation | None = None,
    layout: Layout = None,
    channel_axis: int = 1,
) -> Partial:
    """What a detector predicts in one of its M places: every class's score, or the box.

    With `hires_cam` this is ODAM, which multiplies activations by the gradients of one prediction
    place by place, but for the blur that ODAM puts on gradients. A prediction follows an object
    only while inputs change little, as they do for gradients. Where inputs are masked, `detection`
    and `d_rise` find the object again wherever it is predicted.

    Args:
        index: which of the M, as in `detected(...).index`.
        of_box: take the corners of the box: four columns, or four for each class that has its own.
        activation: as in `detection`.
        layout: as in `detection`.
        channel_axis: as in `detection`.

    Raises:
        ValueError: there is no such prediction, the layout is unknown, or the outputs are not as
            it says.

    Source: Zhao and Chan, "ODAM: Gradient-based instance-specific visual explanations for object
    detection", ICLR 2023 (arXiv 2304.06354).

    >>> boxes = jnp.array([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]]])
    >>> prediction(1)((boxes, jnp.array([[[0.25, 0.0], [0.75, 0.5]]]))).tolist()
    [[0.75, 0.5]]
    """
    return Partial(_Prediction(_Reader(layout, activation, channel_axis), index, of_box))


class Detected(NamedTuple):
    """Detections of one image, the surest first; they are targets of `d_rise`.

    Attributes:
        boxes: (T, 4), corners.
        scores: (T, classes).
        index: (T,), which of the detector's M predictions each is.
        classes: (T,), the likeliest class of each.
    """

    boxes: Float[Array, "targets 4"]
    scores: Float[Array, "targets classes"]
    index: Any
    classes: Any


def detected(
    outputs: Any,
    count: int = 1,
    *,
    overlap: float = 0.5,
    activation: Activation | None = None,
    layout: Layout = None,
    channel_axis: int = 1,
) -> Detected:
    """The `count` surest detections of one image that do not overlap each other.

    The surest is taken, those whose boxes overlap it are dropped, and so on, whatever their class.
    Where no further box is left, the surest one is repeated.

    Args:
        outputs: the model's, on a single image.
        count: how many.
        overlap: the IoU from which boxes are of the same object.
        activation: as in `detection`.
        layout: as in `detection`.
        channel_axis: as in `detection`.

    Raises:
        ValueError: the outputs are of several images or not as the layout says.

    >>> boxes = jnp.array([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]]])
    >>> found = detected((boxes, jnp.array([[[0.8, 0.0], [0.0, 0.7], [0.2, 0.4]]])), 2)
    >>> found.index.tolist(), found.classes.tolist()
    ([0, 2], [0, 1])
    """
    boxes, scores, _ = _Reader(layout, activation, channel_axis)(outputs)
    if len(scores) != 1:
        raise ValueError(
            f"outputs are of {len(scores)} images, wanted 1: find the objects of each by itself"
        )
    sureness, classes = scores[0].max(-1), scores[0].argmax(-1)
    boxes = boxes[0]
    if boxes.ndim == 3:
        boxes = jnp.take_along_axis(boxes, classes[:, None, None], 1)[:, 0]
    left = jnp.ones(len(boxes), bool)
    chosen: list[jax.Array] = []
    for _ in range(count):
        best = jnp.where(left, sureness, -jnp.inf).argmax()
        chosen.append(jnp.where(left.any(), best, chosen[0]) if chosen else best)
        left &= (_iou(boxes, boxes[best]) < overlap) & (jnp.arange(len(boxes)) != best)
    index = jnp.stack(chosen)
    return Detected(boxes[index], scores[0, index], index, classes[index])


def labelled(classes: int) -> Callable[[Any], Detections]:
    """The layout of detections after non-maximum suppression, padded to M rows an image.

    The outputs are a mapping of `boxes` (N, M, 4) in corners, `labels` (N, M), which are class
    numbers, and `scores` (N, M), 0 where a row is padding. torchvision's detectors and the
    post-processing of transformers return these entries.

    Args:
        classes: how many there are.

    >>> outputs = {"boxes": jnp.array([[[0.0, 0.0, 1.0, 1.0]]]), "labels": jnp.array([[2]])}
    >>> detection([0, 0, 1, 1], layout=labelled(3))(outputs | {"scores": jnp.array([[0.5]])})
    Array([[0. , 0. , 0.5]], dtype=float32)
    """
    return _Labelled(classes)


@dataclasses.dataclass(frozen=True)
class _Labelled:
    classes: int

    def __call__(self, outputs: Any) -> Detections:
        boxes, labels, scores = _parts(outputs, ("boxes", "labels", "scores"), "labelled")
        if boxes.shape != (*scores.shape, 4) or labels.shape != scores.shape:
            raise ValueError(
                f"labelled found outputs of {_found(outputs)}, wanted boxes (N, M, 4), labels "
                "(N, M) and scores (N, M)"
            )
        hot = jax.nn.one_hot(labels, self.classes, dtype=scores.dtype)
        return Detections(boxes, hot * scores[..., None])


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Outputs -> `Detections`, as a layout says."""

    layout: Layout
    activation: Activation | None
    channel_axis: int

    def __post_init__(self) -> None:
        if isinstance(self.layout, str) and self.layout not in _LAYOUTS:
            raise ValueError(
                f"layout is {self.layout!r}, wanted one of {', '.join(map(repr, _LAYOUTS))}, or a "
                "function outputs -> scores.Detections"
            )
        if self.activation is not None and not (self.layout is None or self.layout in _PLAIN):
            raise ValueError(
                f"an activation is given, and layout={self.layout!r} has its own: leave it out"
            )

    def __call__(self, outputs: Any) -> Detections:
        if callable(self.layout):
            return self.layout(outputs)
        if self.layout is None:
            found = _pair(outputs)
        elif self.layout in _PLAIN:
            axis = 1 if self.layout == "yolov8" else self.channel_axis
            found = _one_array(outputs, self.layout, axis)
        else:
            found = _LAYOUTS[self.layout](outputs)
        if self.activation is None:
            return found
        return found._replace(scores=self.activation(found.scores))


def _pair(outputs: Any) -> Detections:
    if isinstance(outputs, tuple | list) and len(outputs) == 2:
        boxes, scores = outputs
        shape, other = (getattr(each, "shape", ()) for each in outputs)
        if len(shape) == len(other) == 3 and (*other[:2], 4) == shape:
            return Detections(boxes, scores)
    raise ValueError(
        f"detection found outputs of {_found(outputs)}, wanted (boxes, scores) of shapes "
        "(N, M, 4) and (N, M, classes): reach them with select, or, for one array "
        "(N, 4 + classes, M), name its layout='corners' or layout='centers', with "
        f"channel_axis=-1 for (N, M, 4 + classes). Layouts are {', '.join(_LAYOUTS)}"
    )


def _one_array(outputs: Any, layout: str, axis: int, first: int = 4) -> Detections:
    """Of an array whose boxes come first, and then the scores, the boxes in corners."""
    shape = getattr(outputs, "shape", ())
    if len(shape) != 3 or shape[axis] <= first:
        raise ValueError(
            f"detection found outputs of {_found(outputs)}, wanted for layout={layout!r} one "
            f"array with the box, {'the objectness, ' * (first - 4)}and the classes along axis "
            f"{axis}: (N, {f'{first} + classes, M' if axis == 1 else f'M, {first} + classes'})"
        )
    rows = jnp.moveaxis(outputs, axis, -1)
    boxes, scores = rows[..., :4], rows[..., 4:]
    return Detections(boxes if layout == "corners" else _corners(boxes), scores)


def _yolov5(outputs: Any) -> Detections:
    boxes, rest, _ = _one_array(outputs, "yolov5", -1, 5)
    return Detections(boxes, rest[..., :1] * rest[..., 1:], rest[..., 0])


def _detr(outputs: Any) -> Detections:
    boxes, logits = _queries(outputs, "detr")
    probabilities = jax.nn.softmax(logits)
    # The sum of the others is exact where that of no object is nearly 1.
    scores = probabilities[..., :-1]
    return Detections(boxes, scores, scores.sum(-1))


def _deformable_detr(outputs: Any) -> Detections:
    boxes, logits = _queries(outputs, "deformable-detr")
    return Detections(boxes, jax.nn.sigmoid(logits))


def _queries(outputs: Any, layout: str) -> tuple[jax.Array, jax.Array]:
    """Boxes in corners, and logits, of what DETR and its kin return."""
    named = "pred_logits" if _has(outputs, "pred_logits") else "logits"
    boxes, logits = _parts(outputs, ("pred_boxes", named), layout)
    if logits.ndim != 3 or boxes.shape != (*logits.shape[:2], 4):
        raise ValueError(
            f"detection found outputs of {_found(outputs)}, wanted for layout={layout!r} logits "
            "(N, M, classes) and pred_boxes (N, M, 4)"
        )
    return _corners(boxes), logits


# By how much Faster R-CNN's offsets of boxes are enlarged, and the most a side grows.
_ENLARGED = (10.0, 10.0, 5.0, 5.0)
_MOST_GROWTH = math.log(1000 / 16)


def _faster_rcnn(outputs: Any) -> Detections:
    names = ("proposals", "class_logits", "box_regression")
    proposals, logits, offsets = _parts(outputs, names, "faster-rcnn")
    n, m, classes = logits.shape if logits.ndim == 3 else (0, 0, 0)
    if proposals.shape != (n, m, 4) or offsets.shape != (n, m, 4 * classes):
        raise ValueError(
            f"detection found outputs of {_found(outputs)}, wanted for layout='faster-rcnn' "
            f"{', '.join(names)} of (N, M, 4), (N, M, classes) and (N, M, 4 * classes)"
        )
    shifts = offsets.reshape(n, m, classes, 4) / jnp.asarray(_ENLARGED)[None, None, None]
    sizes = (proposals[..., 2:] - proposals[..., :2])[:, :, None]
    centers = proposals[..., None, :2] + sizes / 2
    grown = sizes * jnp.exp(jnp.minimum(shifts[..., 2:], _MOST_GROWTH))
    boxes = _corners(jnp.concatenate([centers + shifts[..., :2] * sizes, grown], -1))
    scores = jax.nn.softmax(logits).at[..., 0].set(0)
    return Detections(boxes, scores, scores.sum(-1))


_PLAIN = ("corners", "centers", "yolov8")
_LAYOUTS: dict[str, Any] = {
    **dict.fromkeys(_PLAIN),
    "yolov5": _yolov5,
    "detr": _detr,
    "deformable-detr": _deformable_detr,
    "faster-rcnn": _faster_rcnn,
}


def _corners(boxes: jax.Array) -> jax.Array:
    """Boxes (center, center, size, size) as two opposite corners."""
    centers, sizes = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([centers - sizes / 2, centers + sizes / 2], -1)


def _has(outputs: Any, name: str) -> bool:
    return name in outputs if isinstance(outputs, Mapping) else hasattr(outputs, name)


def _parts(outputs: Any, names: tuple[str, ...], layout: str) -> tuple[jax.Array, ...]:
    """Arrays by their names; or by their order, in a tuple without names."""
    if all(_has(outputs, name) for name in names):
        is_mapping = isinstance(outputs, Mapping)
        return tuple(outputs[name] if is_mapping else getattr(outputs, name) for name in names)
    if isinstance(outputs, tuple | list) and len(outputs) == len(names) == 3:
        return tuple(outputs)
    raise ValueError(
        f"detection found outputs of {_found(outputs)}, wanted for layout={layout!r} "
        f"{', '.join(names)}"
    )


@dataclasses.dataclass(frozen=True)
class _Detection:
    reader: _Reader

    @gives(False)
    def __call__(self, box: jax.Array, outputs: Any) -> jax.Array:
        boxes, scores, _ = self.reader(outputs)
        return (_of_classes(_iou(boxes, box), scores) * scores).max(1)


@dataclasses.dataclass(frozen=True)
class _DRise:
    reader: _Reader

    @gives(False)
    def __call__(self, targets: jax.Array, wanted: jax.Array, outputs: Any) -> jax.Array:
        boxes, scores, objectness = self.reader(outputs)
        if scores.shape[-1] != wanted.shape[-1]:
            raise ValueError(
                f"the targets have scores of {wanted.shape[-1]} classes, and the outputs of "
                f"{scores.shape[-1]}"
            )
        likeness = cosines(scores, wanted)
        if objectness is not None:
            likeness = likeness * objectness[..., None]
        overlaps = jax.vmap(lambda target: _iou(boxes, target), out_axes=-1)(targets)
        if overlaps.ndim == 4:  # a box for each class
            overlaps = overlaps.max(2)
        return (overlaps * likeness).max(1)


@dataclasses.dataclass(frozen=True)
class _Prediction:
    reader: _Reader
    index: int
    of_box: bool

    @gives(False)
    def __call__(self, outputs: Any) -> jax.Array:
        boxes, scores, _ = self.reader(outputs)
        if not 0 <= self.index < scores.shape[1]:
            raise ValueError(
                f"index is {self.index}, and there are {scores.shape[1]} predictions: 0 to "
                f"{scores.shape[1] - 1}"
            )
        if not self.of_box:
            return scores[:, self.index]
        return boxes[:, self.index].reshape(len(boxes), -1)


def _iou(boxes: Float[Array, "*n 4"], box: Float[Array, "4"]) -> Float[Array, "*n"]:
    """The intersection of each box with one, over their union; 0 for boxes without area."""
    box = jnp.expand_dims(box, tuple(range(boxes.ndim - 1)))
    low = jnp.maximum(boxes[..., :2], box[..., :2])
    high = jnp.minimum(boxes[..., 2:], box[..., 2:])
    overlap = jnp.maximum(high - low, 0).prod(-1)
    areas = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(-1)
    union = areas + (box[..., 2:] - box[..., :2]).prod(-1) - overlap
    return overlap / jnp.where(union > 0, union, 1)


def _of_classes(overlaps: jax.Array, scores: jax.Array) -> jax.Array:
    """Overlaps with a class axis, also of boxes that classes share."""
    return overlaps if overlaps.ndim == scores.ndim else overlaps[..., None]


def _found(outputs: Any) -> str:
    shapes = jax.tree.map(lambda leaf: getattr(leaf, "shape", type(leaf).__name__), outputs)
    return f"shape {shapes}" if hasattr(outputs, "shape") else f"shapes {shapes}"
