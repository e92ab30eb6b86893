"""Reading PyTorch and safetensors checkpoints into NumPy, without either library."""

import collections
import io
import json
import math
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")

_TORCH_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the tensors of a `.pth`, `.pt` or `.safetensors` file.

    Nothing in the file is executed: a pickle that names anything but tensors and plain Python
    values is refused. A state dict nested under `"state_dict"`, `"model"` or the like is
    unwrapped, a `"module."` before every name is dropped, and entries that are no tensors are
    left out. bfloat16 tensors come back as `jax.numpy.bfloat16` arrays.

    Args:
        path: a file written by `torch.save` (both the zip format and the older one) or by
            safetensors, told apart by its contents and by the suffix `.safetensors`.

    Returns:
        The tensors by name, in the file's order. The arrays are read-only views of the data read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, truncated, no checkpoint, or holds more than tensors.

    References:
        PyTorch's serialization semantics; the safetensors format specification.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint at {str(path)!r}: give the path of an existing file"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{str(path)!r} is empty: was its download interrupted?")
    with path.open("rb") as file:
        try:
            if path.suffix == ".safetensors":
                return _read_safetensors(file)
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return _read_zip(file) if is_zip else _read_legacy(file)
        except _BadCheckpointError as error:
            raise ValueError(f"cannot read {str(path)!r}: {error}") from None
        except Exception as error:  # damaged files make the readers raise nearly anything
            raise ValueError(
                f"{str(path)!r} is not a checkpoint, or a damaged or truncated one ({error!r})"
            ) from error


class _BadCheckpointError(Exception):
    """What is wrong with the file, to be completed by its name."""


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorUnpickler(pickle.Unpickler):
    """Builds tensors and plain values; any other global is an error.

    What `find_class` hands out is immutable (strings, bound methods) or a plain container, so
    that a crafted pickle's BUILD instruction has nothing to alter.
    """

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _TORCH_DTYPES:
            return _TORCH_DTYPES[name]
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): self._rebuild_parameter,
        }
        if (module, name) not in allowed:
            raise _BadCheckpointError(
                f"it holds {module}.{name}, and only tensors are read. If you trust the file, "
                "save its weights alone with PyTorch: torch.save(model.state_dict(), path)"
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, *view = pid
        if kind != "storage" or dtype not in _TORCH_DTYPES.values() or any(view):
            raise _BadCheckpointError(f"unknown kind of stored data {pid!r}")
        if not (isinstance(key, str) and isinstance(size, int) and size >= 0):
            raise _BadCheckpointError(f"damaged description of stored data {pid!r}")
        return self.storages.setdefault(key, _Storage(key, dtype, size))

    def _rebuild_tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, *_unused: Any
    ) -> _Tensor:
        layout = (offset, *shape, *strides)
        if (
            not isinstance(storage, _Storage)
            or len(shape) != len(strides)
            or any(not isinstance(n, int) or n < 0 for n in layout)
        ):
            raise _BadCheckpointError(f"damaged description of a tensor of {storage!r}")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if 0 not in shape and last >= storage.size:
            raise _BadCheckpointError(
                f"a tensor of shape {tuple(shape)} needs {last + 1} stored values, "
                f"{storage.size} are there"
            )
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    def _rebuild_parameter(self, data: Any, *_unused: Any) -> Any:
        return data


def _read_zip(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        index = next((name for name in names if name.split("/")[1:] == ["data.pkl"]), None)
        if index is None:
            raise _BadCheckpointError("a zip file without data.pkl is no PyTorch checkpoint")
        unpickler = _TensorUnpickler(io.BytesIO(archive.read(index)))
        root = unpickler.load()
        folder = index.removesuffix(".pkl")
        data = {
            key: _as_array(archive.read(f"{folder}/{key}"), storage.dtype, storage.size)
            for key, storage in unpickler.storages.items()
        }
    return _resolve(root, data)


def _read_legacy(file: io.BufferedReader) -> dict[str, np.ndarray]:
    if _TensorUnpickler(file).load() != _LEGACY_MAGIC:
        raise _BadCheckpointError("not a PyTorch checkpoint: its first bytes are another format's")
    for _header in ("protocol version", "system information"):
        _TensorUnpickler(file).load()
    unpickler = _TensorUnpickler(file)
    root = unpickler.load()
    keys = _TensorUnpickler(file).load()
    data = {}
    for key in keys if isinstance(keys, list) else ():
        if key not in unpickler.storages:
            raise _BadCheckpointError(f"damaged: data {key!r} belongs to no tensor")
        _, dtype, size = unpickler.storages[key]
        file.read(8)  # the size once more
        data[key] = _as_array(file.read(size * np.dtype(dtype).itemsize), dtype, size)
    return _resolve(root, data)


def _read_safetensors(file: io.BufferedIOBase) -> dict[str, np.ndarray]:
    content = file.read()
    start = 8 + int.from_bytes(content[:8], "little")
    if start > len(content):
        raise _BadCheckpointError("truncated, or no safetensors file: its header is incomplete")
    tensors = {}
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        if not 0 <= first <= last <= len(content) - start:
            raise _BadCheckpointError(f"truncated: the data of {name!r} is not all there")
        dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
        if dtype is None:
            known = ", ".join(_SAFETENSORS_DTYPES)
            raise _BadCheckpointError(f"{name!r} is of {entry['dtype']!r}, wanted one of {known}")
        shape = tuple(entry["shape"])
        values = _as_array(content[start + first : start + last], dtype, math.prod(shape))
        tensors[name] = values.reshape(shape)
    return tensors


def _as_array(raw: bytes, dtype: str, size: int) -> np.ndarray:
    kind = np.dtype(jnp.bfloat16 if dtype == "bfloat16" else dtype)
    if len(raw) != size * kind.itemsize:
        raise _BadCheckpointError(
            f"truncated: {size} values of {dtype} take {size * kind.itemsize} bytes, "
            f"{len(raw)} are there"
        )
    return np.frombuffer(raw, kind)


def _resolve(root: Any, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of the innermost state dict, with their values."""
    while isinstance(root, dict) and not any(isinstance(v, _Tensor) for v in root.values()):
        inner = next((root[key] for key in _WRAPPERS if key in root), None)
        if inner is None:
            break
        root = inner
    entries = root.items() if isinstance(root, dict) else ()
    tensors = {str(name): value for name, value in entries if isinstance(value, _Tensor)}
    if not tensors:
        raise _BadCheckpointError(
            "no tensors by name in it; wanted a state dict, possibly under one of "
            + ", ".join(map(repr, _WRAPPERS))
        )
    if all(name.startswith("module.") for name in tensors):  # written by DataParallel
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return {name: _view(tensor, data) for name, tensor in tensors.items()}


def _view(tensor: _Tensor, data: dict[str, np.ndarray]) -> np.ndarray:
    values = data.get(tensor.storage.key)
    if values is None:
        raise _BadCheckpointError(f"truncated: the data {tensor.storage.key!r} is missing")
    strides = tuple(step * values.itemsize for step in tensor.strides)
    start = tensor.offset if 0 not in tensor.shape else 0
    return np.lib.stride_tricks.as_strided(values[start:], tensor.shape, strides, writeable=False)
