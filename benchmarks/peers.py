"""Time other packages' Score-CAM on the same network, weights, layer and input.

PyTorch and the packages are imported only in separate processes.
"""

import concurrent.futures
import contextlib
import functools
import importlib
import io
import math
import multiprocessing
import operator
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from benchmarks.memory import peak_memory
from scorecam_jax import models
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.models.loading import counterpart, files_of

Inputs = Float[np.ndarray, "1 height width 3"]
Contender = Callable[[str, Any, Inputs], Callable[[], Any]]


def race(
    name: str,
    inputs: Inputs,
    *,
    weights: str | os.PathLike[str] | None = None,
    contenders: Mapping[str, Contender] | None = None,
    repeats: int = 3,
    progress: Callable[[str], None] = lambda task: None,
) -> dict[str, dict[str, Any]]:
    """Time whole maps of several packages, alternately.

    Each package has its own process, all cores (or the GPU, where JAX has one) and the same
    weights. Its first map, which compiles, does not count.

    Args:
        name: one of `models.names()`.
        inputs: (1, height, width, 3), preprocessed.
        weights: a checkpoint, or a folder with one. None uses the installed weights, or random ones
            if no weights for PyTorch are installed.
        contenders: functions (name, weights, inputs) -> (a function that makes a map), by name;
            they must pickle. None: `CONTENDERS`. The others are compared with the first.
        repeats: the number of timed maps of each package; the median counts.
        progress: called with a description of the next step.

    Returns:
        For each contender: `seconds`, the median per map; `all_seconds`; `times`, its seconds
        divided by the first contender's; and `bytes`, the rise of its process's peak memory above
        that of loading, caused by its maps and their compilation. For one that failed: `error`.
    """
    contenders = CONTENDERS if contenders is None else contenders
    rows: dict[str, dict[str, Any]] = {who: {"all_seconds": []} for who in contenders}
    with contextlib.ExitStack() as stack:
        weights = files_of(weights).weights if weights else _packaged(name)
        weights = weights or stack.enter_context(_random(name))
        processes = {}
        for who in contenders:
            spawn = multiprocessing.get_context("spawn")
            executor = concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn)
            processes[who] = stack.enter_context(executor)
        for turn in range(-1, repeats + 1):
            for who, process in processes.items():
                if "error" in rows[who]:
                    continue
                progress(f"{who}, run {turn} of {repeats}" if turn > 0 else f"{who}, warming up")
                try:
                    if turn < 0:
                        process.submit(_prepare, contenders[who], name, weights, inputs).result()
                        continue
                    seconds, rows[who]["bytes"] = process.submit(_map).result()
                    rows[who]["all_seconds"] += [seconds] if turn else []
                except Exception as error:  # one contender's failure must not stop the others
                    rows[who] = {"error": f"{type(error).__name__}: {error}"}
    for row in rows.values():
        if "error" not in row:
            row["seconds"] = statistics.median(row["all_seconds"])
    first = next(iter(rows.values())).get("seconds")
    for row in rows.values():
        if first and "seconds" in row:
            row["times"] = row["seconds"] / first
    return rows


_explain: Callable[[], Any]  # in a contender's process: makes its map
_held: int


def _prepare(contender: Contender, name: str, weights: Any, inputs: Inputs) -> None:
    global _explain, _held
    _explain = contender(name, weights, inputs)
    _held = peak_memory()


def _map() -> tuple[float, int]:
    began = time.perf_counter()
    _explain()
    return time.perf_counter() - began, peak_memory() - _held


def _scorecam_jax(name: str, weights: Any, inputs: Inputs) -> Callable[[], Any]:
    model = (models.load(name, weights) if weights else models.random(name)).model
    return lambda: jax.block_until_ready(score_cam(model, inputs))


def _pytorch_grad_cam(name: str, weights: Any, inputs: Inputs) -> Callable[[], Any]:
    network, (layer, tokens), images = _torch_network(name, weights, inputs)
    from pytorch_grad_cam import ScoreCAM  # needs the torchvision that was imported above
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    target = ClassifierOutputTarget(int(network(images).argmax()))

    def explain() -> Any:
        explainer = ScoreCAM(network, [layer], reshape_transform=tokens)
        with explainer as cam, contextlib.redirect_stderr(io.StringIO()):
            return cam(images, [target])

    return explain


def _torchcam(name: str, weights: Any, inputs: Inputs) -> Callable[[], Any]:
    import torch
    from torchcam.methods import ScoreCAM

    network, (layer, tokens), images = _torch_network(name, weights, inputs)
    target = int(network(images).argmax())

    def explain() -> Any:
        with ScoreCAM(network, layer, reshape_transform=tokens) as cam, torch.no_grad():
            network(images)
            return [heatmap.cpu() for heatmap in cam(target)]

    return explain


CONTENDERS: dict[str, Contender] = {
    "scorecam_jax": _scorecam_jax,
    "pytorch-grad-cam": _pytorch_grad_cam,
    "torchcam": _torchcam,
}


def _torch_network(name: str, weights: Any, inputs: Inputs) -> tuple[Any, Any, Any]:
    """The network in PyTorch, in the fastest layout; the explained layer; and the input.

    The layer comes with the function that makes maps of its tokens; None if it returns maps.
    """
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    network = _counterpart(name)
    tensors = {key: value.copy() for key, value in models.load_checkpoint(weights).items()}
    network.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})
    twin = counterpart(name)
    layer = network.get_submodule(twin.layer)
    if twin.activation:
        layer = torch.nn.Sequential(layer, getattr(torch.nn, twin.activation)())
        network.set_submodule(twin.layer, layer)
    tokens = None if twin.prefix is None else functools.partial(_maps_of, twin.prefix)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy()).to(device)
    layout = torch.channels_last
    network = network.eval().to(device, memory_format=layout)
    return network, (layer, tokens), images.to(memory_format=layout)


def _maps_of(prefix: int, tokens: Any) -> Any:
    """The tokens of a layer, (N, tokens, C), as the maps of its patches, (N, C, side, side)."""
    patches = tokens[:, prefix:].transpose(1, 2)
    return patches.unflatten(2, (math.isqrt(patches.shape[2]),) * 2)


def _packaged(name: str) -> Path | None:
    """Weights installed with a package; None for exports, which PyTorch does not read."""
    path = models.packaged_weights(name)
    return None if path is None or path.suffix == ".onnx" else path


def _counterpart(name: str) -> Any:
    """The network in PyTorch, with random weights."""
    twin = counterpart(name)
    _import_torchvision()
    make = operator.attrgetter(twin.make)(importlib.import_module(twin.module))
    return make(*twin.arguments, **twin.options)


@contextlib.contextmanager
def _random(name: str) -> Iterator[str | None]:
    """A temporary checkpoint of a network with random weights; None without PyTorch."""
    try:
        import torch

        network = _counterpart(name)
    except ImportError:  # then no contender needs one
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "random.pth")
        torch.save(network.state_dict(), path)
        yield path


@functools.cache
def _import_torchvision() -> Any:
    import torch

    try:
        import torchvision
    except RuntimeError:
        # Built for other devices than torch, it refuses names that have no schema.
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        torchvision.operators = operators  # the schemas vanish with it
    return torchvision
