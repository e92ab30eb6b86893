"""Records as a report: one HTML file to look through."""

import contextlib
import datetime
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scorecam_jax.engine.tuning import device_of
from scorecam_jax.models import Classifier
from scorecam_jax.reading import Note, ReadingError, read_picture, read_volume
from scorecam_jax.study.record import Given, Record, packed
from scorecam_jax.study.tables import Column, figure
from scorecam_jax.visualize.report import Photograph, photograph, report
from scorecam_jax.visualize.volumes import as_slices

if TYPE_CHECKING:
    from scorecam_jax.study.study import Study


def as_page(
    found: "Study",
    *,
    title: str = "What the network looked at",
    settings: Mapping[str, Any] | None = None,
    command: str | None = None,
    colormap: str = "ember",
) -> str:
    """Write the records of a study as one HTML file.

    Args:
        found: the study.
        title: the heading.
        settings: what the figures depend on, such as the name of the network.
        command: what the user typed to make the report.
        colormap: as in `colorize`.

    Returns:
        The text of the file.
    """
    shown, gone = photographs(found)
    own = {"layer": found.plan.classifier.layer, "methods": list(found.plan.methods)}
    return report(
        shown,
        title=title,
        columns=[*found.evaluation().columns, _live(found)],
        left_out=[*found.left_out, *gone],
        manifest=manifest(found.plan.classifier, settings or own),
        command=command,
        colormap=colormap,
    )


def photographs(found: "Study") -> tuple[list[Photograph], list[Note]]:
    """The records as a report has them, and those whose file is gone."""
    rows = {(row["image"], row["method"]): row for row in found.evaluation().rows}
    shown: list[Photograph] = []
    gone: list[Note] = []
    for record in found.records:
        try:
            shown.append(_photograph(found, record, rows))
        except (ReadingError, MemoryError) as error:
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
        "input": f"{' x '.join(map(str, classifier.input_size[::-1]))} pixels",
        **versions,
        "Python": platform.python_version(),
        "device": device_of().device_kind,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def picture_of(found: "Study", record: Record) -> Any:
    """The photograph itself, read again; of a volume its slices."""
    if isinstance(record.item, Given):
        return record.item.image
    if len(record.size) == 3:
        return as_slices(read_volume(record.item).values)
    return read_picture(record.item, window=found.plan.window).image


def _photograph(
    found: "Study", record: Record, rows: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Photograph:
    classifier = found.plan.classifier
    return photograph(
        record.name,
        picture_of(found, record),
        [(classifier.labels[one.index], one.probability) for one in record.targets],
        {
            method: packed(result, found.plan.cells) for method, result in record.results.items()
        },
        input_size=classifier.input_size,
        boxes=record.boxes,
        findings={
            method: [[(kind, text) for kind, _, text in each] for each in result.findings]
            for method, result in record.results.items()
        },
        metrics={
            method: {
                **{name: rows[record.name, method][name] for name in found.plan.metrics},
                "live channels": record.live,
                "seconds": round(result.seconds, 4),
            }
            for method, result in record.results.items()
        },
        **_region(classifier, record.size),
    )


def _region(classifier: Classifier, size: Sequence[int]) -> dict[str, Any]:
    """Which part of a photograph the network saw, and where that lies in its input."""
    if len(size) != 2:
        return {}
    left, top, right, bottom = seen = classifier.preprocess.box(tuple(size))
    whole = np.array([left, top, right - left, bottom - top])
    place = classifier.preprocess.boxes(whole, tuple(size))
    return {
        "seen": [round(float(edge), 3) for edge in seen],
        "place": [float(side) for side in place],
    }


def _live(found: "Study") -> Column:
    live = figure(np.array([record.live for record in found.records], float))
    return Column("live channels", "live channels", dict.fromkeys(found.plan.methods, live), 0)
