"""The methods and metrics that have a name, and those measured by default."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from scorecam_jax import methods, metrics
from scorecam_jax.engine.options import Masking
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.steps.interpolation import Interpolated

Method = Callable[..., Any]


class Case(NamedTuple):
    """What a metric is given: a batch and one method's heatmaps of it.

    Attributes:
        model: the model.
        inputs: (B, *spatial, C).
        heatmaps: (B, *spatial).
        targets: (B,).
        boxes: (B, N, 2n), or None.
        explain: (inputs, targets) -> heatmaps: the method itself.
        scoring: keywords of the metrics that score masked inputs.
    """

    model: Callable[..., Any]
    inputs: Float[Array, "batch ..."]
    heatmaps: Float[Array, "batch *spatial"]
    targets: Int[Array, " batch"]
    boxes: Float[Array, "batch boxes sides"] | None
    explain: Callable[..., Any]
    scoring: Masking


class Metric(NamedTuple):
    """A column of the table.

    Attributes:
        measure: case -> (B,), or (B, n) if one number per image does not suffice.
        better: "more", "less", or "" if neither is better.
        boxes: whether the metric needs boxes.
        settle: (images, ...) -> (images,): converts one method's measurements into the per-image
            values to average.
        digits: how many digits are printed after the point.
    """

    measure: Callable[[Case], Any]
    better: str = ""
    boxes: bool = False
    settle: Callable[[Any], Any] = np.asarray
    digits: int = 3


def _on_model(metric: Callable[..., Any], *, random: bool = False, **options: Any) -> Any:
    def measure(case: Case) -> Any:
        # Every method is measured with the same key, hence with the same draws.
        key = {"key": jax.random.key(0)} if random else {}
        arguments = (case.model, case.inputs, case.heatmaps, case.targets)
        return metric(*arguments, **options, **key, **case.scoring)

    return measure


def _adcc(case: Case) -> Any:
    arguments = (case.model, case.inputs, case.heatmaps, case.targets)
    return metrics.adcc(*arguments, explain=case.explain, **case.scoring)


OFFERED: dict[str, Method] = {
    **methods.METHODS,
    "score-cam-64": functools.partial(score_cam, channels=Interpolated(64)),
}
"""`scorecam_jax.methods.METHODS`, and presets of them.

"uniform" and "center" ignore the model: any method must beat them.
"""

DEFAULT_METHODS = ("score-cam", "score-cam-64", "grad-cam", "grad-cam++", "uniform", "center")

METRICS: dict[str, Metric] = {
    "average-drop": Metric(_on_model(metrics.average_drop, mute=0.5), "less", digits=1),
    "average-increase": Metric(_on_model(metrics.average_increase, mute=0.5), "more", digits=1),
    "average-gain": Metric(_on_model(metrics.average_gain, mute=0.5), "more", digits=1),
    "insertion": Metric(_on_model(metrics.insertion, random=True), "more"),
    "deletion": Metric(_on_model(metrics.deletion, random=True), "less"),
    "adcc": Metric(_adcc, "more"),
    "road": Metric(_on_model(metrics.road, random=True), "more"),
    "energy": Metric(
        lambda case: metrics.energy_pointing_game(case.heatmaps, case.boxes), "more", boxes=True
    ),
    "pointing": Metric(
        lambda case: metrics.pointing_game(case.heatmaps, case.boxes, 15.0), "more", boxes=True
    ),
    "box-acc": Metric(
        lambda case: metrics.box_ious(case.heatmaps, case.boxes),
        "more", boxes=True, settle=metrics.max_box_acc,
    ),
}  # fmt: skip
"""The metrics that have a name.

Drop, increase and gain mute the lower half of each heatmap, as in Score-CAM's paper. Insertion and
deletion change 1 % of the pixels per step, and take pixels of equal value in random order. Pointing
has a tolerance of 15 pixels. box-acc is `max_box_acc` at an IoU of 0.5.

Drop, gain, insertion, deletion and ADCC compare probabilities: a `score` given to `evaluate` should
return values in [0, 1].
"""

DEFAULT_METRICS = (
    "average-drop", "average-increase", "average-gain", "insertion", "deletion",
    "energy", "pointing", "box-acc",
)  # fmt: skip
"""The metrics measured by default. Those that need boxes are left out if there are none."""


def named_methods(wanted: Sequence[str] | Mapping[str, Method]) -> dict[str, Method]:
    """Methods by name.

    Raises:
        ValueError: a name is unknown.
    """
    return _named(wanted, OFFERED, "method")


def named_metrics(wanted: Sequence[str] | Mapping[str, Any]) -> dict[str, Metric]:
    """Metrics by name.

    Raises:
        ValueError: a name is unknown.
    """
    found = _named(wanted, METRICS, "metric")
    return {
        name: metric if isinstance(metric, Metric) else Metric(metric)
        for name, metric in found.items()
    }


def _named(wanted: Any, known: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if isinstance(wanted, Mapping):
        return dict(wanted)
    if isinstance(wanted, str):
        raise ValueError(f"{kind}s are {wanted!r}, wanted a list of names")
    for name in wanted:
        if name not in known:
            raise ValueError(
                f"no {kind} is called {name!r}; wanted names among {', '.join(known)}, or a "
                "mapping of names to your own"
            )
    return {name: known[name] for name in wanted}
