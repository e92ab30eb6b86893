"""The metrics in a report, per photograph and summarised over all photographs."""

import html
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from scorecam_jax.visualize.grids import draw
from scorecam_jax.visualize.report.packing import Photograph
from scorecam_jax.visualize.report.words import number

_BINS = 16

# Columns of figures that fit next to a method's name on a phone, or on half a page of paper.
_ABREAST = 3

# Maps are compared at this size.
_SIDE = 28


def figures(one: Photograph) -> dict[str, dict[str, Any]]:
    """All figures of a photograph by method, including those that its card does not show."""
    return {name: {**one.metrics.get(name, {}), **one.aside.get(name, {})} for name in one.maps}


def metric_names(shown: Sequence[Photograph]) -> list[str]:
    """The names of all figures, without duplicates."""
    return list(
        dict.fromkeys(name for one in shown for values in figures(one).values() for name in values)
    )


def surprise(one: Photograph) -> float:
    """A score from 0 to 1 for sorting: how much a photograph deserves a look.

    The mean of those of the following that are known: the fraction of methods whose heatmap of the
    first class has a finding; the mean fraction of the heatmaps' energy outside the boxes; and the
    disagreement of the methods, 1 minus the mean correlation of their heatmaps.
    """
    found = [bool(one.findings.get(method, [[]])[0]) for method in one.maps]
    parts = [sum(found) / len(found)]
    energies = [values.get("energy") for values in one.metrics.values()]
    known = [value for value in energies if value is not None and math.isfinite(value)]
    if known:
        parts.append(1 - sum(known) / len(known))
    alike = _correlations(one)
    if alike:
        parts.append(1 - max(0.0, sum(alike) / len(alike)))
    return round(float(sum(parts) / len(parts)), 4)


def _correlations(one: Photograph) -> list[float]:
    """Correlations between all pairs of methods' non-constant heatmaps of the first class."""
    drawn = []
    for grids in one.maps.values():
        values = draw(grids[0], (*grids[0].shape[:-2], _SIDE, _SIDE))
        if np.ptp(values) > 0:
            drawn.append(values.ravel())
    return [
        float(np.corrcoef(first, second)[0, 1])
        for first, second in itertools.combinations(drawn, 2)
    ]


def measured(one: Photograph, meanings: Mapping[str, str]) -> str:
    """A photograph's figures as HTML tables, methods in rows, narrow enough for a phone."""
    names = list(dict.fromkeys(name for values in one.metrics.values() for name in values))
    tables = "".join(
        _table(one, names[first : first + _ABREAST], meanings)
        for first in range(0, len(names), _ABREAST)
    )
    return f'<div class="measured" role="group" aria-label="Measured">{tables}</div>' * bool(names)


def _table(one: Photograph, names: Sequence[str], meanings: Mapping[str, str]) -> str:
    head = "".join(_heading(name, name, meanings) for name in names)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(method)}</th>'
        + "".join(f"<td>{number(values.get(name))}</td>" for name in names)
        + "</tr>"
        for method, values in one.metrics.items()
    )
    return f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _heading(name: str, title: str, meanings: Mapping[str, str]) -> str:
    told = meanings.get(name)
    hint = f' title="{html.escape(told)}"' if told else ""
    return f'<th scope="col"{hint}>{html.escape(title)}</th>'


def summary(
    shown: Sequence[Photograph],
    methods: Sequence[str],
    columns: Sequence[Any],
    meanings: Mapping[str, str],
    kinds: str,
) -> str:
    """The means as an HTML table, each with a histogram of its values, and their definitions."""
    if not columns:
        return ""
    values = {
        (column.name, method): _values(shown, method, column.name)
        for column in columns
        for method in methods
    }
    ranges = {
        column.name: _range([values[column.name, method] for method in methods])
        for column in columns
    }
    head = "".join(_heading(column.name, column.title, meanings) for column in columns)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(method)}</th>'
        + "".join(
            f'<td data-title="{html.escape(column.title)}">{_mean(column, method)}'
            + _histogram(
                values[column.name, method], ranges[column.name], method, column.name, kinds
            )
            + "</td>"
            for column in columns
        )
        + "</tr>"
        for method in methods
    )
    terms = "".join(
        f"<dt>{html.escape(column.title)}</dt><dd>{html.escape(meanings[column.name])}</dd>"
        for column in columns
        if column.name in meanings
    )
    return (
        f'<details class="all"><summary>All {kinds}: means and definitions</summary>'
        f"<p>Means over {kinds} and their 95 % bootstrap intervals. ↑ more is better, ↓ less is "
        f"better. The bars are histograms over {kinds}.</p>"
        f'<table class="summary"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table>"
        + (f'<dl class="meanings">{terms}</dl>' if terms else "")
        + "</details>"
    )


def _values(shown: Sequence[Photograph], method: str, name: str) -> Float[np.ndarray, " images"]:
    found = [figures(one).get(method, {}).get(name) for one in shown]
    return np.array([value for value in found if value is not None and math.isfinite(value)], float)


def _range(groups: Sequence[Float[np.ndarray, " _"]]) -> tuple[float, float]:
    every = np.concatenate(groups)
    return (float(every.min()), float(every.max())) if len(every) else (0.0, 0.0)


def _mean(column: Any, method: str) -> str:
    found = column.figures.get(method)
    if found is None or not found.count:
        return "–"
    mean, low, high = (f"{value:.{column.digits}f}" for value in found[:3])
    return f"<b>{mean}</b> [{low}, {high}]"


def _histogram(
    values: Float[np.ndarray, " images"],
    limits: tuple[float, float],
    method: str,
    metric: str,
    kinds: str,
) -> str:
    if not len(values):
        return ""
    low, high = limits
    constant = high == low
    # A value shared by all is centred: it is neither low nor high.
    counts, _ = np.histogram(values, _BINS, (low - 0.5, high + 0.5) if constant else limits)
    bars = "".join(
        f'<rect x="{6 * place}" y="{24 - 24 * count / counts.max():.1f}" width="5" '
        f'height="{24 * count / counts.max():.1f}"/>'
        for place, count in enumerate(counts)
        if count
    )
    quarters = ", ".join(number(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    label = (
        f"{metric} of {method}: from {number(values.min())} to {number(values.max())}, "
        f"quartiles {quarters}, {len(values)} {kinds}"
    )
    ends = "".join(f"<span>{number(end)}</span> " for end in ((low,) if constant else limits))
    return (
        f'<svg class="bars" viewBox="0 0 {6 * _BINS - 1} 24" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(label)}"><title>{html.escape(label)}</title>{bars}</svg>'
        f'<span class="axis{" one" * constant}">{ends}</span>'
    )
