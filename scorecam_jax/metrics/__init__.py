"""Metrics of heatmaps: faithfulness, localization, sanity checks, robustness and complexity.

A metric returns one value per input, (B,), to average and bootstrap over images.
`scorecam_jax.study` does this for several methods at once. `ENTRIES` lists the metrics of `study`
and the command line. A metric is imported when it is first used.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from scorecam_jax.metrics.complexity import entropy as entropy
    from scorecam_jax.metrics.complexity import gini as gini
    from scorecam_jax.metrics.complexity import histogram_entropy as histogram_entropy
    from scorecam_jax.metrics.faithfulness import adcc as adcc
    from scorecam_jax.metrics.faithfulness import arcc as arcc
    from scorecam_jax.metrics.faithfulness import average_drop as average_drop
    from scorecam_jax.metrics.faithfulness import average_gain as average_gain
    from scorecam_jax.metrics.faithfulness import average_increase as average_increase
    from scorecam_jax.metrics.faithfulness import deletion as deletion
    from scorecam_jax.metrics.faithfulness import deletion_curve as deletion_curve
    from scorecam_jax.metrics.faithfulness import insertion as insertion
    from scorecam_jax.metrics.faithfulness import insertion_curve as insertion_curve
    from scorecam_jax.metrics.faithfulness import road as road
    from scorecam_jax.metrics.imputation import impute as impute
    from scorecam_jax.metrics.localization import box_iou as box_iou
    from scorecam_jax.metrics.localization import box_ious as box_ious
    from scorecam_jax.metrics.localization import boxes_from_heatmap as boxes_from_heatmap
    from scorecam_jax.metrics.localization import boxes_from_masks as boxes_from_masks
    from scorecam_jax.metrics.localization import energy_pointing_game as energy_pointing_game
    from scorecam_jax.metrics.localization import focus as focus
    from scorecam_jax.metrics.localization import implied_box_iou as implied_box_iou
    from scorecam_jax.metrics.localization import max_box_acc as max_box_acc
    from scorecam_jax.metrics.localization import mosaics as mosaics
    from scorecam_jax.metrics.localization import pointing_game as pointing_game
    from scorecam_jax.metrics.localization import region_iou as region_iou
    from scorecam_jax.metrics.localization import relevance_rank_accuracy as relevance_rank_accuracy
    from scorecam_jax.metrics.localization import roc_auc as roc_auc
    from scorecam_jax.metrics.localization import scaled_pointing_game as scaled_pointing_game
    from scorecam_jax.metrics.localization import tolerance_of as tolerance_of
    from scorecam_jax.metrics.localization import top_k_intersection as top_k_intersection
    from scorecam_jax.metrics.robustness import average_sensitivity as average_sensitivity
    from scorecam_jax.metrics.robustness import max_sensitivity as max_sensitivity
    from scorecam_jax.metrics.sanity import efficient_randomization as efficient_randomization
    from scorecam_jax.metrics.sanity import parameter_randomization as parameter_randomization
    from scorecam_jax.metrics.sanity import random_logit as random_logit
    from scorecam_jax.metrics.sanity import spearman as spearman
    from scorecam_jax.metrics.sanity import ssim as ssim
    from scorecam_jax.metrics.subsets import faithfulness_correlation as faithfulness_correlation
    from scorecam_jax.metrics.subsets import infidelity as infidelity
    from scorecam_jax.metrics.subsets import sensitivity_n as sensitivity_n
    from scorecam_jax.steps.filters import blur as blur

_MEMBERS = {
    "scorecam_jax.steps.filters": ("blur",),
    "complexity": ("entropy", "gini", "histogram_entropy"),
    "faithfulness": (
        "adcc", "arcc", "average_drop", "average_gain", "average_increase", "deletion",
        "deletion_curve", "insertion", "insertion_curve", "road",
    ),
    "imputation": ("impute",),
    "localization": (
        "box_iou", "box_ious", "boxes_from_heatmap", "boxes_from_masks",
        "energy_pointing_game", "focus", "implied_box_iou", "max_box_acc", "mosaics",
        "pointing_game", "region_iou", "relevance_rank_accuracy", "roc_auc",
        "scaled_pointing_game", "tolerance_of", "top_k_intersection",
    ),
    "robustness": ("average_sensitivity", "max_sensitivity"),
    "sanity": (
        "efficient_randomization", "parameter_randomization", "random_logit", "spearman",
        "ssim",
    ),
    "subsets": ("faithfulness_correlation", "infidelity", "sensitivity_n"),
}  # fmt: skip
_HOMES = {name: home for home, names in _MEMBERS.items() for name in names}

__all__ = sorted(["ENTRIES", "Entry", *_HOMES])


class Entry(NamedTuple):
    """A named metric.

    Attributes:
        function: the name of its function in this package. The function is called with heatmaps and
            boxes, or with a model, inputs, heatmaps and targets, and `key` and `explain` if it
            takes them.
        better: "more", "less", or "" if neither is better.
        boxes: whether it is called with boxes.
        masks: whether it is called with segmentation masks instead of boxes where they are known.
        options: further keyword arguments.
        settle: the name of a function that converts one method's measurements into the per-image
            values to average. "" if the measurements are these values.
        digits: the number of printed digits after the point.
        default: whether it is measured if no metrics are named.
        meaning: the meaning of a value, with its unit, as a phrase.
    """

    function: str
    better: str = ""
    boxes: bool = False
    masks: bool = False
    options: Mapping[str, Any] = {}
    settle: str = ""
    digits: int = 3
    default: bool = True
    meaning: str = ""


_HALF = {"mute": 0.5}

ENTRIES = {
    "average-drop": Entry(
        "average_drop",
        "less",
        options=_HALF,
        digits=1,
        meaning="fall of the class's score, in per cent, when the input is masked by the heatmap's "
        "upper half",
    ),
    "average-increase": Entry(
        "average_increase",
        "more",
        options=_HALF,
        digits=1,
        meaning="per cent of inputs whose class's score rises when they are masked by the "
        "heatmap's upper half",
    ),
    "average-gain": Entry(
        "average_gain",
        "more",
        options=_HALF,
        digits=1,
        meaning="rise of the class's score, in per cent of its distance to 1, when the input is "
        "masked by the heatmap's upper half",
    ),
    "insertion": Entry(
        "insertion",
        "more",
        meaning="area under the class's score, 0 to 1, while pixels are added to an empty "
        "input, hottest first",
    ),
    "deletion": Entry(
        "deletion",
        "less",
        meaning="area under the class's score, 0 to 1, while pixels are removed, hottest first",
    ),
    "adcc": Entry(
        "adcc",
        "more",
        default=False,
        meaning="harmonic mean, 0 to 1, of coherency, simplicity and the kept score",
    ),
    "road": Entry(
        "road",
        "more",
        default=False,
        meaning="half the difference, -0.5 to 0.5, between the class's score without the coldest "
        "pixels and without the hottest",
    ),
    "energy": Entry(
        "energy_pointing_game",
        "more",
        boxes=True,
        masks=True,
        meaning="share of the heatmap's sum that lies in the boxes, 0 to 1",
    ),
    "pointing": Entry(
        "scaled_pointing_game",
        "more",
        boxes=True,
        masks=True,
        meaning="1 if the heatmap's maximum lies in a box or at most 15 pixels of 224 outside "
        "one, else 0",
    ),
    "box-acc": Entry(
        "box_ious",
        "more",
        boxes=True,
        settle="max_box_acc",
        meaning="share of photographs, 0 to 1, on which the box around the heatmap's largest part "
        "has an IoU of at least 0.5 with an annotated box",
    ),
    "faithfulness": Entry(
        "faithfulness_correlation",
        "more",
        options={"cells": 9},
        default=False,
        meaning="correlation, -1 to 1, of the heatmap's sum over random fifths of the input with "
        "the fall of the class's score without them",
    ),
    "infidelity": Entry(
        "infidelity",
        "less",
        digits=4,
        default=False,
        meaning="mean squared error between the heatmap's sums over random squares, in the best "
        "scale, and the falls of the class's score without them",
    ),
    "arcc": Entry(
        "arcc",
        "more",
        default=False,
        meaning="harmonic mean, 0 to 1, of coherency, simplicity and twice road",
    ),
    "max-sensitivity": Entry(
        "max_sensitivity",
        "less",
        default=False,
        meaning="largest relative change of the heatmap over 10 slightly noisy inputs",
    ),
    "random-logit": Entry(
        "random_logit",
        "less",
        options={"similarity": "spearman"},
        default=False,
        meaning="rank correlation, -1 to 1, with the heatmap of another class drawn at random",
    ),
    "gini": Entry(
        "gini",
        default=False,
        meaning="sparseness: 0 if all pixels are equal, near 1 if a single one is hot",
    ),
    "entropy": Entry(
        "entropy",
        default=False,
        digits=2,
        meaning="entropy in nats: 0 if a single pixel is hot, 10.8 if all of 224 x 224 are equal",
    ),
    "auc": Entry(
        "roc_auc",
        "more",
        boxes=True,
        masks=True,
        default=False,
        meaning="probability that a pixel on the object is hotter than one off the object",
    ),
    "relevance-rank": Entry(
        "relevance_rank_accuracy",
        "more",
        boxes=True,
        masks=True,
        default=False,
        meaning="share of the n hottest pixels that lie on the object, which has n pixels",
    ),
    "top-k": Entry(
        "top_k_intersection",
        "more",
        boxes=True,
        masks=True,
        default=False,
        meaning="share of the hottest 2 % of the pixels that lie on the object",
    ),
    "region-iou": Entry(
        "region_iou",
        "more",
        boxes=True,
        masks=True,
        default=False,
        meaning="overlap, 0 to 1, of the object with the pixels above half of the heatmap's peak",
    ),
    "box-iou": Entry(
        "implied_box_iou",
        "more",
        boxes=True,
        default=False,
        meaning="overlap, 0 to 1, of the annotated box with the box around the heatmap's largest "
        "part above a fifth of its peak",
    ),
}
"""The named metrics.

Drop, increase and gain mute the lower half of each heatmap, as in Score-CAM's paper. Insertion and
deletion change 1 % of the pixels per step, with pixels of equal value in random order. The
tolerance of pointing is 15 pixels of 224; see `tolerance_of`. box-acc is `max_box_acc` at an IoU of
0.5, and box-iou is `implied_box_iou` at a threshold of 0.2. faithfulness removes a fifth of 9 x 9
cells, and infidelity squares of a quarter of the side, 100 times each.
"""


def _module(home: str) -> str:
    return home if "." in home else f"{__name__}.{home}"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_module(_HOMES[name])), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
