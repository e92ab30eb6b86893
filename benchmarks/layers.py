"""What several layers are worth: the table of docs/evaluation.md, from one command.

    python -m benchmarks.layers                        # the photographs that come with the package
    python -m benchmarks.layers --photographs skimage  # those that come with scikit-image

Every Score-CAM scores as many masks: `--passes` of one layer, or shared out among two or three.
Maps of one layer are computed again with the network's weights shuffled (seed 0), and for the class
after the likeliest: `sanity` and `other class` are the correlations with those, of which less is
better. There are no draws else, but for the order of pixels of equal value (seed 0).
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
import jax.numpy as jnp
import numpy as np
from PIL import Image

from scorecam_jax import Interpolated, grad_cam, metrics, models, samples, score_cam, variants
from scorecam_jax.adapters import with_layers
from scorecam_jax.methods.base import Explanation
from scorecam_jax.metrics.sanity import correlation, shuffle
from scorecam_jax.steps.fuse import FUSIONS, fuse_maps
from scorecam_jax.steps.masks import normalize, resize
from scorecam_jax.study.metering import measure
from scorecam_jax.study.programs import Programs
from scorecam_jax.study.registry import METRICS, Case, Metric
from scorecam_jax.study.results import summarize

# scikit-image's photographs of things, as far as they come with it.
_SKIMAGE = (
    "astronaut.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png",
    "motorcycle_left.png", "rocket.jpg",
)  # fmt: skip


class Photograph(NamedTuple):
    """A photograph as the network takes it, with its boxes if it has any."""

    name: str
    inputs: np.ndarray
    boxes: np.ndarray | None


def main() -> None:
    """Measure, and print the table and the differences from one layer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights")
    parser.add_argument("--photographs", choices=["sample", "skimage"], default="sample")
    parser.add_argument("--passes", type=int, default=64)
    parser.add_argument("--step", type=float, default=0.04, help="of insertion and deletion")
    parser.add_argument("--first", type=int, help="only so many photographs")
    parser.add_argument("--only", help="of the programs: one,two,three,cubic,augmented,gradient")
    parser.add_argument("--output", type=Path, help="where to keep the figures, as JSON")
    asked = parser.parse_args()
    classifier = models.load(asked.model, weights=asked.weights)
    photographs = list(_photographs(asked.photographs, classifier))[: asked.first]
    ways = _ways(asked.passes)
    ways = {name: ways[name] for name in asked.only.split(",")} if asked.only else ways
    rows, chosen = _rows(classifier, photographs, ways, asked.step, asked.output)
    names = list(dict.fromkeys(row["method"] for row in rows))
    found = summarize(rows, names, chosen)
    print(f"{asked.model}, {len(photographs)} photographs, {asked.passes} masks, step {asked.step}")
    print(found.as_text(400))
    print(found.differences_as_text(400))


def _photographs(kind: str, classifier: Any) -> Iterator[Photograph]:
    boxes = samples.annotations() if kind == "sample" else {}
    if kind == "sample":
        paths = list(samples.paths().values())
    else:
        import skimage

        folder = Path(skimage.__file__).parent / "data"
        paths = [folder / name for name in _SKIMAGE]
    width = max((len(each.boxes) for each in boxes.values()), default=0)
    for path in paths:
        image = Image.open(path).convert("RGB")
        carried = None
        if path.stem in boxes:
            own = np.asarray(boxes[path.stem].boxes, float)
            carried = np.zeros((1, width, 4), np.float32)
            carried[0, : len(own)] = classifier.preprocess.boxes(own, image.size)
        yield Photograph(path.stem, np.asarray(classifier.preprocess(image))[None], carried)


def _ways(passes: int) -> dict[str, Callable[..., dict[str, Any]]]:
    """What is compared: programs (model, inputs, targets) -> heatmaps by name."""
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
    """Masks by cubic interpolation, in place of linear."""
    resized = jax.image.resize(maps, (len(maps), *shape), "cubic", antialias=False)
    return normalize(jax.nn.relu(resized), len(shape))


def _augmented(method: Any, model: Any, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean over the image, its mirror image, a shift and an enlargement, mapped back."""
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


def _rows(
    classifier: Any,
    photographs: list[Photograph],
    ways: Mapping[str, Callable[..., Any]],
    step: float,
    output: Path | None,
) -> tuple[list[dict[str, Any]], dict[str, Metric]]:
    model = classifier.model
    shuffled = _shuffled(model)
    ways = {name: jax.jit(way) for name, way in ways.items()}
    predict = jax.jit(lambda model, inputs: jax.nn.softmax(model(inputs)[0]))
    localized = ("energy", "box-iou", "box-acc", "pointing")
    chosen = {name: METRICS[name] for name in localized if photographs[0].boxes is not None}
    for name in ("insertion", "deletion"):
        function = functools.partial(_curve, getattr(metrics, name), step)
        chosen[name] = Metric(function, METRICS[name].better)
    programs = Programs({})
    rows: list[dict[str, Any]] = []
    for photograph in photographs:
        scores = np.asarray(predict(model, photograph.inputs))
        targets = np.argsort(-scores)[:, :2].astype(np.int32)
        for way, explain in ways.items():
            if photograph is photographs[0]:  # compiled
                jax.block_until_ready(explain(model, photograph.inputs, targets))
            began = time.perf_counter()
            maps = jax.block_until_ready(explain(model, photograph.inputs, targets))
            seconds = time.perf_counter() - began
            random = explain(shuffled, photograph.inputs, targets)
            for name, heatmaps in maps.items():
                (figures,) = measure(
                    programs, chosen, "", model, photograph.inputs, heatmaps[:, 0], targets[:, 0],
                    photograph.boxes,
                )  # fmt: skip
                rows.append(
                    {
                        "image": photograph.name, "method": name, "target": int(targets[0, 0]),
                        "score": float(scores.max()), "seconds": seconds, "findings": [],
                        **figures,
                        "sanity": float(correlation(heatmaps[0, 0], random[name][0, 0])),
                        "other class": float(correlation(*heatmaps[0])),
                        "time": seconds,
                    }
                )  # fmt: skip
            print(photograph.name, way, f"{seconds:.2f} s", file=sys.stderr, flush=True)
        if output:  # what an interruption leaves
            output.write_text(json.dumps(rows, indent=1))
    for name in ("sanity", "other class", "time"):
        chosen[name] = Metric(lambda case: None, "less")
    return rows, chosen


def _curve(metric: Callable[..., Any], step: float, case: Case) -> Any:
    return metric(
        case.model, case.inputs, case.heatmaps, case.targets, step=step, key=jax.random.key(0),
        **case.scoring,
    )  # fmt: skip


def _shuffled(model: Any) -> Any:
    leaves, tree = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    mixed = [
        shuffle(key, leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, mixed)


if __name__ == "__main__":
    main()
