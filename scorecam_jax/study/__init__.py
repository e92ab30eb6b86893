"""Studies: photographs, methods and metrics in, a record of each photograph out."""

from scorecam_jax.study.choosing import Targets
from scorecam_jax.study.evaluate import Batch, evaluate
from scorecam_jax.study.record import Record, Result, Target
from scorecam_jax.study.registry import (
    DEFAULT_METHODS,
    DEFAULT_METRICS,
    METRICS,
    OFFERED,
    Case,
    Metric,
)
from scorecam_jax.study.results import Evaluation
from scorecam_jax.study.study import Study, evaluate_folder, study
from scorecam_jax.study.training import HeatmapLog

__all__ = [
    "DEFAULT_METHODS",
    "DEFAULT_METRICS",
    "METRICS",
    "OFFERED",
    "Batch",
    "Case",
    "Evaluation",
    "HeatmapLog",
    "Metric",
    "Record",
    "Result",
    "Study",
    "Target",
    "Targets",
    "evaluate",
    "evaluate_folder",
    "study",
]
