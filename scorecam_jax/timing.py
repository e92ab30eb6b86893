"""The speed of Score-CAM on this machine, compared with the bare network."""

import contextlib
import functools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.engine.tuning import default_batch_size, device_of
from scorecam_jax.methods.base import Explanation
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.methods.variants import OFFICIAL
from scorecam_jax.metrics.sanity import correlation
from scorecam_jax.models import Classifier
from scorecam_jax.steps.channels import Deviation
from scorecam_jax.steps.masks import is_live

Inputs = Float[Array, "1 height width 3"]


def bench(
    classifier: Classifier,
    photo: Image.Image,
    *,
    batch_sizes: Sequence[int] = (),
    channels: int | None = None,
    repeats: int = 5,
    progress: Callable[[str], None] = lambda task: None,
) -> dict[str, Any]:
    """Time a network alone and inside Score-CAM, in alternating runs.

    Args:
        classifier: a classifier from `models.load` or `models.random`.
        photo: the image to explain. The fewer channels are live on it, the fewer passes are needed.
        batch_sizes: the batch sizes for the bare network. If empty: the powers of two from 1 to 32,
            or to 512 on an accelerator.
        channels: the number of channels, as in `Deviation(channels)`; None uses all.
        repeats: the number of timed runs of each program; the median counts.
        progress: called with a description of each task before it starts.

    Returns:
        A dictionary of figures, ready for JSON, in seconds, bytes and operations. `passes` is the
        number of masked inputs of the network: one per live channel and an empty one.
        `passes_per_second_at` has the rates for a few channels at half, once and twice the default
        batch size; `faster_batch_size` is the fastest of these if it is over 1.3 times as fast as
        the default, or None.
        `five_targets` is the time for maps of the five likeliest classes together, divided by the
        time for one class.
        `forward_images_per_second` is None at a batch size for which memory does not suffice.
        `peak_flops` is the rate of a large product of float32 matrices on this device.
        `share_of_peak_flops` is the masked passes' rate divided by `peak_flops`, in the operations
        that XLA counts for a single image (None if XLA counts none). It can exceed 1 if the network
        uses an algorithm with fewer operations, such as Winograd.
    """
    on_cpu = device_of().platform == "cpu"
    sizes = list(batch_sizes or [2**n for n in range(6 if on_cpu else 10)])
    model, inputs = classifier.model, jnp.asarray(classifier.preprocess(photo))[None]
    forward = jax.jit(lambda model, inputs: model(inputs)[0])
    progress("compiling Score-CAM")
    began = time.perf_counter()
    chosen = None if channels is None else Deviation(channels)
    explain = jax.jit(functools.partial(score_cam, channels=chosen))
    compiled = explain.lower(model, inputs).compile()
    compile_seconds = time.perf_counter() - began
    explanation = compiled(model, inputs)
    classes = explanation.outputs.shape[1]
    five = jax.lax.top_k(explanation.outputs, min(5, classes))[1]

    matrix = jnp.ones((2048, 2048) if on_cpu else (8192, 8192))
    networks = {}
    for size in dict.fromkeys([*sizes, 1]):
        progress(f"compiling the network for batches of {size}")
        if (network := _compile_if_it_fits(forward, model, inputs, size)) is not None:
            networks[size] = network
    runs: dict[Any, Callable[[], Any]] = {
        size: functools.partial(networks[size], model, jnp.repeat(inputs, size, 0))
        for size in sizes
        if size in networks
    }
    runs["Score-CAM"] = functools.partial(compiled, model, inputs)
    default = default_batch_size(model, inputs)
    # With the empty one, masks that fill chunks of each size.
    few = min(explanation.activations.shape[-1], 8 * default - 1)
    around = [size for size in (default // 2, default, 2 * default) if size]
    for size in around:
        progress(f"compiling Score-CAM for {size} masked inputs at a time")
        some = jax.jit(functools.partial(score_cam, channels=Deviation(few), batch_size=size))
        if (program := _compile_if_it_fits(some, model, inputs, 1)) is not None:
            runs[f"{size} at a time"] = functools.partial(program, model, inputs)
    runs["five targets"] = functools.partial(explain, model, inputs, five)
    runs["matrices"] = functools.partial(jax.jit(jnp.matmul), matrix, matrix)
    seconds = take_turns(runs, repeats, progress)

    # For a single image, XLA uses none of the shortcuts that reduce the count for a batch.
    flops = (networks[1].cost_analysis() or {}).get("flops", 0)
    live = int(is_live(OFFICIAL.prepare(explanation.activations)).sum())
    passes = min(live, channels or live) + 1
    images_per_second = {size: size / seconds[size] if size in runs else None for size in sizes}
    best = max((rate for rate in images_per_second.values() if rate), default=None)
    rate = passes / seconds["Score-CAM"]
    rates_around = {
        size: (min(few, live) + 1) / seconds[name]
        for size in around
        if (name := f"{size} at a time") in seconds
    }
    peak = 2 * len(matrix) ** 3 / seconds["matrices"]
    return {
        "device": device_of().device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "forward_images_per_second": images_per_second,
        "channels": explanation.activations.shape[-1],
        "live_channels": live,
        "batch_size": default,
        "passes_per_second_at": rates_around,
        "faster_batch_size": _much_faster(rates_around, default),
        "passes": passes,
        "seconds": seconds["Score-CAM"],
        "five_targets": seconds["five targets"] / seconds["Score-CAM"],
        "passes_per_second": rate,
        "share_of_forward": rate / best if best else None,
        "compile_seconds": compile_seconds,
        "temporary_bytes": getattr(compiled.memory_analysis(), "temp_size_in_bytes", None),
        "flops_per_pass": flops,
        "peak_flops": peak,
        "share_of_peak_flops": flops * rate / peak if flops else None,
    }


def _much_faster(rates: Mapping[int, float], default: int) -> int | None:
    """The batch size of the highest rate, if that is over 1.3 times the default's."""
    fastest = max(rates, key=lambda size: rates[size], default=default)
    return fastest if rates and rates[fastest] > 1.3 * rates.get(default, 0) else None


def _compile_if_it_fits(
    forward: Any, model: Any, inputs: Inputs, size: int
) -> jax.stages.Compiled | None:
    """The network compiled for a batch size; None if there is not enough memory to run it."""
    batch = jax.ShapeDtypeStruct((size, *inputs.shape[1:]), inputs.dtype)
    try:
        compiled = forward.lower(model, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    needed = size * inputs.nbytes
    if (stated := compiled.memory_analysis()) is not None:
        needed += stated.temp_size_in_bytes + stated.output_size_in_bytes
    free = _free_memory()
    return compiled if free is None or needed < free else None


def _free_memory() -> int | None:
    """The device's free bytes; None if the device does not report them."""
    stated = device_of().memory_stats()
    if stated and "bytes_limit" in stated:
        return stated["bytes_limit"] - stated.get("bytes_in_use", 0)
    free = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(1024 * next(int(line.split()[1]) for line in lines if "MemAvailable" in line))
    with contextlib.suppress(OSError, ValueError):  # a container's limit
        most, used = (
            int(Path("/sys/fs/cgroup", name).read_text())
            for name in ("memory.max", "memory.current")
        )
        free.append(most - used)
    return min(free, default=None)


def compare_with_exact(
    model: AnyModel,
    explainers: Mapping[str, Callable[[Inputs, Any], Explanation]],
    images: Sequence[Inputs],
    progress: Callable[[str], None] = lambda task: None,
) -> dict[str, dict[str, Any]]:
    """Measure how close maps are to the exact ones, and how fast the explainers are.

    Args:
        model: the model. The five likeliest classes of each image are explained together.
        explainers: functions (inputs, targets) -> Explanation, by name. The first is exact.
        images: inputs of one image each. Each is explained by all explainers in turn; a first run,
            which compiles, does not count.
        progress: called with a description of the next step.

    Returns:
        For each explainer, the median `seconds` per image, and for the `first` class and the `next`
        ones, over images and classes: the mean `correlation` (Pearson's) with the exact map, the
        `least_correlation`, and the `largest_difference` of any pixel.
    """
    seconds: dict[str, list[float]] = {name: [] for name in explainers}
    likeness: dict[str, list[Array]] = {name: [] for name in explainers}
    difference: dict[str, list[Array]] = {name: [] for name in explainers}
    for number, image in enumerate([images[0], *images]):
        outputs = model(image)[0]
        targets = jax.lax.top_k(outputs, min(5, outputs.shape[1]))[1]
        expected = None
        for name, explain in explainers.items():
            progress(f"{name}, image {number} of {len(images)}" if number else f"compiling {name}")
            began = time.perf_counter()
            found = jax.block_until_ready(explain(image, targets)).heatmap[0]
            elapsed = time.perf_counter() - began
            expected = found if expected is None else expected
            if number:
                seconds[name].append(elapsed)
                likeness[name].append(jax.vmap(correlation)(found, expected))
                difference[name].append(jnp.abs(found - expected).max((1, 2)))

    def likenesses(name: str, classes: slice) -> dict[str, float]:
        alike = jnp.stack(likeness[name])[:, classes]
        return {
            "correlation": float(alike.mean()),
            "least_correlation": float(alike.min()),
            "largest_difference": float(jnp.stack(difference[name])[:, classes].max()),
        }

    return {
        name: {
            "seconds": statistics.median(seconds[name]),
            "first": likenesses(name, slice(1)),
            "next": likenesses(name, slice(1, None)),
        }
        for name in explainers
    }


def take_turns(
    runs: Mapping[Any, Callable[[], Any]],
    repeats: int,
    progress: Callable[[str], None] = lambda task: None,
) -> dict[Any, float]:
    """Return the median seconds of each run. Runs alternate, so that all have the same load.

    The first round, which compiles, does not count.
    """
    seconds: dict[Any, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            what = f"batches of {name}" if isinstance(name, int) else name
            progress(f"{what}, run {turn} of {repeats}" if turn else f"{what}, warming up")
            began = time.perf_counter()
            jax.block_until_ready(run())
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def blobs(seed: int = 0) -> Image.Image:
    """Return a picture of smooth coloured blobs, for timings without a photograph.

    It does not have the same dead channels as a photograph.

    >>> blobs().size
    (512, 384)
    """
    colours = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(colours).resize((512, 384), Image.Resampling.BICUBIC)
