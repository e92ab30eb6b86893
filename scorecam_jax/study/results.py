"""What an evaluation found: rows, means over images, and the files they are written to."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scorecam_jax._internal.files import write_text
from scorecam_jax.reading import Note
from scorecam_jax.study import tables
from scorecam_jax.study.registry import Metric

ROW = ("image", "method", "target", "score", "seconds", "findings")
"""What every row begins with. The metrics' values follow."""

_ARROWS = {"more": " ↑", "less": " ↓", "": ""}


class Evaluation(NamedTuple):
    """What an evaluation found.

    Attributes:
        rows: one per image and method: image, method, target, score (the target's, unmasked),
            seconds (the image's share of its batch's, without compilation), findings (a kind and
            a text each, see `scorecam_jax.diagnose`) and the metrics' values; None where there is
            no value, as without boxes.
        columns: the metrics' means over images, with their intervals, by method.
        left_out: photographs or annotations that could not be used.
        remeasured: damaged results of an earlier run, which were measured again.
    """

    rows: list[dict[str, Any]]
    columns: list[tables.Column]
    left_out: list[Note]
    remeasured: list[Note]

    @property
    def methods(self) -> list[str]:
        """The methods, in the order in which they were named."""
        return list(dict.fromkeys(row["method"] for row in self.rows))

    @property
    def findings(self) -> dict[str, dict[str, int]]:
        """The number of images with findings of `diagnose`, by method and kind of finding."""
        counts: dict[str, dict[str, int]] = {method: {} for method in self.methods}
        for row in self.rows:
            for kind in dict.fromkeys(kind for kind, _ in row["findings"]):
                of_method = counts[row["method"]]
                of_method[kind] = of_method.get(kind, 0) + 1
        return counts

    def as_text(self, width: int = 100) -> str:
        """The table, methods in rows and metrics in columns: mean [95 % interval]."""
        return tables.as_text(self.methods, self.columns, width)

    def differences(self, reference: str | None = None) -> list[tables.Column]:
        """The other methods' differences from one method on the same images, a column a metric.

        Args:
            reference: the method; None for the first.

        Raises:
            ValueError: it was not measured.
        """
        methods = self.methods
        reference = methods[0] if reference is None else reference
        if reference not in methods:
            raise ValueError(f"{reference!r} was not measured; choose one of {', '.join(methods)}")

        def values(name: str) -> dict[str, dict[str, float]]:
            found: dict[str, dict[str, float]] = {method: {} for method in methods}
            for row in self.rows:
                if row[name] is not None:
                    found[row["method"]][row["image"]] = row[name]
            return found

        return [
            column._replace(figures=tables.paired(values(column.name), reference))
            for column in self.columns
        ]

    def differences_as_text(self, width: int = 100, reference: str | None = None) -> str:
        """The differences as a table; empty if there is only one method.

        Raises:
            ValueError: the reference was not measured.
        """
        columns = self.differences(reference)
        reference = reference or self.methods[0]
        others = [method for method in self.methods if method != reference]
        if not others:
            return ""
        head = f"difference from {reference} on the same images: mean [95 % interval]"
        return f"{head}\n{tables.as_text(others, columns, width)}"

    def as_records(self) -> list[dict[str, Any]]:
        """The table as one flat record per method."""
        return _records(self.methods, self.columns)

    def write(self, folder: Path) -> None:
        """Write `table.txt`, `table.csv`, `rows.csv`, and `results.json`, which holds them all.

        Raises:
            OSError: the folder cannot be written to.
        """
        document = {
            "table": self.as_records(),
            "differences": {
                "reference": self.methods[0],
                "table": _records(self.methods[1:], self.differences()),
            },
            "findings": self.findings,
            "left_out": [note._asdict() for note in self.left_out],
            "rows": self.rows,
        }
        write_text(folder / "table.txt", self.as_text() + "\n")
        write_text(folder / "table.csv", tables.as_csv(self.as_records()))
        flat = [
            {**row, "findings": "; ".join(kind for kind, _ in row["findings"])} for row in self.rows
        ]
        write_text(folder / "rows.csv", tables.as_csv(flat))
        content = json.dumps(document, indent=1, allow_nan=False)
        write_text(folder / "results.json", content + "\n")


def _records(methods: Sequence[str], columns: Sequence[tables.Column]) -> list[dict[str, Any]]:
    return [
        {"method": method}
        | {
            f"{column.name}{'' if part == 'mean' else f'_{part}'}": (
                value if math.isfinite(value) else None
            )
            for column in columns
            for part, value in column.figures[method]._asdict().items()
        }
        for method in methods
    ]


def summarize(
    rows: Sequence[Mapping[str, Any]],
    methods: Sequence[str],
    metrics: Mapping[str, Metric],
    left_out: Sequence[Note] = (),
    remeasured: Sequence[Note] = (),
) -> Evaluation:
    """Settle the rows' values and average them."""
    settled_rows = [dict(row) for row in rows]

    def figures(name: str, settle: Callable[[Any], Any]) -> dict[str, tables.Figure]:
        found = {}
        for method in methods:
            valid = [
                row for row in settled_rows if row["method"] == method and row[name] is not None
            ]
            values = np.array([row[name] for row in valid], np.float32)
            settled = np.asarray(settle(values) if valid else values, float)
            for row, value in zip(valid, settled.tolist(), strict=True):
                row[name] = value
            found[method] = tables.figure(settled)
        return found

    columns = [
        tables.Column(
            name, name + _ARROWS[metric.better], figures(name, metric.settle), metric.digits
        )
        for name, metric in metrics.items()
    ]
    columns.append(tables.Column("seconds", "s/image", figures("seconds", np.asarray), 2))
    return Evaluation(settled_rows, columns, list(left_out), list(remeasured))
