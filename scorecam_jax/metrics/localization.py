"""Localization: whether the heatmap lies on the object.

Boxes have COCO's form: (x, y, width, height) in pixels. x runs to the right and y down from the
corner of the first pixel, so the centre of the first pixel is (0.5, 0.5). Heatmaps are
(B, *spatial), for images (B, rows, columns). In n dimensions a box is its corner, then its size,
the last spatial axis first. Boxes without area are ignored: if images have different numbers of
boxes, pad with zeros.

Functions of boxes also accept segmentation masks: boolean arrays of the heatmaps' shape,
(B, *spatial), True where an object is. Metrics that compare boxes with boxes use the box around
each mask.

All functions can be jitted. Compare each value with those of the uniform map and of a map that
always points at the centre. If objects are large and central, as in most photographs, any method
looks good.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Real

from scorecam_jax.metrics.sanity import mean_ranks
from scorecam_jax.steps.masks import divide

Heatmaps = Float[Array, "batch *spatial"]
Boxes = Real[Array, "batch boxes sides"]
Masks = Bool[Array, "batch *spatial"]
Regions = Boxes | Bool[Array, "batch ..."]

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""The thresholds that `box_ious` tries, as shares of a heatmap's maximum: .05, .10, ... .95."""


@jax.jit
def energy_pointing_game(heatmaps: Heatmaps, boxes: Regions) -> Float[Array, " batch"]:
    """The share of the heatmap's sum that lies inside the boxes, in [0, 1]; higher is better.

    Σ_inside / Σ, and 0 for a map that is zero everywhere. A pixel cut by a box's edge counts by its
    covered share, so that the uniform map gets exactly the boxes' share of the area.

    This metric favours small maps and does not reward covering the whole object. It also depends on
    how a method scales its map: small values outside the boxes add up.

    Source: Score-CAM (arXiv 1910.01279), section 4.3. With masks it is the relevance mass accuracy
    of Arras et al. 2022 (arXiv 2003.07258) and, for maps without negative values, Quantus's
    attribution localisation.

    >>> heatmap = jnp.array([[[0.0, 3.0], [0.0, 1.0]]])
    >>> energy_pointing_game(heatmap, jnp.array([[[1.0, 0.0, 1.0, 1.0]]]))
    Array([0.75], dtype=float32)
    """
    inside = cover(boxes, heatmaps.shape[1:])
    return divide((heatmaps * inside).sum(_space(heatmaps)), heatmaps.sum(_space(heatmaps)))


@jax.jit
def pointing_game(
    heatmaps: Heatmaps, boxes: Regions, tolerance: ArrayLike = 0.0
) -> Float[Array, " batch"]:
    """Whether the maximum lies inside a box or within `tolerance` pixels of one: 1 or 0.

    If several pixels share the maximum, the result is the share of them that lie there: the
    expected value if one of them is drawn. (TorchRay uses the first: in a constant map, the top
    left pixel.)

    This metric depends on a single pixel of the heatmap. TorchRay allows 15 pixels on images
    resized to 224, and averages over the images of each class first. `tolerance_of` scales
    TorchRay's tolerance to heatmaps of another size.

    Source: Zhang et al. 2016 (arXiv 1608.00507), section 4.

    >>> heatmap = jnp.array([[[0.0, 3.0], [0.0, 1.0]]])
    >>> lower_row = jnp.array([[[0.0, 1.0, 2.0, 1.0]]])
    >>> pointing_game(heatmap, lower_row), pointing_game(heatmap, lower_row, tolerance=0.5)
    (Array([0.], dtype=float32), Array([1.], dtype=float32))
    """
    near = _distances(boxes, heatmaps.shape[1:]) <= tolerance**2
    highest = heatmaps == heatmaps.max(_space(heatmaps), keepdims=True)
    return (highest & near).sum(_space(heatmaps)) / highest.sum(_space(heatmaps))


def tolerance_of(shape: Sequence[int]) -> float:
    """TorchRay's tolerance, 15 pixels of 224, for heatmaps of a shape: 15 · min(shape) / 224.

    >>> tolerance_of((224, 300)), tolerance_of((48, 48))
    (15.0, 3.2142857142857144)
    """
    return 15 * min(shape) / 224


@jax.jit
def scaled_pointing_game(heatmaps: Heatmaps, boxes: Regions) -> Float[Array, " batch"]:
    """The `pointing_game` with the tolerance of `tolerance_of` for the heatmaps' size."""
    return pointing_game(heatmaps, boxes, tolerance_of(heatmaps.shape[1:]))


@jax.jit
def relevance_rank_accuracy(heatmaps: Heatmaps, boxes: Regions) -> Float[Array, " batch"]:
    """The share of the n highest pixels on the object, which has n pixels; higher is better.

    From 0 to 1. A pixel belongs to the object if at least half of it is covered. Among pixels of
    equal value the expected share counts, so that the uniform map gets the object's share of the
    area. 0 where there is no object.

    Only the order of the pixels counts: scaling a map does not change the value.

    Source: Arras et al. 2022 (arXiv 2003.07258). Quantus takes pixels of equal value in the order
    in which they are stored.

    >>> heatmap = jnp.array([[[0.5, 3.0], [2.0, 1.0]]])
    >>> relevance_rank_accuracy(heatmap, jnp.array([[[True, True], [False, False]]])).tolist()
    [0.5]
    """
    inside = _on_object(boxes, heatmaps.shape[1:])
    return _share_of_highest(heatmaps, inside, inside.sum(_space(heatmaps)))


@functools.partial(jax.jit, static_argnames=("k",))
def top_k_intersection(
    heatmaps: Heatmaps, boxes: Regions, k: int | float = 0.02
) -> Float[Array, " batch"]:
    """The share of the k highest pixels that lie on the object, from 0 to 1; higher is better.

    As `relevance_rank_accuracy`, where k is the object's number of pixels.

    Args:
        heatmaps: (B, *spatial).
        boxes: boxes or masks.
        k: the number of pixels, as a share (a float below 1) or as a number (an int; 1000 in
            Quantus, which is the default's share of 224 x 224).

    Raises:
        ValueError: k is none of these.

    Source: Theiner et al. 2022 (arXiv 2104.14995); Quantus's `TopKIntersection`.

    >>> heatmap = jnp.array([[[0.5, 3.0], [2.0, 1.0]]])
    >>> top_k_intersection(heatmap, jnp.array([[[True, True], [False, False]]]), k=1).tolist()
    [1.0]
    """
    pixels = math.prod(heatmaps.shape[1:])
    if not (0 < k < 1 if isinstance(k, float) else 1 <= k <= pixels):
        raise ValueError(
            f"k is {k!r}, wanted a share of the pixels (a float between 0 and 1) or a number of "
            f"pixels (an int from 1 to {pixels})"
        )
    count = max(1, round(k * pixels)) if isinstance(k, float) else k
    inside = _on_object(boxes, heatmaps.shape[1:])
    return _share_of_highest(heatmaps, inside, jnp.full(len(heatmaps), count))


@jax.jit
def roc_auc(heatmaps: Heatmaps, boxes: Regions) -> Float[Array, " batch"]:
    """The probability that a pixel on the object is higher than one off it; higher is better.

    From 0 to 1: the area under the receiver operating characteristic of the heatmap as a classifier
    of pixels. Equal values count half, so that the uniform map gets 1/2. So does any map if there
    is no object, or nothing else. A pixel belongs to the object if at least half of it is covered.

    Only the order of the pixels counts. A large background makes high values easy to reach, because
    half of it is easily ranked below everything else.

    Source: scikit-learn's `roc_auc_score`; Quantus's `AUC`.

    >>> heatmap = jnp.array([[[0.5, 3.0], [2.0, 1.0]]])
    >>> roc_auc(heatmap, jnp.array([[[True, True], [False, False]]]))
    Array([0.5], dtype=float32)
    """
    inside = _on_object(boxes, heatmaps.shape[1:])
    count = inside.sum(_space(heatmaps)) * 1.0
    others = math.prod(heatmaps.shape[1:]) - count
    ranks = jax.vmap(mean_ranks)(heatmaps)
    # The mean of the object's ranks, minus its value if all other pixels were higher.
    above = divide(jnp.where(inside, ranks, 0).sum(_space(heatmaps)), count) - count / 2
    return jnp.where((count > 0) & (others > 0), jnp.clip(divide(above, others), 0, 1), 0.5)


@jax.jit
def region_iou(
    heatmaps: Heatmaps, boxes: Regions, threshold: ArrayLike = 0.5
) -> Float[Array, " batch"]:
    """The intersection of high pixels and object over their union, from 0 to 1; higher is better.

    A pixel is high if it is above 0 and at least `threshold` times the maximum. Pixels cut by a
    box's edge count by their covered share. 0 where nothing is high and there is no object.

    A threshold that suits one method may not suit another that spreads its maps, so compare methods
    at several thresholds, or by `roc_auc`.

    Source: as in Saliency-Bench, Zhang et al. 2023 (arXiv 2310.08537), which measures IoU,
    precision and recall at different thresholds.

    >>> heatmap = jnp.array([[[0.5, 3.0], [2.0, 1.0]]])
    >>> region_iou(heatmap, jnp.array([[[True, True], [False, False]]]))
    Array([0.33333334], dtype=float32)
    """
    high = _high(heatmaps, threshold)
    inside = cover(boxes, heatmaps.shape[1:])
    common = jnp.where(high, inside, 0).sum(_space(heatmaps))
    return divide(common, high.sum(_space(heatmaps)) + inside.sum(_space(heatmaps)) - common)


@jax.jit
def focus(heatmaps: Heatmaps, tiles: Bool[Array, "batch *tiling"]) -> Float[Array, " batch"]:
    """The share of a mosaic's positive values in the tiles that show the class, from 0 to 1.

    Higher is better. The uniform map gets the share of those tiles, 1/2 for `mosaics`. Unlike
    metrics on single photographs, this measures whether the map distinguishes the class from
    equally salient objects. The joints of a mosaic are edges that photographs do not have.

    Args:
        heatmaps: (B, *spatial) of the mosaics, such as (B, 448, 448).
        tiles: (B, *tiling), such as (B, 2, 2): True for the tiles that show the class explained.

    Source: Arias-Duart et al. 2022 (arXiv 2109.15035); Quantus's `Focus`.

    >>> heatmap = jnp.array([[[0.0, 3.0], [0.0, 1.0]]])
    >>> focus(heatmap, jnp.array([[[False, True], [True, False]]]))
    Array([0.75], dtype=float32)
    """
    regions = tiles
    for axis, size in enumerate(heatmaps.shape[1:], 1):
        regions = regions.take(np.arange(size) * tiles.shape[axis] // size, axis)
    return energy_pointing_game(jax.nn.relu(heatmaps), regions)


class Mosaics(NamedTuple):
    """Mosaics of 2 x 2 images, two of which show the class to explain.

    Attributes:
        inputs: (N, 2 rows, 2 columns, C), channels last.
        targets: (N,), the class to explain.
        tiles: (N, 2, 2), True where the tile shows the class.
        images: (N, 2, 2), the index of each tile's image.
    """

    inputs: Float[Array, "count rows columns channels"]
    targets: Int[Array, " count"]
    tiles: Bool[Array, "count 2 2"]
    images: Int[Array, "count 2 2"]


def mosaics(
    images: Float[Array | np.ndarray, "images rows columns channels"],
    labels: Any,
    *,
    key: PRNGKeyArray,
    count: int,
) -> Mosaics:
    """Draw mosaics for `focus`: two images of a class and two of other classes, in random order.

    The mosaics have twice the images' sides. For a network of a fixed size, pass images with half
    its sides.

    Args:
        images: (M, rows, columns, C), preprocessed.
        labels: (M,), the class that each image shows. An image should show only one of them.
        key: the key of images and places.
        count: the number of mosaics.

    Raises:
        ValueError: the labels do not fit, `count` is not positive, or no class has two images while
            other classes have two.

    Source: Arias-Duart et al. 2022 (arXiv 2109.15035).
    """
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels are {labels.dtype} of shape {labels.shape}, wanted the index of a class for "
            f"each of the {len(images)} images"
        )
    classes, sizes = np.unique(labels, return_counts=True)
    classes = classes[(sizes >= 2) & (len(labels) - sizes >= 2)]
    if not len(classes) or count < 1:
        raise ValueError(
            f"wanted {count} mosaics of two images of a class and two of others, but no class has "
            f"them: the classes have {sizes.tolist()} images"
        )
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    targets = random.choice(classes, count)
    drawn = []
    for target in targets:
        alike, others = np.flatnonzero(labels == target), np.flatnonzero(labels != target)
        four = [*random.choice(alike, 2, replace=False), *random.choice(others, 2, replace=False)]
        drawn.append(random.permutation(four).reshape(2, 2))
    chosen = np.stack(drawn)
    tiles = labels[chosen] == targets[:, None, None]
    rows, columns, channels = images.shape[1:]
    apart = jnp.asarray(images)[chosen]  # (N, 2, 2, rows, columns, C)
    inputs = jnp.moveaxis(apart, 2, 3).reshape(count, 2 * rows, 2 * columns, channels)
    return Mosaics(inputs, *map(jnp.asarray, (targets, tiles, chosen)))


@functools.partial(jax.jit, static_argnames=("shape",))
def cover(boxes: Regions, shape: Sequence[int]) -> Float[Array, "batch *spatial"]:
    """The share of each pixel that is covered by the box which covers most of the pixel.

    >>> cover(jnp.array([[[0.0, 0.0, 1.5, 1.0]]]), (2, 2))
    Array([[[1. , 0.5],
            [0. , 0. ]]], dtype=float32)
    """
    if _are_masks(boxes, shape):
        return boxes * 1.0
    start, stop = _edges(boxes)
    covered = jnp.ones(boxes.shape[:2], start.dtype)
    for axis, size in enumerate(shape):
        pixel = jnp.arange(size)[None, None]
        last = jnp.minimum(stop[..., axis, None], pixel + 1)
        first = jnp.maximum(start[..., axis, None], pixel)
        covered = covered[..., None] * _along(axis, jnp.clip(last - first, 0, 1))
    return covered.max(1)


@jax.jit
def boxes_from_masks(masks: Masks) -> Float[Array, "batch sides"]:
    """The box around the pixels of each mask; (0, ..., 0) for an empty mask.

    >>> boxes_from_masks(jnp.array([[[False, True, True], [False, True, False]]])).tolist()
    [[1.0, 0.0, 2.0, 2.0]]
    """
    start, stop = [], []
    for axis in _space(masks):
        seen = masks.any([other for other in _space(masks) if other != axis])
        start.append(seen.argmax(1))
        stop.append(jnp.where(seen.any(1), seen.shape[1] - seen[:, ::-1].argmax(1), 0))
    corners = jnp.stack(start[::-1], 1), jnp.stack(stop[::-1], 1)
    return jnp.concatenate([corners[0], corners[1] - corners[0]], 1) * 1.0


@jax.jit
def boxes_from_heatmap(
    heatmaps: Heatmaps, threshold: ArrayLike = 0.2
) -> Float[Array, "batch sides"]:
    """The box around the largest connected part of the heatmap's high pixels.

    A pixel is high if it is above 0 and at least `threshold` times the maximum. Pixels that touch
    at a corner are connected. Of equally large parts, the first counts. The box of a map of zeros
    is (0, ..., 0).

    Source: CAM, Zhou et al. 2016 (arXiv 1512.04150), section 3.2, with threshold 0.2.

    >>> heatmap = jnp.array([[[0.0, 0.0, 0.9, 1.0], [0.5, 0.0, 0.7, 0.0]]])
    >>> boxes_from_heatmap(heatmap, 0.4)
    Array([[2., 0., 2., 2.]], dtype=float32)
    """
    part = jax.vmap(_largest_part)(_high(heatmaps, threshold))
    return boxes_from_masks(part).astype(heatmaps.dtype)


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
    heatmaps: Heatmaps, boxes: Regions, threshold: ArrayLike = 0.2
) -> Float[Array, " batch"]:
    """The best `box_iou` of `boxes_from_heatmap` with any of the boxes, in [0, 1].

    A threshold that suits one method may not suit another that spreads its maps. `max_box_acc`
    chooses the threshold for each method.

    >>> heatmap = jnp.array([[[0.0, 0.0, 0.9, 1.0], [0.5, 0.0, 0.7, 0.0]]])
    >>> implied_box_iou(heatmap, jnp.array([[[2.0, 0.0, 2.0, 1.0], [0.0, 1.0, 1.0, 1.0]]]))
    Array([0.5], dtype=float32)
    """
    if _are_masks(boxes, heatmaps.shape[1:]):
        boxes = boxes_from_masks(boxes)[:, None]
    return box_iou(boxes_from_heatmap(heatmaps, threshold)[:, None], boxes).max(1)


@functools.partial(jax.jit, static_argnames=("thresholds",))
def box_ious(
    heatmaps: Heatmaps, boxes: Regions, thresholds: Sequence[float] = THRESHOLDS
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
    them with a right box on this image.

    The published metric chooses the threshold on the same images that it measures:
    `(ious >= iou).mean(0).max()`. This value is higher, especially with few images.

    Source: Choe et al. 2020 (arXiv 2001.07437), whose second version averages over `iou` of 0.3,
    0.5 and 0.7.

    >>> max_box_acc(jnp.array([[0.6, 0.1], [0.7, 0.2], [0.1, 0.8]]))
    Array([0.5, 0.5, 0. ], dtype=float32)
    """
    right = (ious >= iou).astype(ious.dtype)
    others = right.sum(0, keepdims=True) - right
    best = others == others.max(1, keepdims=True)
    return (right * best).sum(1) / best.sum(1)


def _are_masks(regions: Regions, shape: Sequence[int]) -> bool:
    """Whether regions are masks instead of boxes.

    Raises:
        ValueError: they are masks of another shape, or boxes of another rank.
    """
    if regions.dtype == bool:
        if regions.shape[1:] != tuple(shape):
            raise ValueError(
                f"masks have shape {regions.shape}, wanted {('batch', *shape)}: the heatmaps' shape"
            )
        return True
    if regions.ndim != 3 or regions.shape[2] != 2 * len(shape):
        raise ValueError(
            f"boxes have shape {regions.shape}, wanted (batch, boxes, {2 * len(shape)}) for "
            f"heatmaps of shape {tuple(shape)}. If they are segmentation masks, make them boolean: "
            "masks > 0"
        )
    return False


def _distances(regions: Regions, shape: Sequence[int]) -> Float[Array, "batch *spatial"]:
    """The squared distance of each pixel's centre from the nearest region."""
    if _are_masks(regions, shape):
        distance = jnp.where(regions, 0.0, jnp.inf)
        for axis, size in enumerate(shape, 1):
            place = jnp.arange(size)
            # A centre is half a pixel closer to another pixel's near edge than to its centre.
            gaps = jnp.maximum(jnp.abs(place[:, None] - place[None]) - 0.5, 0) ** 2
            along = jnp.moveaxis(distance, axis, -1)
            wide = (1,) * (along.ndim - 1)
            nearest = jax.lax.map(
                lambda gap, along=along, wide=wide: (along + gap.reshape(*wide, -1)).min(-1), gaps
            )
            distance = jnp.moveaxis(nearest, 0, axis)
        return distance
    start, stop = _edges(regions)
    distance = jnp.zeros(regions.shape[:2], start.dtype)
    for axis, size in enumerate(shape):
        centre = jnp.arange(size)[None, None] + 0.5
        outside = jnp.maximum(start[..., axis, None] - centre, centre - stop[..., axis, None])
        distance = distance[..., None] + _along(axis, jnp.maximum(outside, 0) ** 2)
    empty = jnp.expand_dims((stop <= start).any(-1), range(2, 2 + len(shape)))
    return jnp.where(empty, jnp.inf, distance).min(1, initial=jnp.inf)


def _on_object(regions: Regions, shape: Sequence[int]) -> Masks:
    """The pixels of which at least half is covered."""
    return cover(regions, tuple(shape)) >= 0.5


def _high(heatmaps: Heatmaps, threshold: ArrayLike) -> Masks:
    """The pixels above 0 that are at least `threshold` times the maximum."""
    highest = heatmaps.max(_space(heatmaps), keepdims=True)
    return (heatmaps >= threshold * highest) & (heatmaps > 0)


def _share_of_highest(
    heatmaps: Heatmaps, inside: Masks, count: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    """The share of the `count` highest pixels inside, expected over ties."""
    flat, inside = jax.lax.collapse(heatmaps, 1), jax.lax.collapse(inside, 1)
    last = jnp.take_along_axis(jnp.sort(flat, 1, descending=True), (count - 1)[:, None], 1)
    above, equal = flat > last, flat == last
    drawn = divide((equal & inside).sum(1) * 1.0, equal.sum(1) * 1.0) * (count - above.sum(1))
    return divide((above & inside).sum(1) + drawn, count * 1.0)


def _edges(
    boxes: Real[Array, "*batch sides"],
) -> tuple[Float[Array, "*batch rank"], Float[Array, "*batch rank"]]:
    """The first and last edges of boxes along each spatial axis, in the heatmap's order."""
    boxes = jnp.asarray(boxes) * 1.0
    rank = boxes.shape[-1] // 2
    start, size = boxes[..., :rank], boxes[..., rank:]
    return start[..., ::-1], (start + size)[..., ::-1]


def _space(heatmaps: Heatmaps | Masks) -> tuple[int, ...]:
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
