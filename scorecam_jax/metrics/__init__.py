"""Is a heatmap any good? Faithfulness to the model, localization of the object, sanity checks.

A metric returns one value per input, (B,), to average and bootstrap over images.
`scorecam_jax.study` does this for several methods at once. `ENTRIES` names what it and the
command line offer. A metric is imported when it is first used.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from scorecam_jax.metrics.faithfulness import adcc as adcc
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
    from scorecam_jax.metrics.localization import energy_pointing_game as energy_pointing_game
    from scorecam_jax.metrics.localization import implied_box_iou as implied_box_iou
    from scorecam_jax.metrics.localization import max_box_acc as max_box_acc
    from scorecam_jax.metrics.localization import pointing_game as pointing_game
    from scorecam_jax.metrics.localization import scaled_pointing_game as scaled_pointing_game
    from scorecam_jax.metrics.localization import tolerance_of as tolerance_of
    from scorecam_jax.metrics.sanity import parameter_randomization as parameter_randomization
    from scorecam_jax.metrics.sanity import spearman as spearman
    from scorecam_jax.metrics.sanity import ssim as ssim
    from scorecam_jax.steps.filters import blur as blur

_MEMBERS = {
    "scorecam_jax.steps.filters": ("blur",),
    "faithfulness": (
        "adcc", "average_drop", "average_gain", "average_increase", "deletion", "deletion_curve",
        "insertion", "insertion_curve", "road",
    ),
    "imputation": ("impute",),
    "localization": (
        "box_iou", "box_ious", "boxes_from_heatmap", "energy_pointing_game", "implied_box_iou",
        "max_box_acc", "pointing_game", "scaled_pointing_game", "tolerance_of",
    ),
    "sanity": ("parameter_randomization", "spearman", "ssim"),
}  # fmt: skip
_HOMES = {name: home for home, names in _MEMBERS.items() for name in names}

__all__ = sorted(["ENTRIES", "Entry", *_HOMES])


class Entry(NamedTuple):
    """A metric with a name.

    Attributes:
        function: one of this package's, by its name. It is called with heatmaps and boxes, or with
            a model, inputs, heatmaps and targets, a `key` and `explain` if it takes them.
        better: "more", "less", or "" if neither is better.
        boxes: whether it is called with boxes.
        options: its further keywords.
        settle: a function by its name that converts one method's measurements into the per-image
            values to average. "": they are these values.
        digits: how many digits are printed after the point.
        default: whether it is measured where no metrics are named.
        meaning: what a value says, with its unit, in half a sentence.
    """

    function: str
    better: str = ""
    boxes: bool = False
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
        meaning="by how many per cent the class's score falls when the input is masked by the "
        "heatmap's upper half",
    ),
    "average-increase": Entry(
        "average_increase",
        "more",
        options=_HALF,
        digits=1,
        meaning="per cent of inputs whose class scores higher when they are masked by the "
        "heatmap's upper half",
    ),
    "average-gain": Entry(
        "average_gain",
        "more",
        options=_HALF,
        digits=1,
        meaning="how many per cent of the way to 1 the class's score rises when the input is "
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
        meaning="harmonic mean, 0 to 1, of coherency, simplicity and the score that is kept",
    ),
    "road": Entry(
        "road",
        "more",
        default=False,
        meaning="half of how much more the class's score falls without the hottest pixels "
        "than without the coldest, -0.5 to 0.5",
    ),
    "energy": Entry(
        "energy_pointing_game",
        "more",
        boxes=True,
        meaning="share of the heatmap's sum that lies in the boxes, 0 to 1",
    ),
    "pointing": Entry(
        "scaled_pointing_game",
        "more",
        boxes=True,
        meaning="1 if the heatmap's highest place lies in a box or at most 15 pixels of 224 beside "
        "one, else 0",
    ),
    "box-acc": Entry(
        "box_ious",
        "more",
        boxes=True,
        settle="max_box_acc",
        meaning="share of photographs, 0 to 1, on which a box around the heatmap's largest part "
        "overlaps an annotated one by half",
    ),
    "box-iou": Entry(
        "implied_box_iou",
        "more",
        boxes=True,
        default=False,
        meaning="overlap, 0 to 1, of the annotated box with that around the heatmap's largest part "
        "above a fifth of its peak",
    ),
}
"""The metrics that have a name, by it.

Drop, increase and gain mute the lower half of each heatmap, as in Score-CAM's paper. Insertion and
deletion change 1 % of the pixels per step, and take pixels of equal value in random order. The
tolerance of pointing is 15 pixels of 224, as by `tolerance_of`. box-acc is `max_box_acc` at an IoU
of 0.5, and box-iou is `implied_box_iou` at a threshold of 0.2.
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
