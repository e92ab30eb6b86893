"""Measure what several layers improve: the tables of docs/evaluation.md, from one command each.

    python -m benchmarks.layers --rows sample.jsonl
    python -m benchmarks.layers --rows others.jsonl --photographs others
    python -m benchmarks.layers --rows sample.jsonl others.jsonl --table  # of all measured rows

Every Score-CAM scores the same number of masks: `--passes` of one layer, or shared among two or
three. The maps of the layers are computed once and fused in every way. They are also computed with
the network's weights shuffled, and for another class: `shuffled` and `other class` are the
correlations with those maps; lower is better. All seeds are 0.

Each row is written as soon as it is measured, and photographs with rows are not measured again.
`--random` uses networks with random weights, for which only insertion and deletion are measured,
because such networks cannot find the boxes.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from scorecam_jax import Interpolated, grad_cam, metrics, models, samples, score_cam, variants
from scorecam_jax.adapters import with_layers
from scorecam_jax.methods.base import Explanation
from scorecam_jax.metrics.sanity import correlation, randomized
from scorecam_jax.steps.fuse import FUSIONS, fuse_maps
from scorecam_jax.steps.masks import normalize, resize
from scorecam_jax.study.metering import measure
from scorecam_jax.study.programs import Programs
from scorecam_jax.study.registry import METRICS, Case, Metric
from scorecam_jax.study.results import Evaluation, summarize


class Other(NamedTuple):
    """A photograph that had no influence on any choice in this library.

    Attributes:
        path: its path in the package that contains it.
        target: the ImageNet class that it shows; for foolbox's photographs, the class in the name.
        boxes: boxes around the object, (left, top, right, bottom) in hundredths of width and
            height, drawn by hand before any map was seen.
    """

    path: str
    target: int
    boxes: tuple[tuple[float, float, float, float], ...]


# foolbox's imagenet_12_741 is left out: it shows windows, not the prayer rug of its name.
_OTHERS = (
    Other("skimage/data/camera.png", 872, ((45, 37, 79, 100),)),
    Other("skimage/data/chelsea.png", 285, ((0, 0, 85, 100),)),
    Other("skimage/data/coffee.png", 967, ((28, 4, 68, 76),)),
    Other("skimage/data/motorcycle_left.png", 665, ((13, 16, 92, 90),)),
    Other("skimage/data/rocket.jpg", 657, ((48, 30, 53, 95),)),
    Other(
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        652,
        ((27, 3, 73, 30), (1, 53, 100, 100)),
    ),
    Other("sklearn/datasets/images/china.jpg", 698, ((11, 7, 55, 89),)),
    Other("foolbox/data/imagenet_00_243.jpg", 243, ((24, 11, 61, 90),)),
    Other(
        "foolbox/data/imagenet_01_559.jpg",
        559,
        (
            (26, 35, 70, 98), (0, 50, 31, 83), (68, 50, 100, 88), (0, 6, 17, 33), (20, 6, 39, 33),
            (42, 3, 60, 35), (59, 2, 82, 36), (75, 3, 100, 38),
        ),
    ),
    Other("foolbox/data/imagenet_02_438.jpg", 438, ((37, 50, 61, 95), (73, 50, 99, 97))),
    Other("foolbox/data/imagenet_03_990.jpg", 990, ((9, 26, 48, 72), (40, 46, 86, 100))),
    Other(
        "foolbox/data/imagenet_04_949.jpg",
        949,
        (
            (38, 5, 61, 29), (2, 36, 19, 53), (20, 38, 38, 56), (42, 33, 60, 53), (74, 26, 96, 48),
            (13, 57, 29, 77), (32, 58, 50, 73), (64, 52, 79, 68), (40, 81, 56, 97),
        ),
    ),
    Other("foolbox/data/imagenet_05_853.jpg", 853, ((20, 10, 100, 35),)),
    Other("foolbox/data/imagenet_06_609.jpg", 609, ((20, 26, 82, 66),)),
    Other("foolbox/data/imagenet_07_609.jpg", 609, ((8, 29, 98, 76),)),
    Other("foolbox/data/imagenet_08_915.jpg", 915, ((1, 56, 42, 85), (52, 36, 100, 92))),
    Other("foolbox/data/imagenet_09_455.jpg", 455, ((8, 16, 90, 91),)),
    Other("foolbox/data/imagenet_10_541.jpg", 541, ((12, 10, 91, 92),)),
    Other("foolbox/data/imagenet_11_630.jpg", 630, ((0, 17, 100, 69),)),
    Other("foolbox/data/imagenet_13_471.jpg", 471, ((0, 12, 88, 90),)),
    Other("foolbox/data/imagenet_14_129.jpg", 129, ((37, 33, 55, 58), (86, 36, 98, 60))),
    Other(
        "foolbox/data/imagenet_15_99.jpg",
        99,
        ((0, 19, 35, 75), (47, 13, 69, 52), (42, 37, 66, 96), (93, 26, 100, 62)),
    ),
    Other("foolbox/data/imagenet_16_251.jpg", 251, ((0, 0, 100, 88),)),
    Other("foolbox/data/imagenet_17_22.jpg", 22, ((0, 24, 100, 70),)),
    Other("foolbox/data/imagenet_18_317.jpg", 317, ((25, 9, 80, 90),)),
    Other("foolbox/data/imagenet_19_305.jpg", 305, ((18, 27, 84, 75),)),
)  # fmt: skip

_RANKED_ALIKE = {"geometric": "product"}  # insertion, deletion and ROAD are therefore equal
_ROAD = ("one layer", "two layers, product", "two layers, poly-cam", "three layers, product")
_FRACTIONS = (0.2, 0.5, 0.8)
_BOXES = 9


class Photograph(NamedTuple):
    """A photograph, preprocessed for the network.

    Attributes:
        name: the file's name.
        image: the picture.
        inputs: (1, H, W, 3).
        boxes: (1, N, 4), padded with zeros.
        target: the class that it shows; None for the predicted class.
    """

    name: str
    image: Image.Image
    inputs: np.ndarray
    boxes: np.ndarray
    target: int | None


def main() -> None:
    """Measure, and print the table and the differences from one layer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="files of JSON lines")
    parser.add_argument("--table", action="store_true", help="measure nothing, read all --rows")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument("--random", action="store_true", help="random weights")
    parser.add_argument("--size", type=int, help="size of the input")
    parser.add_argument("--photographs", choices=["sample", "others"], default="sample")
    parser.add_argument("--passes", type=int, default=64)
    parser.add_argument("--step", type=float, default=0.04, help="step of the curves")
    parser.add_argument("--first", type=int, help="number of photographs (default: all)")
    parser.add_argument("--shuffle", type=int, default=99, help="photographs for shuffled weights")
    parser.add_argument("--ways", default="one,two,three,gradient", help="also: cubic, augmented")
    asked = parser.parse_args()
    if not asked.table:
        (output,) = asked.rows
        with output.open("a", buffering=1) as file:
            for row in _rows(asked, {row["image"] for row in _read(output)}):
                file.write(json.dumps(row) + "\n")
    found = _table([row for path in asked.rows for row in _read(path)])
    print(found.as_text(400))
    print(found.differences_as_text(400))


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _table(rows: list[dict[str, Any]]) -> Evaluation:
    columns = {
        **{name: METRICS[name] for name in ("energy", "box-iou", "pointing", "box-acc")},
        **{name: METRICS[name] for name in ("insertion", "deletion", "road")},
        **{name: Metric(lambda case: None, "less") for name in ("shuffled", "other class")},
    }
    found = {name: metric for name, metric in columns.items() if name in rows[0]}
    return summarize(rows, list(dict.fromkeys(row["method"] for row in rows)), found)


def _photographs(kind: str, classifier: Any) -> Iterator[Photograph]:
    boxes = samples.annotations() if kind == "sample" else {}
    if kind == "sample":
        for name, path in samples.paths().items():
            yield _photograph(path, classifier, np.asarray(boxes[name].boxes, float), None)
        return
    for other in _OTHERS:
        package, _, file = other.path.partition("/")
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(f"{other.path} is part of the package {package}: install it")
        path = Path(spec.submodule_search_locations[0]) / file
        width, height = Image.open(path).size
        corners = np.asarray(other.boxes) / 100 * [width, height, width, height]
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
        yield _photograph(path, classifier, sides, other.target)


def _photograph(path: Path, classifier: Any, boxes: np.ndarray, target: int | None) -> Photograph:
    image = Image.open(path).convert("RGB")
    padded = np.zeros((1, _BOXES, 4), np.float32)
    padded[0, : len(boxes)] = classifier.preprocess.boxes(boxes, image.size)
    inputs = np.asarray(classifier.preprocess(image))[None]
    return Photograph(path.stem, image, inputs, padded, target)


def _ways(passes: int) -> dict[str, Callable[..., dict[str, Any]]]:
    """The programs to compare, (model, inputs, targets) -> heatmaps by name."""
    budget = Interpolated(passes)
    cubic = variants.OFFICIAL._replace(render=_cubic)

    def alone(name: str, method: Callable[..., Explanation]) -> Callable[..., dict[str, Any]]:
        return lambda *given: {name: method(*given).heatmap}

    def fused(count: int, method: Callable[..., Explanation], name: str) -> Callable[..., Any]:
        def explain(model: Any, *given: Any) -> dict[str, Any]:
            found: Any = method(with_layers(model, count), *given)
            maps = [layer.heatmap for layer in found.layers]
            sums = [
                jax.nn.relu(jnp.einsum("b...k,btk->bt...", *pair, precision="highest"))
                for pair in zip(found.activations, found.weights, strict=True)
            ]
            return {f"{name}, {fuse}": fuse_maps(fuse, maps, sums)[0] for fuse in FUSIONS}

        return explain

    def augmented(name: str, method: Callable[..., Explanation]) -> Callable[..., dict[str, Any]]:
        return lambda *given: {name: _augmented(method, *given)}

    scored = functools.partial(score_cam, channels=budget)
    quarter = functools.partial(score_cam, channels=Interpolated(passes // 4))
    return {
        "one": alone("one layer", scored),
        "two": fused(2, scored, "two layers"),
        "three": fused(3, scored, "three layers"),
        "cubic": alone("one layer, cubic masks", functools.partial(scored, variant=cubic)),
        "augmented": augmented("one layer, augmented", quarter),
        "gradient": alone("Grad-CAM", grad_cam),
    }


def _cubic(maps: jax.Array, shape: Any) -> jax.Array:
    """Render masks by cubic instead of linear interpolation."""
    resized = jax.image.resize(maps, (len(maps), *shape), "cubic", antialias=False)
    return normalize(jax.nn.relu(resized), len(shape))


def _augmented(method: Any, model: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean map over the image, its mirror image, a shift and an enlargement, mapped back."""
    height, width = inputs.shape[1:3]
    shift = (height // 28, width // 28)
    margin = (height // 20, width // 20)
    inside = (..., slice(margin[0], height - margin[0]), slice(margin[1], width - margin[1]))

    def enlarge(images: jax.Array) -> jax.Array:
        part = jnp.moveaxis(jnp.moveaxis(images, -1, 1)[inside], 1, -1)
        return jax.image.resize(part, images.shape, "linear")

    def put_back(maps: jax.Array) -> jax.Array:
        small = (height - 2 * margin[0], width - 2 * margin[1])
        return jnp.zeros_like(maps).at[inside].set(resize(maps, small))

    ways: list[tuple[Any, Any]] = [
        (lambda x: x, lambda m: m),
        (lambda x: x[:, :, ::-1], lambda m: m[..., ::-1]),
        (
            lambda x: jnp.roll(x, shift, (1, 2)),
            lambda m: jnp.roll(m, (-shift[0], -shift[1]), (-2, -1)),
        ),
        (enlarge, put_back),
    ]
    return sum(back(method(model, there(inputs), targets).heatmap) for there, back in ways) / 4


def _rows(asked: argparse.Namespace, known: set[str]) -> Iterator[dict[str, Any]]:
    more = {} if asked.size is None else {"size": asked.size}
    load = models.random if asked.random else functools.partial(models.load, weights=asked.weights)
    classifier = load(asked.model, **more)
    photographs = list(_photographs(asked.photographs, classifier))
    if not classifier.labels:  # an embedding: explain each photograph's similarity to itself
        pictures = {each.name: each.image for each in photographs}
        classifier = models.likeness(classifier, pictures, others={})
        photographs = [each._replace(target=row) for row, each in enumerate(photographs)]
    if asked.random:
        photographs = [each._replace(target=None) for each in photographs]
    wanted = _ways(asked.passes)
    ways = {name: jax.jit(wanted[name]) for name in asked.ways.split(",")}
    shuffled = randomized(classifier.model, jax.random.key(0))
    predict = jax.jit(lambda model, inputs: jax.nn.softmax(model(inputs)[0])[0])
    warm = False
    for number, photograph in enumerate(photographs[: asked.first]):
        if photograph.name in known:
            continue
        scores = np.array(predict(classifier.model, photograph.inputs))
        target = scores.argmax() if photograph.target is None else photograph.target
        score = float(scores[target])
        scores[target] = -1
        given = photograph.inputs, np.array([[target, scores.argmax()]], np.int32)
        maps, random, seconds = {}, {}, {}
        for explain in ways.values():
            if not warm:  # compile
                jax.block_until_ready(explain(classifier.model, *given))
            began = time.process_time()
            found = jax.block_until_ready(explain(classifier.model, *given))
            seconds.update(dict.fromkeys(found, time.process_time() - began))
            maps.update(found)
            if number < asked.shuffle and not asked.random:
                random.update(explain(shuffled, *given))
        warm = True
        figures = _measure(asked, classifier.model, photograph, int(target), maps)
        for name, pair in maps.items():
            yield {
                "image": photograph.name, "method": name, "target": int(target), "score": score,
                "seconds": seconds[name], "findings": [], **figures[name],
                "shuffled": (
                    float(correlation(pair[0, 0], random[name][0, 0])) if name in random else None
                ),
                "other class": float(correlation(*pair[0])),
            }  # fmt: skip
        print(photograph.name, f"{time.process_time():.0f} s", file=sys.stderr, flush=True)


def _measure(
    asked: argparse.Namespace, model: Any, photograph: Photograph, target: int, maps: Any
) -> dict[str, dict[str, Any]]:
    """Measure each map. Maps with equal ranks of pixels share the metrics that use only ranks."""

    def figures(names: Sequence[str], chosen: Mapping[str, Metric]) -> dict[str, Any]:
        def each(array: Any) -> np.ndarray:
            return np.repeat(array, len(names), 0)

        heatmaps = jnp.stack([maps[name][0, 0] for name in names])
        found = measure(
            Programs({}), chosen, "", model, each(photograph.inputs), heatmaps,
            each(np.array([target])), each(photograph.boxes),
        )  # fmt: skip
        return dict(zip(names, found, strict=True))

    def ranked(name: str) -> str:
        layers, _, fuse = name.partition(", ")
        return f"{layers}, {_RANKED_ALIKE[fuse]}" if fuse in _RANKED_ALIKE else name

    options: dict[str, Any] = {"step": asked.step}
    curves = {
        name: Metric(functools.partial(_faithful, getattr(metrics, name), options))
        for name in ("insertion", "deletion")
    }
    distinct = list(dict.fromkeys(map(ranked, maps)))
    found = figures(distinct, curves)
    if asked.random:
        return {name: found[ranked(name)] for name in maps}
    boxes = {name: METRICS[name] for name in ("energy", "box-iou", "pointing", "box-acc")}
    located = figures(list(maps), boxes)
    road = {"road": Metric(functools.partial(_faithful, metrics.road, {"fractions": _FRACTIONS}))}
    roads = figures([name for name in _ROAD if name in maps], road)
    nothing = {"road": None}
    return {
        name: {**located[name], **found[ranked(name)], **roads.get(ranked(name), nothing)}
        for name in maps
    }


def _faithful(metric: Callable[..., Any], options: Mapping[str, Any], case: Case) -> Any:
    return metric(
        case.model, case.inputs, case.heatmaps, case.targets, key=jax.random.key(0), **options,
        **case.scoring,
    )  # fmt: skip


if __name__ == "__main__":
    main()
