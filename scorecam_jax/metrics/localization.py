"""Localization: whether the heatmap lies on the object.

Boxes are COCO's: (x, y, width, height) in pixels. x runs to the right and y down from the corner of
the first pixel, so the centre of the first pixel is (0.5, 0.5). Heatmaps are (B, *spatial), for
images (B, rows, columns). In n dimensions a box is its corner, then its size, the last spatial axis
first. Boxes without area are ignored: pad with zeros where images have different numbers of boxes.

All functions can be jitted and return one value per heatmap. Compare each figure with that of the
uniform map and that of a map that always points at the centre. If objects are large and central,
as photographers like them, any method looks good.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Real

from scorecam_jax.steps.masks import divide

Heatmaps = Float[Array, "batch *spatial"]
Boxes = Real[Array, "batch boxes sides"]

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""The thresholds that `box_ious` tries, as shares of a heatmap's maximum: .05, .10, ... .95."""


@jax.jit
def energy_pointing_game(heatmaps: Heatmaps, boxes: Boxes) -> Float[Array, " batch"]:
    """The share of the heatmap's sum that lies inside the boxes, in [0, 1]; higher is better.

    Σ_inside / Σ, and 0 for a map that is zero everywhere. A pixel cut by a box's edge counts by its
    covered share, so that the uniform map gets exactly the boxes' share of the area.

    This metric favours small maps and does not reward covering the whole object. It also depends on
    how a method scales its map: small values outside the boxes add up.

    Source: Score-CAM (arXiv 1910.01279), section 4.3.

    >>> heatmap = jnp.array([[[0.0, 3.0], [0.0, 1.0]]])
    >>> energy_pointing_game(heatmap, jnp.array([[[1.0, 0.0, 1.0, 1.0]]]))
    Array([0.75], dtype=float32)
    """
    inside = cover(boxes, heatmaps.shape[1:])
    return divide((heatmaps * inside).sum(_space(heatmaps)), heatmaps.sum(_space(heatmaps)))


@jax.jit
def pointing_game(
    heatmaps: Heatmaps, boxes: Boxes, tolerance: ArrayLike = 0.0
) -> Float[Array, " batch"]:
    """Whether the maximum lies inside a box or within `tolerance` pixels of one: 1 or 0.

    If several pixels share the maximum, the result is the share of them that does, which is the
    expected value if one of them is drawn. (TorchRay takes the first: in a constant map, the top
    left pixel.)

    This metric looks at a single pixel of the heatmap. TorchRay allows 15 pixels on images resized
    to 224, and averages over the images of each class first.

    Source: Zhang et al. 2016 (arXiv 1608.00507), section 4.

    `tolerance_of` gives TorchRay's tolerance for heatmaps of another size.

    >>> heatmap = jnp.array([[[0.0, 3.0], [0.0, 1.0]]])
    >>> lower_row = jnp.array([[[0.0, 1.0, 2.0, 1.0]]])
    >>> pointing_game(heatmap, lower_row), pointing_game(heatmap, lower_row, tolerance=0.5)
    (Array([0.], dtype=float32), Array([1.], dtype=float32))
    """
    start, stop = _edges(boxes)
    distance = jnp.zeros(boxes.shape[:2], heatmaps.dtype)
    for axis, size in enumerate(heatmaps.shape[1:]):
        centre = jnp.arange(size)[None, None] + 0.5
        outside = jnp.maximum(start[..., axis, None] - centre, centre - stop[..., axis, None])
        distance = distance[..., None] + _along(axis, jnp.maximum(outside, 0) ** 2)
    empty = jnp.expand_dims((stop <= start).any(-1), [axis + 1 for axis in _space(heatmaps)])
    near = ((distance <= tolerance**2) & ~empty).any(1)
    highest = heatmaps == heatmaps.max(_space(heatmaps), keepdims=True)
    return (highest & near).sum(_space(heatmaps)) / highest.sum(_space(heatmaps))


def tolerance_of(shape: Sequence[int]) -> float:
    """TorchRay's tolerance, 15 pixels of 224, on heatmaps of this shape: 15 · min(shape) / 224.

    >>> tolerance_of((224, 300)), tolerance_of((48, 48))
    (15.0, 3.2142857142857144)
    """
    return 15 * min(shape) / 224


@jax.jit
def scaled_pointing_game(heatmaps: Heatmaps, boxes: Boxes) -> Float[Array, " batch"]:
    """The `pointing_game` with the tolerance that `tolerance_of` gives for the heatmaps' size."""
    return pointing_game(heatmaps, boxes, tolerance_of(heatmaps.shape[1:]))


@functools.partial(jax.jit, static_argnames=("shape",))
def cover(boxes: Boxes, shape: Sequence[int]) -> Float[Array, "batch *spatial"]:
    """The share of each pixel that is covered, by the box that covers most of the pixel.

    >>> cover(jnp.array([[[0.0, 0.0, 1.5, 1.0]]]), (2, 2))
    Array([[[1. , 0.5],
            [0. , 0. ]]], dtype=float32)
    """
    start, stop = _edges(boxes)
    covered = jnp.ones(boxes.shape[:2], start.dtype)
    for axis, size in enumerate(shape):
        pixel = jnp.arange(size)[None, None]
        last = jnp.minimum(stop[..., axis, None], pixel + 1)
        first = jnp.maximum(start[..., axis, None], pixel)
        covered = covered[..., None] * _along(axis, jnp.clip(last - first, 0, 1))
    return covered.max(1)


@jax.jit
def boxes_from_heatmap(
    heatmaps: Heatmaps, threshold: ArrayLike = 0.2
) -> Float[Array, "batch sides"]:
    """The box around the largest connected part of the heatmap's high pixels.

    A pixel is high if it is above 0 and at least `threshold` times the maximum. Pixels that touch
    at a corner are connected. The first of equally large parts counts. The box of a map of zeros is
    (0, ..., 0).

    Source: CAM, Zhou et al. 2016 (arXiv 1512.04150), section 3.2, with threshold 0.2.

    >>> heatmap = jnp.array([[[0.0, 0.0, 0.9, 1.0], [0.5, 0.0, 0.7, 0.0]]])
    >>> boxes_from_heatmap(heatmap, 0.4)
    Array([[2., 0., 2., 2.]], dtype=float32)
    """
    high = (heatmaps >= threshold * heatmaps.max(_space(heatmaps), keepdims=True)) & (heatmaps > 0)
    part = jax.vmap(_largest_part)(high)
    start, stop = [], []
    for axis in _space(heatmaps):
        seen = part.any([other for other in _space(heatmaps) if other != axis])
        start.append(seen.argmax(1))
        stop.append(jnp.where(seen.any(1), seen.shape[1] - seen[:, ::-1].argmax(1), 0))
    corners = jnp.stack(start[::-1], 1), jnp.stack(stop[::-1], 1)
    return jnp.concatenate([corners[0], corners[1] - corners[0]], 1).astype(heatmaps.dtype)


@jax.jit
def box_iou(
    a: Real[Array, "*#batch sides"], b: Real[Array, "*#batch sides"]
) -> Float[Array, "*batch"]:
    """The intersection of two boxes over their union, in [0, 1]; 0 if neither has an area.

    >>> box_iou(jnp.array([0, 0, 2, 2]), jnp.array([1, 0, 2, 2]))
    Array(0.33333334, dtype=float32)
    """
    (start_a, stop_a), (start_b, stop_b) = _edges(a), _edges(b)
    overlap = jnp.minimum(stop_a, stop_b) - jnp.maximum(start_a, start_b)
    common = jnp.maximum(overlap, 0).prod(-1)
    areas = [jnp.maximum(stop - start, 0).prod(-1) for start, stop in (_edges(a), _edges(b))]
    return divide(common, areas[0] + areas[1] - common)


@jax.jit
def implied_box_iou(
    heatmaps: Heatmaps, boxes: Boxes, threshold: ArrayLike = 0.2
) -> Float[Array, " batch"]:
    """The best `box_iou` of `boxes_from_heatmap` with any of the boxes, in [0, 1].

    One threshold suits a method that spreads its map and another does not. `max_box_acc` chooses
    the threshold for each method.

    >>> heatmap = jnp.array([[[0.0, 0.0, 0.9, 1.0], [0.5, 0.0, 0.7, 0.0]]])
    >>> implied_box_iou(heatmap, jnp.array([[[2.0, 0.0, 2.0, 1.0], [0.0, 1.0, 1.0, 1.0]]]))
    Array([0.5], dtype=float32)
    """
    return box_iou(boxes_from_heatmap(heatmaps, threshold)[:, None], boxes).max(1)


@functools.partial(jax.jit, static_argnames=("thresholds",))
def box_ious(
    heatmaps: Heatmaps, boxes: Boxes, thresholds: Sequence[float] = THRESHOLDS
) -> Float[Array, "batch thresholds"]:
    """The best `box_iou` of `boxes_from_heatmap` with any of the boxes, at each threshold."""

    def fit(threshold: Array) -> Array:
        return implied_box_iou(heatmaps, boxes, threshold)

    return jax.lax.map(fit, jnp.array(thresholds, heatmaps.dtype)).T


@jax.jit
def max_box_acc(
    ious: Float[Array, "images thresholds"], iou: ArrayLike = 0.5
) -> Float[Array, " images"]:
    """Whether each image's box is right at the threshold that is best on the other images.

    A box is right if its IoU is at least `iou`. `ious` are the `box_ious` of all images of one
    method. If several thresholds are equally good on the other images, the result is the share of
    them whose box is right on this image.

    The published metric chooses the threshold on the same images that it measures:
    `(ious >= iou).mean(0).max()`. That figure is higher, and the fewer images, the higher it is.

    Source: Choe et al. 2020 (arXiv 2001.07437), whose second version averages over `iou` of 0.3,
    0.5 and 0.7.

    >>> max_box_acc(jnp.array([[0.6, 0.1], [0.7, 0.2], [0.1, 0.8]]))
    Array([0.5, 0.5, 0. ], dtype=float32)
    """
    right = (ious >= iou).astype(ious.dtype)
    others = right.sum(0, keepdims=True) - right
    best = others == others.max(1, keepdims=True)
    return (right * best).sum(1) / best.sum(1)


def _edges(
    boxes: Real[Array, "*batch sides"],
) -> tuple[Float[Array, "*batch rank"], Float[Array, "*batch rank"]]:
    """The first and last edges of boxes along each spatial axis, in the heatmap's order."""
    boxes = jnp.asarray(boxes) * 1.0
    rank = boxes.shape[-1] // 2
    start, size = boxes[..., :rank], boxes[..., rank:]
    return start[..., ::-1], (start + size)[..., ::-1]


def _space(heatmaps: Heatmaps) -> tuple[int, ...]:
    return tuple(range(1, heatmaps.ndim))


def _along(axis: int, values: Float[Array, "batch boxes size"]) -> Array:
    return values.reshape(*values.shape[:2], *(1,) * axis, values.shape[2])


def _largest_part(high: Bool[Array, "*spatial"]) -> Bool[Array, "*spatial"]:
    """The largest connected part of the high pixels."""
    size = high.size
    background = -1

    def spread(state: tuple[Array, Array]) -> tuple[Array, Array]:
        labels, _ = state
        wider = labels
        for axis in range(high.ndim):
            pads = [(1, 1) if axis == padded else (0, 0) for padded in range(high.ndim)]
            padded = jnp.pad(wider, pads, constant_values=background)
            for start in (0, 2):
                shifted = jax.lax.slice_in_dim(padded, start, start + high.shape[axis], axis=axis)
                wider = jnp.maximum(wider, shifted)
        wider = jnp.where(high, wider, background)
        # A label is the index of a pixel of the same part, so that pixel's label is valid here too.
        # Following labels this way takes about log2(extent of a part) rounds.
        wider = jnp.where(high, wider.reshape(-1)[wider], background)
        return wider, (wider != labels).any()

    labels = jnp.where(high, jnp.arange(size).reshape(high.shape), background)
    labels, _ = jax.lax.while_loop(lambda state: state[1], spread, (labels, jnp.array(True)))
    sizes = jnp.zeros(size, int).at[labels].add(high.astype(int))
    return high & (labels == sizes.argmax())
