"""Records as a report: one HTML file to look through."""

import contextlib
import datetime
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scorecam_jax._internal.text import short
from scorecam_jax.engine.tuning import device_of
from scorecam_jax.metrics import ENTRIES
from scorecam_jax.models import Classifier
from scorecam_jax.reading import Note
from scorecam_jax.study.material import SINGLE, material
from scorecam_jax.study.pipeline import Plan
from scorecam_jax.study.record import Record, packed
from scorecam_jax.study.results import Evaluation
from scorecam_jax.study.tables import Column, figure
from scorecam_jax.visualize.axes import spread, with_axes
from scorecam_jax.visualize.report import Photograph, photograph, report
from scorecam_jax.visualize.series import draw_series, lines_region
from scorecam_jax.visualize.volumes import squared_slices

MEANINGS = {
    **{name: entry.meaning for name, entry in ENTRIES.items()},
    "seconds": "seconds that the method took for a photograph, without compilation",
    "live channels": "how many of the layer's channels are not constant over the photograph; an "
    "exact Score-CAM takes as many masked passes",
}
"""What the figures of a report say, with their units."""


def as_page(
    plan: Plan,
    records: Sequence[Record],
    found: Evaluation,
    *,
    title: str = "What the network looked at",
    settings: Mapping[str, Any] | None = None,
    command: str | None = None,
    colormap: str = "ember",
) -> str:
    """Write records as one HTML file.

    Args:
        plan: what was asked.
        records: of the photographs.
        found: what was measured.
        title: the heading.
        settings: what the figures depend on, such as the name of the network.
        command: what the user typed to make the report.
        colormap: as in `colorize`.

    Returns:
        The text of the file.
    """
    shown, gone = photographs(plan, records, found)
    own = {"layer": plan.classifier.layer, "methods": list(plan.methods)}
    columns = list(found.columns)
    if not plan.layers:  # else it differs from layer to layer
        live = figure(np.array([record.live for record in records], float))
        figures = dict.fromkeys(plan.methods, live)
        columns.append(Column("live channels", "live channels", figures, 0))
    return report(
        shown,
        title=title,
        columns=columns,
        left_out=[*found.left_out, *gone],
        manifest=manifest(plan.classifier, settings or own),
        command=command,
        colormap=colormap,
        meanings=MEANINGS,
        kind=SINGLE[plan.classifier.takes],
        layers=plan.layers,
    )


def photographs(
    plan: Plan, records: Sequence[Record], found: Evaluation
) -> tuple[list[Photograph], list[Note]]:
    """The records as a report has them, and those whose file is gone."""
    rows = {(row["image"], row["method"]): row for row in found.rows}
    shown: list[Photograph] = []
    gone: list[Note] = []
    for record in records:
        try:
            shown.append(_photograph(plan, record, rows))
        except (ValueError, MemoryError) as error:  # of the file, or of a user's own preprocessing
            gone.append(Note(record.name, str(error) or "out of memory"))
    if not shown:
        raise ValueError(f"no photograph is there any more: {gone[0].what}: {gone[0].why}")
    return shown, gone


def manifest(classifier: Classifier, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What figures depend on, for the end of a report."""
    listed = {
        name: ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for name, value in settings.items()
        if value not in (None, [], ())
    }
    names = {"weights": "weights, SHA-256", "boxes": "boxes, SHA-256"}
    versions = {}
    for package in ("scorecam_jax", "jax"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        **{names.get(name, name): value for name, value in listed.items()},
        "input": f"{' x '.join(map(str, classifier.input_size[::-1]))} "
        f"{'steps' if classifier.lines else 'pixels'}",
        **versions,
        "Python": platform.python_version(),
        "device": device_of().device_kind,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _shown(plan: Plan, record: Record) -> dict[str, Any]:
    """What is looked at, read again, and where the heatmap lies in it."""
    classifier = plan.classifier
    found = material(classifier, record.item, plan.window)
    if found.shown is None and len(found.size) == 3:
        pictures, thickness = squared_slices(found.content, found.spacing, plan.window)
        return {"picture": pictures, "thickness": thickness}
    if found.shown is None:
        return {
            "picture": draw_series(found.content, rate=found.rate, names=found.names),
            **lines_region(classifier.preprocess, *np.shape(found.content)),
        }
    axes = getattr(classifier.preprocess, "axes", None)
    if axes is None:
        return {"picture": found.shown, **_region(classifier, record.size)}
    drawn, area = with_axes(spread(found.shown), axes)
    return {"picture": drawn, "seen": area, "axes": True}


def _photograph(
    plan: Plan, record: Record, rows: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Photograph:
    classifier = plan.classifier
    return photograph(
        record.name,
        classes=[(_called(plan, one.index), one.probability) for one in record.targets],
        heatmaps={method: packed(one, plan.cells) for method, one in record.results.items()},
        input_size=(1, *classifier.input_size)[-2:],
        boxes=record.boxes,
        findings={
            method: [[(kind, text) for kind, _, text in each] for each in result.findings]
            for method, result in record.results.items()
        },
        metrics={
            method: {name: rows[record.name, method][name] for name in plan.metrics}
            for method in record.results
        },
        aside={
            method: {
                **({} if plan.layers else {"live channels": record.live}),
                "seconds": round(result.seconds, 4),
            }
            for method, result in record.results.items()
        },
        **_shown(plan, record),
    )


def _called(plan: Plan, index: int) -> str:
    """What a report calls a class."""
    name, other = plan.classifier.labels[index], plan.other_name
    return name if other is None else f"{short(name)} rather than {short(other)}"


def _region(classifier: Classifier, size: Sequence[int]) -> dict[str, Any]:
    """Which part of a photograph the network saw, and where that lies in its input."""
    left, top, right, bottom = seen = classifier.preprocess.box(tuple(size))
    whole = np.array([left, top, right - left, bottom - top])
    place = classifier.preprocess.boxes(whole, tuple(size))
    return {
        "seen": [round(float(edge), 3) for edge in seen],
        "place": [float(side) for side in place],
    }
