"""Measure every method on the package's photographs: the table of docs/evaluation.md.

    nice -n 10 python -m benchmarks.methods --output methods.jsonl

Each row is written to the file as soon as it is measured. After an interruption the same command
continues, and it adds new methods. Cheap methods come first. Methods that would take more than
2,000 passes per photograph, except Score-CAM itself, run with the smaller counts of `REDUCED`.

The class is the predicted one. `other class` is the correlation with the map of the next best
class, and `shuffled` that with the map of a network whose weights are all shuffled (seed 0);
lower is better for both. `time` is the median processor time of one compiled map, in seconds; other
programs on the machine hardly lengthen it.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from scorecam_jax import metrics, models, samples
from scorecam_jax.methods import METHODS
from scorecam_jax.metrics.sanity import correlation, randomized
from scorecam_jax.study.metering import findings, measure
from scorecam_jax.study.programs import Programs
from scorecam_jax.study.registry import METRICS, OFFERED, Case, Metric
from scorecam_jax.study.results import summarize
from scorecam_jax.study.tables import Column, Figure

REDUCED: dict[str, tuple[dict[str, Any], int]] = {
    "is-cam": ({"channels": 64, "steps": 5}, 322),
    "ss-cam": ({"channels": 64, "samples": 5}, 322),
    "rise": ({"count": 500}, 501),
    "poly-cam": ({"channels": 128}, 259),
}
"""Options instead of the defaults, and the number of passes with them."""

_MEASURED = ("energy", "auc", "box-acc")
_STEP = 0.05  # of insertion and deletion
_CHEAP = 100  # passes; `other class` and `shuffled` are not measured for costlier methods
_WITH_INTERVALS = ("energy", "insertion", "deletion")
_REFERENCE = "grad-cam"


class Photograph(NamedTuple):
    """A photograph, preprocessed for the network, with its boxes."""

    name: str
    inputs: np.ndarray
    boxes: np.ndarray


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument(
        "--output", type=Path, required=True, help="the rows, one line of JSON each"
    )
    parser.add_argument("--methods", help="names, separated by commas (default: all)")
    parser.add_argument("--print", action="store_true", help="measure nothing, print the table")
    asked = parser.parse_args()
    classifier = models.load(asked.model, weights=asked.weights)
    photographs = list(_photographs(classifier))
    channels = jax.eval_shape(classifier.model, photographs[0].inputs)[1].shape[-1]
    passes = {name: _passes(name, channels) for name in OFFERED}
    wanted = asked.methods.split(",") if asked.methods else sorted(OFFERED, key=passes.__getitem__)
    rows = _kept(asked.output)
    if not asked.print:
        with asked.output.open("a") as file:
            for row in _missing(classifier.model, photographs, wanted, passes, rows):
                file.write(json.dumps(row) + "\n")
                file.flush()
                rows[row["method"], row["image"]] = row
    print(_table(rows, passes))


def _photographs(classifier: Any) -> Iterator[Photograph]:
    annotations = samples.annotations()
    width = max(len(one.boxes) for one in annotations.values())
    for name, path in samples.paths().items():
        with Image.open(path) as file:
            image = file.convert("RGB")
        boxes = np.zeros((1, width, 4), np.float32)
        own = np.asarray(annotations[name].boxes, float)
        boxes[0, : len(own)] = classifier.preprocess.boxes(own, image.size)
        yield Photograph(name, np.asarray(classifier.preprocess(image))[None], boxes)


def _passes(name: str, channels: int) -> int:
    """The number of forward passes per photograph; a backward pass counts as two."""
    if name in REDUCED:
        return REDUCED[name][1]
    if name not in METHODS:
        return 66  # score-cam-64
    fixed, each, target = METHODS.entries[name].passes
    return fixed + each * channels + target


def _kept(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {(row["method"], row["image"]): row for row in map(json.loads, lines)}


def _missing(
    model: Any,
    photographs: list[Photograph],
    names: list[str],
    passes: Mapping[str, int],
    known: Mapping[tuple[str, str], Any],
) -> Iterator[dict[str, Any]]:
    """Measure the missing rows, method by method."""
    shuffled = randomized(model, jax.random.key(0))
    predict = jax.jit(lambda model, inputs: jax.nn.softmax(model(inputs)[0]))
    chosen = _metrics()
    for name in names:
        waiting = [one for one in photographs if (name, one.name) not in known]
        if not waiting:
            continue
        programs = Programs({name: _method(name)})
        for photograph in waiting:
            inputs = photograph.inputs
            scores = np.asarray(predict(model, inputs))
            best, second = np.argsort(-scores)[:, :2].astype(np.int32).T
            try:
                programs.compiled(name, model, inputs, best)
            except (TypeError, ValueError) as error:
                print(f"{name} is left out: {error}", file=sys.stderr, flush=True)
                break
            began = time.process_time()
            heatmaps, explanation, _ = programs.explain(name, model, inputs, best)
            seconds = time.process_time() - began
            (figures,) = measure(
                programs, chosen, name, model, inputs, heatmaps, best, photograph.boxes
            )
            others: dict[str, float | None] = {"other class": None, "shuffled": None}
            if passes[name] <= _CHEAP:
                for kind, given in (
                    ("other class", (model, second)),
                    ("shuffled", (shuffled, best)),
                ):
                    other, *_ = programs.explain(name, given[0], inputs, given[1])
                    others[kind] = float(correlation(heatmaps[0], other[0]))
            yield {
                "image": photograph.name, "method": name, "target": int(best[0]),
                "score": float(scores.max()), "seconds": seconds,
                "findings": [[kind, text] for *_, (kind, _, text) in findings(explanation)],
                **figures, **others,
            }  # fmt: skip
            print(name, photograph.name, f"{seconds:.2f} s", file=sys.stderr, flush=True)


def _method(name: str) -> Callable[..., Any]:
    options = REDUCED.get(name, ({}, 0))[0]
    return functools.partial(OFFERED[name], **options) if options else OFFERED[name]


def _metrics() -> dict[str, Metric]:
    chosen = {name: METRICS[name] for name in _MEASURED}
    for name in ("insertion", "deletion"):
        function = functools.partial(_area, getattr(metrics, name))
        chosen[name] = Metric(function, METRICS[name].better)
    return chosen


def _area(metric: Callable[..., Any], case: Case) -> Any:
    asked = case.model, case.inputs, case.heatmaps, case.targets
    return metric(*asked, step=_STEP, key=jax.random.key(0), **case.scoring)


def _table(rows: Mapping[tuple[str, str], dict[str, Any]], passes: Mapping[str, int]) -> str:
    """The table in Markdown: means, with intervals for some metrics."""
    chosen = _metrics()
    for name in ("other class", "shuffled"):
        chosen[name] = Metric(lambda case: None, "less", digits=2)
    methods = sorted({method for method, _ in rows}, key=lambda name: (passes[name], name))
    found = summarize(list(rows.values()), methods, chosen)
    columns = found.columns[:-1]  # the last are seconds
    titles = ["", "passes", "time", *(column.title for column in columns)]
    lines = [titles, ["---"] * len(titles)]
    for method in methods:
        cells = [_cell(column.figures[method], column) for column in columns]
        seconds = np.median([row["seconds"] for row in found.rows if row["method"] == method])
        lines.append(
            [method, f"{passes[method]:,}", f"{seconds:.3f}".replace("0.", ".", 1), *cells]
        )
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{table}\n\n{found.differences_as_text(400, _REFERENCE)}"


def _cell(figure: Figure, column: Column) -> str:
    if not figure.count:
        return "-"
    mean, low, high = (f"{value:.{column.digits}f}".replace("0.", ".", 1) for value in figure[:3])
    return f"{mean} [{low}, {high}]" if column.name in _WITH_INTERVALS else mean


if __name__ == "__main__":
    main()
