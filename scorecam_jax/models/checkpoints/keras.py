"""Keras files: their tensors in PyTorch's order of axes, and their preprocessing.

Three formats are read: `.keras`, a zip with the configuration and the weights of Keras 3;
`.weights.h5`, these weights alone; and the older `.h5` or `.hdf5`, with or without a configuration.
"""

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float, Num

from scorecam_jax.models.checkpoints.errors import BadCheckpointError, short
from scorecam_jax.models.checkpoints.settings import Settings

Checkpoint = Mapping[str, Num[np.ndarray, "..."]]
Affine = tuple[Float[np.ndarray, " channels"], Float[np.ndarray, " channels"]]

SUFFIXES = (".keras", ".h5", ".hdf5")

# Keras's names for a layer's weights, in Keras's order, by the class of the layer.
_VARIABLES = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "normalization": ("mean", "variance", "count"),
    "layer_normalization": ("gamma", "beta"),
    "layer_scale": ("gamma",),
}
# PyTorch's names for them.
_NAMES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

# Keras's epsilon in the batch norms of ResNets and DenseNets, minus PyTorch's.
_MORE_EPSILON = 1.001e-5 - 1e-5
# The square roots of ImageNet's standard deviations, which Keras's EfficientNets have as variances.
_ROOTS = np.sqrt([0.229, 0.224, 0.225])


def load_keras(path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a Keras file: convolutions OIHW, matrices (outputs, inputs).

    A layer's kernel or scale is named `LAYER.weight`, its bias or shift `LAYER.bias`, and the
    statistics of a batch norm `LAYER.running_mean` and `LAYER.running_var`.

    Raises:
        ImportError: the package h5py is not installed.
        FileNotFoundError: there is no such file.
        ValueError: it is not a Keras file, or it is damaged.
    """
    with _opened(path) as (file, _):
        found: dict[str, np.ndarray] = {}
        for layer, variable, dataset in _variables(file):
            name, value = _as_pytorch(variable, _values(dataset))
            if f"{layer}.{name}" in found:
                raise BadCheckpointError(f"the weights {short(f'{layer}.{name}')} occur twice")
            found[f"{layer}.{name}"] = value
    if not found:
        raise ValueError(f"{path} holds no weights of named Keras layers")
    return found


def settings(path: Path) -> Settings:
    """The preprocessing in a Keras file: the input size, and the mean and std of its layers.

    Raises:
        ImportError, FileNotFoundError, ValueError: as in `load_keras`.
    """
    with _opened(path) as (file, config):
        weights = {
            f"{layer}.{variable}": _values(dataset)
            for layer, variable, dataset in _variables(file)
            if layer.startswith("normalization")
        }
    layers = _layers(config)
    told: dict[str, Any] = {}
    shape = _inputs_shape(layers)
    if shape is not None:
        told["size"] = shape
    affine = _rescaled(layers, weights) if layers else _of_weights_alone(weights)
    if affine is not None:
        factor, shift = affine
        told["mean"] = tuple(map(float, -shift / factor))
        told["std"] = tuple(map(float, 1 / factor))
    return Settings("keras", preprocess=told)


def folded(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Fold biases into the batch norms that follow, and adjust variances to PyTorch's epsilon."""
    found = dict(checkpoint)
    for name in checkpoint:
        layer = name.removesuffix(".running_mean")
        if layer != name:
            found[f"{layer}.running_var"] = found[f"{layer}.running_var"] + _MORE_EPSILON
            bias = found.pop(f"{re.sub('bn$', 'conv', layer)}.bias", None)
            if bias is not None:
                found[name] = found[name] - bias
    return found


def of_rgb(checkpoint: Checkpoint, name: str) -> dict[str, np.ndarray]:
    """The checkpoint with its first convolution, `name`, changed from BGR to RGB."""
    kernel = checkpoint.get(name)
    return {**checkpoint, **({} if kernel is None else {name: kernel[:, ::-1]})}


def unnormalized(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """The checkpoint without the layer that normalises inputs, which bundled networks lack."""
    return {
        name: value for name, value in checkpoint.items() if not name.startswith("normalization")
    }


# Keras's preprocessing, in RGB, for networks without layers for it: mode "caffe".
CAFFE = {"mean": (123.68, 116.779, 103.939), "std": (1.0,) * 3, "fit": "stretch", "zoom": 1.0}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A file's weights, and its configuration if it has one."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "Keras files require the package h5py: pip install 'scorecam_jax[h5]'"
        ) from error
    shown = short(str(path), 200)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {shown}: give the path of an existing file")
    try:
        with path.open("rb") as opened:
            content: BinaryIO = opened
            config: dict[str, Any] = {}
            if path.suffix.lower() == ".keras":
                content, config = _unzipped(opened)
            with h5py.File(content, "r") as file:
                yield file, config or _json(file.attrs.get("model_config", "{}"))
    except BadCheckpointError as error:
        raise ValueError(f"cannot read {shown}: {error}") from None
    except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        kind = type(error).__name__
        raise ValueError(
            f"{shown} is not a Keras file, or it is damaged or truncated ({kind})"
        ) from None


def _unzipped(file: BinaryIO) -> tuple[io.BytesIO, dict[str, Any]]:
    with zipfile.ZipFile(file) as archive:
        names = ("config.json", "model.weights.h5")
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if not sizes.keys() >= set(names):
            raise BadCheckpointError(f"it lacks {' or '.join(names)}")
        whole = file.seek(0, io.SEEK_END)
        if sum(sizes[name] for name in names) > 100 * whole:
            raise BadCheckpointError("it grows more than a hundredfold when it is unpacked")
        return io.BytesIO(archive.read(names[1])), _json(archive.read(names[0]))


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadCheckpointError("its configuration is not a JSON object")
    return found


def _variables(file: Any) -> Iterator[tuple[str, str, Any]]:
    """Each weight's layer, name and dataset; links are not followed."""
    import h5py

    groups: dict[str, Any] = {}
    datasets: dict[str, Any] = {}

    def visit(path: str, found: Any) -> None:
        (datasets if isinstance(found, h5py.Dataset) else groups)[path] = found

    file.visititems(visit)
    for path, group in groups.items():
        if "weight_names" in group.attrs:  # the older format
            for name in map(_text, group.attrs["weight_names"]):
                dataset = datasets.get(f"{path}/{name}")
                if dataset is None:
                    raise BadCheckpointError(f"damaged: the weights {short(name)} are missing")
                layer, _, variable = name.partition(":")[0].rpartition("/")
                is_scale = variable.lower().startswith("variable")
                yield layer, "gamma" if is_scale else variable, dataset
        elif path.endswith("/vars") and "name" in group.attrs:
            kind = re.sub(r"_\d+$", "", path.split("/")[-2])
            variables = _VARIABLES.get(kind, ("kernel", "bias"))
            # Datasets are named by numbers.
            for number, variable in enumerate(variables[: len(group)]):
                dataset = datasets.get(f"{path}/{number}")
                if dataset is not None:
                    is_depthwise = kind == "depthwise_conv2d" and variable == "kernel"
                    variable = "depthwise_kernel" if is_depthwise else variable
                    yield _text(group.attrs["name"]), variable, dataset


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _values(dataset: Any) -> np.ndarray:
    """A dataset's numbers; BadCheckpointError unless all are in the file, uncompressed."""
    if dataset.dtype.kind not in "fiu" or dataset.is_virtual or dataset.external:
        raise BadCheckpointError(f"{short(dataset.name)} holds no numbers of its own")
    if dataset.id.get_storage_size() < dataset.nbytes:
        raise BadCheckpointError(
            f"{short(dataset.name)} is incomplete, or compressed, which Keras files are not"
        )
    return np.asarray(dataset[()])


def _as_pytorch(variable: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """A weight's name in PyTorch, and its values in PyTorch's order of axes."""
    if variable == "depthwise_kernel" or (value.ndim == 4 and value.shape[3] == 1):
        value = value.transpose(2, 3, 0, 1)
    elif value.ndim == 4:
        value = value.transpose(3, 2, 0, 1)
    elif value.ndim == 2:
        value = value.T
    return _NAMES.get(variable, variable), value


def _layers(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The class and the configuration of each layer, in order."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, Mapping) else None
    return [
        (str(layer.get("class_name")), told)
        for layer in (layers if isinstance(layers, list) else [])
        if isinstance(layer, Mapping) and isinstance(told := layer.get("config"), Mapping)
    ]


def _inputs_shape(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[int, int] | None:
    """The height and width of the input, if they are fixed."""
    for kind, told in layers:
        shape = told.get("batch_shape", told.get("batch_input_shape"))
        if kind == "InputLayer" and isinstance(shape, list) and len(shape) == 4:
            sides = shape[1:3]
            if all(isinstance(side, int) and 0 < side <= 10_000 for side in sides):
                return sides[0], sides[1]
    return None


def _rescaled(
    layers: Sequence[tuple[str, Mapping[str, Any]]], weights: Mapping[str, np.ndarray]
) -> Affine | None:
    """The factor and shift of the leading layers that normalise inputs; None if there are none."""
    factor, shift = np.ones(3), np.zeros(3)
    found = False
    for kind, told in layers:
        if kind == "InputLayer":
            continue
        if kind == "Rescaling":
            scale, offset = _three(told.get("scale")), _three(told.get("offset", 0.0))
            factor, shift = factor * scale, shift * scale + offset
        elif kind == "Normalization":
            name = told.get("name")
            mean = _three(told.get("mean"), weights.get(f"{name}.mean"))
            variance = _three(told.get("variance"), weights.get(f"{name}.variance"))
            deviation = np.maximum(np.sqrt(variance), 1e-7)
            factor, shift = factor / deviation, (shift - mean) / deviation
        else:
            break
        found = True
    return (factor, shift) if found else None


def _of_weights_alone(weights: Mapping[str, np.ndarray]) -> Affine | None:
    """As `_rescaled`, for an EfficientNet's weights without a configuration.

    With ImageNet's weights, the layer's deviations are square roots, and Keras divides by them
    a second time.
    """
    names = {name.rpartition(".")[0] for name in weights}
    if len(names) != 1:
        return None
    (name,) = names
    mean = _three(None, weights.get(f"{name}.mean"))
    deviation = np.sqrt(_three(None, weights.get(f"{name}.variance")))
    if np.allclose(deviation, _ROOTS, atol=1e-4):
        deviation = deviation * _ROOTS
    return 1 / 255 / deviation, -mean / deviation


def _three(value: Any, otherwise: Any = None) -> Float[np.ndarray, " channels"]:
    """One number per channel, from a number, a list, or an array as Keras serialises it."""
    if isinstance(value, Mapping):
        told = value.get("config")
        value = told.get("value") if isinstance(told, Mapping) else None
    value = otherwise if value is None else value
    try:
        numbers = np.asarray(value, float).reshape(-1)
        return np.broadcast_to(numbers, 3).copy()
    except (TypeError, ValueError):
        raise BadCheckpointError(
            "a layer that normalises inputs does not have one number, or one for each of three "
            "channels"
        ) from None
