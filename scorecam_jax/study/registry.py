"""The methods and metrics that have a name, and those measured by default."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from scorecam_jax import methods, metrics
from scorecam_jax._internal.signatures import accepts
from scorecam_jax.engine.options import Scoring
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.steps.interpolation import Interpolated

Method = Callable[..., Any]


class Case(NamedTuple):
    """The input of a metric: a batch, and one method's heatmaps of it.

    Attributes:
        model: the model.
        inputs: (B, *spatial, C).
        heatmaps: (B, *spatial).
        targets: (B,).
        boxes: (B, N, 2n), or None.
        masks: (B, *spatial), where the objects are; or None if only boxes are known.
        explain: (inputs, targets) -> heatmaps: the method itself.
        scoring: keywords of the metrics that score masked inputs.
    """

    model: Callable[..., Any]
    inputs: Float[Array, "batch ..."]
    heatmaps: Float[Array, "batch *spatial"]
    targets: Int[Array, " batch"]
    boxes: Float[Array, "batch boxes sides"] | None
    explain: Callable[..., Any]
    scoring: Scoring
    masks: Bool[Array, "batch *spatial"] | None = None


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


def _named_metric(entry: metrics.Entry) -> Metric:
    function = getattr(metrics, entry.function)
    accepted = inspect.signature(function).parameters

    def measure(case: Case) -> Any:
        if entry.boxes:
            known = entry.masks and case.masks is not None
            return function(case.heatmaps, case.masks if known else case.boxes, **entry.options)
        if "model" not in accepted:
            return function(case.heatmaps, **entry.options)
        # Every method is measured with the same key, hence with the same draws.
        more: dict[str, Any] = {"key": jax.random.key(0)} if "key" in accepted else {}
        if "explain" in accepted:
            more["explain"] = case.explain
        more |= {name: value for name, value in case.scoring.items() if accepts(function, name)}
        arguments = (case.model, case.inputs, case.heatmaps, case.targets)
        return function(*arguments, **entry.options, **more)

    settle = getattr(metrics, entry.settle) if entry.settle else np.asarray
    return Metric(measure, entry.better, entry.boxes, settle, entry.digits)


OFFERED: dict[str, Method] = {
    **methods.METHODS,
    "score-cam-64": functools.partial(score_cam, channels=Interpolated(64)),
}
"""`scorecam_jax.methods.METHODS`, and presets of them.

"uniform" and "center" ignore the model: any method must beat them.
"""

DEFAULT_METHODS = ("score-cam", "score-cam-64", "grad-cam", "grad-cam++", "uniform", "center")
"""The methods that `evaluate` measures if none are named."""

METRICS = {name: _named_metric(entry) for name, entry in metrics.ENTRIES.items()}
"""The metrics of `scorecam_jax.metrics.ENTRIES`.

Drop, gain, insertion, deletion and ADCC compare probabilities: a `score` given to `evaluate` should
return values in [0, 1].
"""

DEFAULT_METRICS = tuple(name for name, entry in metrics.ENTRIES.items() if entry.default)
"""The metrics measured by default. Those that need boxes are left out if there are none."""


LOCALIZATION = ("energy", "pointing", "box-iou")
"""What a study measures by default if there are boxes: it takes no further passes."""


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
