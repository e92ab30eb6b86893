"""Measuring methods on many images: every metric of every method on each, and tables of means."""

from scorecam_jax.evaluate.folder import evaluate_folder
from scorecam_jax.evaluate.measure import Batch, evaluate
from scorecam_jax.evaluate.registry import (
    DEFAULT_METHODS,
    DEFAULT_METRICS,
    METHODS,
    METRICS,
    Case,
    Metric,
)
from scorecam_jax.evaluate.results import Evaluation

__all__ = [
    "DEFAULT_METHODS",
    "DEFAULT_METRICS",
    "METHODS",
    "METRICS",
    "Batch",
    "Case",
    "Evaluation",
    "Metric",
    "evaluate",
    "evaluate_folder",
]
