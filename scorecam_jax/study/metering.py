"""Measuring heatmaps by metrics: the same for batches in Python and for photographs."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scorecam_jax.diagnosis import diagnose
from scorecam_jax.engine.options import Scoring
from scorecam_jax.methods.base import Explanation
from scorecam_jax.metrics.localization import boxes_from_masks
from scorecam_jax.study.programs import Programs
from scorecam_jax.study.registry import Case, Metric


def measure(
    programs: Programs,
    metrics: Mapping[str, Metric],
    method: str,
    model: Callable[..., Any],
    inputs: Float[Array | np.ndarray, "batch ..."],
    heatmaps: Float[Array | np.ndarray, "batch *spatial"],
    targets: Int[Array | np.ndarray, " batch"],
    boxes: Any | None,
    *,
    masks: Any | None = None,
    score: Callable[..., Any] | None = None,
    batch_size: int | None = None,
    channel_axis: int | None = None,
) -> list[dict[str, Any]]:
    """Measure one method's heatmaps of a batch.

    Args:
        programs: what explains an input, for metrics that explain again.
        metrics: by name.
        method: its name among the programs.
        model: the network.
        inputs: the batch.
        heatmaps: of it.
        targets: the class that each heatmap explains.
        boxes: (B, N, 2n), zeros where an image has fewer; or None. Boolean masks (B, *spatial) do
            as well, and the boxes are then those around them.
        masks: (B, *spatial), for the metrics that take masks where they are known.
        score: as in `evaluate`.
        batch_size: as in `evaluate`.
        channel_axis: as in `evaluate`.

    Returns:
        For each image the values by metric; None where there is none, as without boxes.

    Raises:
        ValueError: a metric does not return one value per image.
    """
    inputs, heatmaps, targets = map(jnp.asarray, (inputs, heatmaps, targets))
    known = None if masks is None else jnp.asarray(masks)
    found = None if boxes is None else jnp.asarray(boxes)
    if found is not None and found.dtype == bool:
        known, found = found, boxes_from_masks(found)[:, None]
    found = None if found is None else found.astype(heatmaps.dtype)
    boxed = np.zeros(len(inputs), bool)
    if found is not None:
        boxed = np.asarray((found[..., found.shape[-1] // 2 :] > 0).all(-1).any(-1))
    case = Case(
        model,
        inputs,
        heatmaps,
        targets,
        found,
        lambda *given: programs.explain(method, model, *given)[0],
        Scoring(score=score or jax.nn.softmax, batch_size=batch_size, channel_axis=channel_axis),
        known,
    )
    rows: list[dict[str, Any]] = [{} for _ in range(len(inputs))]
    for name, metric in metrics.items():
        if metric.boxes and not boxed.any():
            values = np.full(len(rows), np.nan)
        else:
            values = np.asarray(metric.measure(case))
        if values.shape[:1] != (len(rows),):
            raise ValueError(
                f"metric {name!r} gave shape {values.shape}, wanted one value for each of the "
                f"{len(rows)} images: ({len(rows)},)"
            )
        for row, value, has_boxes in zip(rows, values, boxed, strict=True):
            usable = np.isfinite(value).all() and (has_boxes or not metric.boxes)
            row[name] = value.tolist() if usable else None
    return rows


def findings(explanation: Explanation | None) -> Iterator[tuple[int, int, tuple[str, float, str]]]:
    """What `diagnose` finds: the input's row, the target's index, and kind, figure and text."""
    for one in () if explanation is None else diagnose(explanation):
        yield one.input, one.target, (one.kind, one.figure, one.text)
