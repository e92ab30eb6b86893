"""Measuring methods on many images: every metric of every method, and tables of means."""

from scorecam_jax.evaluate.measure import DEFAULT_METHODS as DEFAULT_METHODS
from scorecam_jax.evaluate.measure import DEFAULT_METRICS as DEFAULT_METRICS
from scorecam_jax.evaluate.measure import METHODS as METHODS
from scorecam_jax.evaluate.measure import METRICS as METRICS
from scorecam_jax.evaluate.measure import Batch as Batch
from scorecam_jax.evaluate.measure import Case as Case
from scorecam_jax.evaluate.measure import Evaluation as Evaluation
from scorecam_jax.evaluate.measure import Metric as Metric
from scorecam_jax.evaluate.measure import evaluate as evaluate
from scorecam_jax.evaluate.measure import evaluate_folder as evaluate_folder
