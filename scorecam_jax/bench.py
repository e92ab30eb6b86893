"""How fast Score-CAM is on this machine: beside the bare network, and beside other packages."""

import concurrent.futures
import contextlib
import functools
import io
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from scorecam_jax import engine, models
from scorecam_jax.score_cam import score_cam

PEERS = ("pytorch-grad-cam", "torchcam")


def bench(
    name: str,
    photo: Image.Image,
    *,
    weights: str | os.PathLike[str] | None = None,
    batch_sizes: Sequence[int] = (),
    channels: int | None = None,
    repeats: int = 5,
) -> dict[str, Any]:
    """Measure a bundled network bare and inside Score-CAM, in this process.

    Args:
        name: one of `models.names()`.
        photo: what to explain; how many channels it leaves dead decides how much there is to do.
        weights: a checkpoint; None takes those that are installed, or random ones.
        batch_sizes: to try the bare network at; none: 1 to 32, or to 512 on an accelerator.
        channels: explain through this many channels only.
        repeats: runs of each; the median counts.

    Returns:
        A dictionary of figures, ready for JSON: seconds, images a second, bytes.
    """
    known = weights or models.packaged_weights(name)
    classifier = models.load(name, known) if known else models.random(name)
    inputs = jnp.asarray(classifier.preprocess(photo))[None]
    batch_sizes = batch_sizes or [2**n for n in range(6 if _on_cpu() else 10)]
    forward = jax.jit(lambda model, inputs: model(inputs)[0])
    throughput = {}
    for size in batch_sizes:
        batch = jnp.repeat(inputs, size, 0)
        seconds = _median(lambda: forward(classifier.model, batch), repeats)  # noqa: B023
        throughput[size] = size / seconds
    flops = (forward.lower(classifier.model, inputs).compile().cost_analysis() or {}).get(
        "flops", 0
    )

    start = time.perf_counter()
    explain = jax.jit(functools.partial(score_cam, channels=channels))
    compiled = explain.lower(classifier.model, inputs).compile()
    compile_seconds = time.perf_counter() - start
    seconds = _median(lambda: compiled(classifier.model, inputs), repeats)
    explanation = compiled(classifier.model, inputs)
    maps = np.asarray(explanation.activations, np.float32)
    live = int((np.ptp(maps, axis=tuple(range(1, maps.ndim - 1))) > 0).sum())
    passes = min(live, channels or live) + 1  # and one for all the empty masks
    best = max(throughput.values())
    peak = _peak_flops()
    return {
        "model": name,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "forward_images_per_second": throughput,
        "batch_size": engine.default_batch_size(),
        "channels": maps.shape[-1],
        "live_channels": live,
        "passes": passes,
        "score_cam_seconds": seconds,
        "score_cam_passes_per_second": passes / seconds,
        "share_of_forward": passes / seconds / best,
        "compile_seconds": compile_seconds,
        "peak_temporary_bytes": getattr(compiled.memory_analysis(), "temp_size_in_bytes", None),
        "flops_per_image": flops,
        "share_of_peak_flops": flops * passes / seconds / peak,
    }


def compare(
    name: str,
    photo: Image.Image,
    *,
    weights: str | os.PathLike[str] | None = None,
    peers: Sequence[str] = PEERS,
    repeats: int = 3,
) -> dict[str, dict[str, Any]]:
    """Time whole maps against other packages, on the same weights, layer and photograph.

    Every contender has a process of its own, with all cores; they take turns.

    Returns:
        For each contender the median `seconds` of a map, the growth of its process's peak memory
        over what it held before the first map, `bytes`, and the `speedup` of scorecam_jax; or
        why it did not run, as `error`.
    """
    figures: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        weights = weights or models.packaged_weights(name) or stack.enter_context(_random(name))
        workers = {}
        for contender in ("scorecam_jax", *peers):
            executor = concurrent.futures.ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn")
            )
            workers[contender] = stack.enter_context(executor)
        for turn in range(repeats + 1):  # the first turn compiles, and does not count
            for contender, worker in list(workers.items()):
                try:
                    run = worker.submit(_timed, contender, name, weights, photo).result()
                except Exception as error:
                    figures[contender] = {"error": f"{type(error).__name__}: {error}"}
                    del workers[contender]
                    continue
                seconds, growth = run
                row = figures.setdefault(contender, {"all_seconds": []})
                row["all_seconds"] += [seconds] if turn else []
                row["bytes"] = growth
    for row in figures.values():
        if "error" not in row:
            row["seconds"] = statistics.median(row["all_seconds"])
    ours = figures["scorecam_jax"].get("seconds")
    for row in figures.values():
        if ours and "seconds" in row:
            row["speedup"] = row["seconds"] / ours
    return figures


@contextlib.contextmanager
def _random(name: str) -> Iterator[str]:
    """A checkpoint of a network with random weights, for as long as it is needed."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"{name}.pth")
        torch.save(getattr(_import_torchvision().models, name)().state_dict(), path)
        yield path


def _timed(contender: str, name: str, weights: Any, photo: Image.Image) -> tuple[float, int]:
    explain, held = _contender(contender, name, weights, photo.tobytes(), photo.size)
    start = time.perf_counter()
    explain()
    return time.perf_counter() - start, _peak_memory() - held


@functools.cache
def _contender(
    contender: str, name: str, weights: Any, pixels: bytes, size: tuple[int, int]
) -> tuple[Callable[[], Any], int]:
    photo = Image.frombytes("RGB", size, pixels)
    classifier = models.load(name, weights)
    inputs = np.asarray(classifier.preprocess(photo))[None]
    if contender == "scorecam_jax":
        explain = _ours(classifier.model, inputs)
    else:
        explain = {"pytorch-grad-cam": _grad_cam, "torchcam": _torchcam}[contender](
            *_torch_network(name, weights, inputs)
        )
    return explain, _peak_memory()


def _ours(model: Any, inputs: np.ndarray) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(score_cam(model, inputs))


def _grad_cam(network: Any, layer: Any, inputs: Any) -> Callable[[], Any]:
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    target = ClassifierOutputTarget(int(network(inputs).argmax()))

    def explain() -> Any:
        with ScoreCAM(network, [layer]) as cam, contextlib.redirect_stderr(io.StringIO()):
            return cam(inputs, [target])

    return explain


def _torchcam(network: Any, layer: Any, inputs: Any) -> Callable[[], Any]:
    from torchcam.methods import ScoreCAM

    target = int(network(inputs).argmax())

    def explain() -> Any:
        import torch

        with ScoreCAM(network, layer) as cam, torch.no_grad():
            network(inputs)
            return cam(target)

    return explain


def _torch_network(name: str, weights: Any, inputs: np.ndarray) -> tuple[Any, Any, Any]:
    """The same network in PyTorch, the same layer, and the inputs, in its fastest layout."""
    import torch

    _import_torchvision()
    torch.set_num_threads(os.cpu_count() or 1)
    if name == "efficientnet_lite0":
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite0")
        path = weights or models.packaged_weights(name)
    else:
        network, path = getattr(_import_torchvision().models, name)(), weights
    network.load_state_dict(torch.load(path, weights_only=True))
    network = network.eval().to(memory_format=torch.channels_last)
    if name == "efficientnet_lite0":
        # Its head's ReLU6 is one module for the whole network: give the head one of its own.
        network._bn1 = layer = torch.nn.Sequential(network._bn1, torch.nn.ReLU6())
    else:
        layer = network.features[29] if name == "vgg16" else network.layer4
    images = torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())
    return network, layer, images.to(memory_format=torch.channels_last)


@functools.cache
def _import_torchvision() -> Any:
    import torch

    try:
        import torchvision
    except RuntimeError:  # built for other devices than torch is, so that its operators are missing
        _import_torchvision.operators = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[attr-defined]
        for name in ("nms", "qnms"):
            _import_torchvision.operators.define(f"{name}(Tensor a, Tensor b, float c) -> Tensor")  # type: ignore[attr-defined]
        import torchvision
    return torchvision


def _median(run: Callable[[], Any], repeats: int) -> float:
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _peak_flops(size: int = 2048) -> float:
    """What a large float32 matrix product reaches here, in operations a second."""
    matrix = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / _median(lambda: product(matrix, matrix), 5)


def _peak_memory() -> int:
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"
