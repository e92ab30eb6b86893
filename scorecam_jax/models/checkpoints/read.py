"""Reading checkpoints into NumPy: PyTorch's and safetensors' without either library."""

import io
import json
import math
import os
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from scorecam_jax.models.checkpoints.errors import BadCheckpointError, short, within
from scorecam_jax.models.checkpoints.exported import load_onnx
from scorecam_jax.models.checkpoints.keras import SUFFIXES as KERAS
from scorecam_jax.models.checkpoints.keras import load_keras
from scorecam_jax.models.checkpoints.pickles import Pairs, Tensor, Unpickler
from scorecam_jax.models.checkpoints.settings import json_object

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")

# The suffix of an index, which states the file of each tensor of a checkpoint in several files.
INDEX = ".index.json"

# Enough for a header of 200,000 tensors.
_LONGEST_HEADER = 2**25
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
    """Read the tensors of a PyTorch, safetensors, ONNX, Keras or NumPy file.

    For a checkpoint in several files, give the index, such as `model.safetensors.index.json`.

    Nothing in the file is executed: a pickle with anything but tensors and plain Python values is
    refused. From PyTorch files, a state dict nested under `"state_dict"`, `"model"` or the like is
    unwrapped, a `"module."` before every name is dropped, and entries that are not tensors are
    left out. bfloat16 tensors are returned as `jax.numpy.bfloat16` arrays.

    Time and memory for PyTorch and safetensors files are bounded by the file's size, whatever it
    contains. An inconsistent file is refused: sizes that disagree, entries that overlap or occur
    twice, one storage with two types.

    Args:
        path: a file written by `torch.save`, in the zip format or the older one; `.safetensors`;
            `.onnx`; `.keras`, `.h5` or `.hdf5`, see `scorecam_jax.models.checkpoints.keras`; or
            `.npz`, as big_vision writes it. Files with other suffixes are read as PyTorch's.
            Suffixes may be in capitals.

    Returns:
        The tensors by name, in the file's order. Arrays from PyTorch and safetensors files are
        read-only.

    Raises:
        FileNotFoundError: there is no such file, or one that an index names is missing.
        ValueError: the file is empty, truncated, not a checkpoint, or holds more than tensors; or
            an index does not fit its files.
        ImportError: the package that reads ONNX or Keras files is not installed.

    References:
        PyTorch's serialization semantics; the safetensors format specification.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return load_onnx(path)
    if suffix in KERAS:
        return load_keras(path)
    if _is_index(path):
        return _load_shards(path)
    shown = short(str(path), 200)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {shown}: give the path of an existing file")
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{shown} is empty: was its download interrupted?")
    with path.open("rb") as file:
        try:
            if suffix == ".safetensors":
                return _read_safetensors(file, size)
            if suffix == ".npz":
                return _read_npz(file, size)
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return _read_zip(file, size) if is_zip else _read_legacy(file, size)
        except BadCheckpointError as error:
            problem = f"cannot read {shown}: {error}"
        except MemoryError:
            raise
        except Exception as error:  # damaged files make the readers raise nearly anything
            # The error's own text may contain the whole file.
            kind = type(error).__name__
            problem = f"{shown} is not a checkpoint, or it is damaged or truncated ({kind})"
    raise ValueError(within(problem))


def shards_of(path: Path) -> tuple[Path, ...]:
    """The files that a checkpoint's index names; empty if the path is not that of an index.

    Raises:
        FileNotFoundError: there is no such index.
        ValueError: the file is not an index, or names files outside its own folder.
    """
    return tuple(dict.fromkeys(_shard_of_each(path).values())) if _is_index(path) else ()


def _is_index(path: Path) -> bool:
    return path.name.lower().endswith(INDEX)


def _shard_of_each(path: Path) -> dict[str, Path]:
    """The file that holds each tensor, according to an index."""
    shown = short(str(path), 200)
    if not path.is_file():
        raise FileNotFoundError(f"no index of a checkpoint at {shown}")
    told = json_object(path).get("weight_map")
    if not told or not isinstance(told, dict):
        raise ValueError(f"{shown} is not an index of a checkpoint: it has no weight_map")
    found = {str(name): str(file) for name, file in told.items()}
    suffix = Path(path.name[: -len(INDEX)]).suffix.lower()
    for file in found.values():
        if Path(file).name != file or Path(file).suffix.lower() != suffix or not file.isprintable():
            raise ValueError(
                f"{shown} names the file {short(file)}, wanted files {suffix} in the same folder"
            )
    return {name: path.with_name(file) for name, file in found.items()}


def _load_shards(path: Path) -> dict[str, np.ndarray]:
    """The tensors of all files that an index names."""
    placed = _shard_of_each(path)
    files = shards_of(path)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise FileNotFoundError(
            f"of the {len(files)} files that {path.name} names, {len(missing)} are not in "
            f"{path.parent}: {', '.join(missing[:3])}{more}. Download them too"
        )
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        held = load_checkpoint(file)
        absent = [name for name, place in placed.items() if place == file and name not in held]
        twice = tensors.keys() & held.keys()
        if absent or twice:
            what = f"has no {short(absent[0])}" if absent else f"repeats {short(min(twice))}"
            raise ValueError(
                f"{file.name} {what}, contrary to {path}: are both from the same checkpoint?"
            )
        tensors |= held
    return tensors


def _read_zip(file: BinaryIO, file_size: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        members = _members(archive, file)
        indices = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
        if len(indices) != 1:
            raise BadCheckpointError(
                f"a zip file with {len(indices) or 'no'} data.pkl is not a PyTorch checkpoint"
            )
        folder = indices[0].removesuffix("data.pkl")
        order = _member(archive, members, f"{folder}byteorder", default=b"little")
        if order not in (b"little", b"big"):
            raise BadCheckpointError("damaged: its byte order is neither little nor big")
        unpickler = Unpickler(io.BytesIO(_member(archive, members, indices[0])), file_size)
        root = unpickler.load()
        data = {
            key: _as_array(
                _member(archive, members, f"{folder}data/{key}"),
                storage.dtype,
                storage.size,
                swapped=order == b"big",
            )
            for key, storage in unpickler.storages.items()
        }
    return _resolve(root, data, file_size)


def _members(archive: zipfile.ZipFile, file: BinaryIO) -> dict[str, zipfile.ZipInfo]:
    """A zip file's members by name; BadCheckpointError if any repeat or overlap."""
    members: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.filename in members:
            raise BadCheckpointError(f"damaged: its member {short(info.filename)} occurs twice")
        members[info.filename] = info
        if info.header_offset < end:
            raise BadCheckpointError(f"damaged: its member {short(info.filename)} overlaps another")
        file.seek(info.header_offset)
        # Before the data: 30 bytes, which end with the lengths of the name and an extra field.
        name_and_extra = struct.unpack("<26x2H", file.read(30))
        end = info.header_offset + 30 + sum(name_and_extra) + info.compress_size
        if end > archive.start_dir:
            raise BadCheckpointError(
                f"truncated or damaged: its member {short(info.filename)} reaches past the end"
            )
    return members


def _member(
    archive: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    name: str,
    default: bytes | None = None,
) -> bytes:
    if name not in members:
        if default is None:
            raise BadCheckpointError(f"truncated: the data {short(name)} is missing")
        return default
    info = members[name]
    # PyTorch never compresses, and an uncompressed member cannot be larger than the file.
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise BadCheckpointError(
            f"its member {short(name)} is compressed, which PyTorch's checkpoints are not: unzip "
            "it, and zip it again without compression (zip -0 -r)"
        )
    return archive.read(info)


def _read_npz(file: BinaryIO, file_size: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        if sum(info.file_size for info in archive.infolist()) > 100 * file_size:
            raise BadCheckpointError("it grows more than a hundredfold when unpacked")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    # NumPy has no bfloat16, and stores its values as two raw bytes.
    return {
        name: value.view(jnp.bfloat16) if value.dtype == "V2" else value
        for name, value in found.items()
    }


def _read_legacy(file: BinaryIO, file_size: int) -> dict[str, np.ndarray]:
    # Check the first pickle before reading a large file completely.
    if _as_int(Unpickler(io.BytesIO(file.read(4096)), file_size).load()) != _LEGACY_MAGIC:
        raise BadCheckpointError("not a PyTorch checkpoint: its first bytes are of another format")
    file.seek(0)
    unpickler = Unpickler(io.BytesIO(file.read()), file_size)
    _, version, system, root, keys = (unpickler.load() for _ in range(5))
    if _as_int(version) != _LEGACY_VERSION:
        raise BadCheckpointError(
            f"damaged: its protocol is {short(version)}, wanted {_LEGACY_VERSION}"
        )
    if _look_up(system, "little_endian") is not True:
        raise BadCheckpointError(
            "it was written on a big-endian machine. Load it there with PyTorch, then save it in "
            "the zip format"
        )
    if type(keys) is not list or not all(isinstance(key, str) for key in keys):
        raise BadCheckpointError("damaged: its list of stored data holds more than names")
    position = unpickler.content.tell()
    storages = dict(unpickler.storages)
    del unpickler
    data = {}
    for key in keys:
        storage = storages.pop(key, None)
        if storage is None:
            what = "occurs twice" if key in data else "belongs to no tensor"
            raise BadCheckpointError(f"damaged: the data {short(key)} {what}")
        file.seek(position)
        count = int.from_bytes(file.read(8), "little", signed=True)
        if count != storage.size:
            raise BadCheckpointError(
                f"truncated or damaged: the data {short(key)} has {count} values in one place "
                f"and {storage.size} in another"
            )
        length = _dtype(storage.dtype).itemsize * count
        data[key] = _as_array(file.read(length), storage.dtype, count)
        position += 8 + length
    return _resolve(root, data, file_size)


def _read_safetensors(file: BinaryIO, file_size: int) -> dict[str, np.ndarray]:
    length = int.from_bytes(file.read(8), "little")
    start = 8 + length
    if start > file_size or length > _LONGEST_HEADER:
        raise BadCheckpointError("truncated, or no safetensors file: its header is incomplete")
    header = json.loads(file.read(length).decode(), object_pairs_hook=_once_each)
    header.pop("__metadata__", None)
    spans = {name: _span(entry["data_offsets"], file_size) for name, entry in header.items()}
    tensors = {}
    end = 0
    for name in sorted(header, key=spans.__getitem__):
        first, last = spans[name]
        if last > file_size - start:
            raise BadCheckpointError(f"truncated: the data of {short(name)} is incomplete")
        if first != end:
            raise BadCheckpointError(
                f"damaged: the data of {short(name)} begins at {first}, but the previous tensor "
                f"ends at {end}"
            )
        end = last
        tensors[name] = _safetensor(name, header[name], file.read(last - first), file_size)
    if end != file_size - start:
        raise BadCheckpointError(
            f"damaged: its tensors take {end} bytes, but there are {file_size - start}"
        )
    return {name: tensors[name] for name in header}


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise BadCheckpointError("damaged: an entry of its header occurs twice")
    return entries


def _span(offsets: Any, file_size: int) -> tuple[int, int]:
    first, last = offsets
    if not 0 <= _as_int(first) <= _as_int(last):
        raise BadCheckpointError(
            f"damaged: the header states a tensor's data from {short(first)} to {short(last)}"
        )
    return first, last


def _safetensor(name: str, entry: dict[str, Any], raw: bytes, file_size: int) -> np.ndarray:
    dtype = _SAFETENSORS_DTYPES.get(entry["dtype"])
    if dtype is None:
        known = ", ".join(_SAFETENSORS_DTYPES)
        raise BadCheckpointError(
            f"{short(name)} has type {short(entry['dtype'])}, wanted one of {known}"
        )
    shape = entry["shape"]
    if len(shape) > 64 or any(not 0 <= _as_int(n) <= file_size for n in shape):
        raise BadCheckpointError(f"damaged: {short(name)} has a shape larger than the file")
    return _as_array(raw, dtype, math.prod(shape)).reshape(shape)


def _as_int(value: Any) -> int:
    """The value if it is an integer (not a bool), else -1, which is never valid."""
    return value if type(value) is int else -1


def _dtype(name: str) -> np.dtype:
    return np.dtype(jnp.bfloat16 if name == "bfloat16" else name)


def _as_array(raw: bytes, dtype: str, size: int, *, swapped: bool = False) -> np.ndarray:
    """Numbers from their bytes; `swapped` if they are big-endian."""
    kind = _dtype(dtype)
    if len(raw) != size * kind.itemsize:
        raise BadCheckpointError(
            f"truncated: {size} values of {dtype} take {size * kind.itemsize} bytes, but there "
            f"are {len(raw)}"
        )
    if swapped:
        # As integers, because bfloat16 has no other byte order; a complex number is two values.
        width = kind.itemsize // 2 if kind.kind == "c" else kind.itemsize
        raw = np.frombuffer(raw, f"u{width}").byteswap().tobytes()
    if dtype == "bool" and np.any(np.frombuffer(raw, np.uint8) > 1):
        raise BadCheckpointError("damaged: it holds boolean values other than 0 and 1")
    return np.frombuffer(raw, kind)


def _look_up(entries: Any, key: str) -> Any:
    """The value of a string key in `Pairs`, or None."""
    if not isinstance(entries, Pairs):
        return None
    return next(
        (value for found, value in entries if isinstance(found, str) and found == key), None
    )


def _resolve(root: Any, data: dict[str, np.ndarray], file_size: int) -> dict[str, np.ndarray]:
    """The tensors of the innermost state dict, with their values."""
    seen = set()
    while isinstance(root, Pairs) and not any(isinstance(value, Tensor) for _, value in root):
        seen.add(id(root))
        inner = next((value for key in _WRAPPERS if (value := _look_up(root, key))), None)
        if inner is None or id(inner) in seen:
            break
        root = inner
    entries = root if isinstance(root, Pairs) else ()
    tensors: dict[str, Tensor] = {}
    for name, value in entries:
        if not isinstance(value, Tensor):
            continue
        if not isinstance(name, str):
            raise BadCheckpointError(f"a tensor's name is {short(name)}; wanted a string")
        if name in tensors:
            raise BadCheckpointError(f"damaged: the tensor {short(name)} occurs twice")
        tensors[name] = value
    if not tensors:
        raise BadCheckpointError(
            "it has no named tensors; wanted a state dict, possibly under one of "
            + ", ".join(map(repr, _WRAPPERS))
        )
    if all(name.startswith("module.") for name in tensors):  # written by DataParallel
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return {name: _view(name, tensor, data, file_size) for name, tensor in tensors.items()}


def _view(name: str, tensor: Tensor, data: dict[str, np.ndarray], file_size: int) -> np.ndarray:
    values = data.get(tensor.storage.key)
    if values is None:
        raise BadCheckpointError(f"truncated: the data {short(tensor.storage.key)} is missing")
    if math.prod(tensor.shape) * values.itemsize > file_size:
        raise BadCheckpointError(
            f"the tensor {short(name)} repeats values and is larger than the file, which is not "
            "supported. Save a copy of it without strides of 0: tensor.contiguous()"
        )
    strides = tuple(step * values.itemsize for step in tensor.strides)
    return np.lib.stride_tricks.as_strided(
        values[tensor.offset :], tensor.shape, strides, writeable=False
    )
