"""Checkpoints are written here byte by byte, so that no test needs PyTorch."""

import collections
import io
import json
import os
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.models import load_checkpoint


class Global:
    """Pickles as a reference to `module.name`, called with `args` if there are any."""

    def __init__(self, module, name, *args):
        self.module, self.name, self.args = module, name, args

    def __hash__(self):
        return id(self)


class Stored:
    """Pickles as a persistent reference to a storage."""

    def __init__(self, kind, key, size):
        self.pid = ("storage", Global("torch", kind), key, "cpu", size)


class Writer(pickle._Pickler):
    """Python's own pickler can name globals that do not exist here."""

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Stored) else None

    def save_global_call(self, obj):
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        if obj.args:
            self.save(obj.args)
            self.write(pickle.REDUCE)

    dispatch = {**pickle._Pickler.dispatch, Global: save_global_call}  # noqa: RUF012


def dumps(obj):
    file = io.BytesIO()
    Writer(file, 2).dump(obj)
    return file.getvalue()


def tensor(kind, key, size, shape, strides, offset=0):
    return Global(
        "torch._utils",
        "_rebuild_tensor_v2",
        Stored(kind, key, size),
        offset,
        shape,
        strides,
        False,
        collections.OrderedDict(),
    )


def write_zip(path, root, storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("name/data.pkl", dumps(root))
        archive.writestr("name/byteorder", "little")
        for key, raw in storages.items():
            archive.writestr(f"name/data/{key}", raw)
    return path


def write_legacy(path, root, storages):
    content = dumps(0x1950A86A20F9469CFC6C) + dumps(1001) + dumps({"little_endian": True})
    content += dumps(root) + dumps(list(storages))
    for raw, size in storages.values():
        content += struct.pack("<q", size) + raw
    path.write_bytes(content)
    return path


def write(format_, path, root, storages):
    """`storages` maps keys to arrays."""
    if format_ == "zip":
        return write_zip(path, root, {key: a.tobytes() for key, a in storages.items()})
    return write_legacy(path, root, {key: (a.tobytes(), a.size) for key, a in storages.items()})


def write_safetensors(path, entries, data, header_size=None):
    header = json.dumps(entries).encode()
    size = len(header) if header_size is None else header_size
    path.write_bytes(struct.pack("<Q", size) + header + data)
    return path


FORMATS = pytest.mark.parametrize("format_", ["zip", "legacy"])


@FORMATS
def test_strides_and_offset_select_from_the_storage(tmp_path, format_):
    storage = np.arange(40, dtype=np.float32)
    root = {"w": tensor("FloatStorage", "0", 40, (3, 4), (1, 5), offset=7)}
    loaded = load_checkpoint(write(format_, tmp_path / "a.pth", root, {"0": storage}))
    expected = [[storage[7 + i + 5 * j] for j in range(4)] for i in range(3)]
    np.testing.assert_array_equal(loaded["w"], expected)


@FORMATS
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", np.float64),
        ("HalfStorage", np.float16),
        ("BFloat16Storage", jnp.bfloat16),
        ("LongStorage", np.int64),
        ("IntStorage", np.int32),
        ("ShortStorage", np.int16),
        ("CharStorage", np.int8),
        ("ByteStorage", np.uint8),
        ("BoolStorage", np.bool_),
    ],
)
def test_dtypes_are_kept(tmp_path, format_, kind, dtype):
    values = np.array([0, 1, 3]).astype(dtype)
    root = collections.OrderedDict(w=tensor(kind, "0", 3, (3,), (1,)))
    loaded = load_checkpoint(write(format_, tmp_path / "a.pth", root, {"0": values}))
    assert loaded["w"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(loaded["w"], values)


@FORMATS
def test_scalars_empty_tensors_and_shared_storages(tmp_path, format_):
    storage = np.array([5.0, 6.0], np.float32)
    root = {
        "scalar": tensor("FloatStorage", "0", 2, (), (), offset=1),
        "empty": tensor("FloatStorage", "0", 2, (0, 4), (4, 1)),
        "expanded": tensor("FloatStorage", "0", 2, (3,), (0,)),
    }
    loaded = load_checkpoint(write(format_, tmp_path / "a.pth", root, {"0": storage}))
    assert loaded["scalar"].shape == ()
    assert loaded["scalar"] == 6
    assert loaded["empty"].shape == (0, 4)
    np.testing.assert_array_equal(loaded["expanded"], [5, 5, 5])


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_nested_state_dicts_and_metadata(tmp_path, wrapper):
    parameter = Global(
        "torch._utils",
        "_rebuild_parameter",
        tensor("FloatStorage", "0", 2, (2,), (1,)),
        True,
        collections.OrderedDict(),
    )
    state = {"module.w": parameter}
    root = {"epoch": 3, "best": 0.7, "notes": ["a", None, {"b": (1, 2)}], wrapper: state}
    path = write_zip(tmp_path / "a.pt", root, {"0": np.float32([1, 2]).tobytes()})
    loaded = load_checkpoint(path)
    assert list(loaded) == ["w"]
    np.testing.assert_array_equal(loaded["w"], [1, 2])


@FORMATS
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("collections", "namedtuple"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("argparse", "Namespace"),
    ],
)
def test_other_globals_are_refused_by_name(tmp_path, format_, module, name):
    marker = tmp_path / "executed"
    root = {"w": Global(module, name, f"touch {marker}")}
    path = write(format_, tmp_path / "evil.pth", root, {})
    with pytest.raises(ValueError, match=f"{module}.{name}"):
        load_checkpoint(path)
    assert not marker.exists()


def test_a_plain_malicious_pickle_is_not_executed(tmp_path):
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="system"):
        load_checkpoint(path)
    assert not marker.exists()


@FORMATS
@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((4,), (1,), 1), ((2, 2), (3, 1), 0), ((2,), (-1,), 1), ((2,), (1,), -1), ((2,), (1, 1), 0)],
)
def test_tensors_reaching_outside_their_storage_are_refused(
    tmp_path, format_, shape, strides, offset
):
    root = {"w": tensor("FloatStorage", "0", 4, shape, strides, offset)}
    path = write(format_, tmp_path / "a.pth", root, {"0": np.zeros(4, np.float32)})
    with pytest.raises(ValueError, match="tensor"):
        load_checkpoint(path)


@FORMATS
def test_every_truncation_is_an_error(tmp_path, format_):
    root = {"w": tensor("FloatStorage", "0", 9, (3, 3), (3, 1))}
    path = write(format_, tmp_path / "a.pth", root, {"0": np.ones(9, np.float32)})
    whole = path.read_bytes()
    assert load_checkpoint(path)["w"].sum() == 9
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"empty|truncated|damaged"):
            load_checkpoint(path)


@FORMATS
def test_damaged_bytes_never_escape_as_other_errors(tmp_path, format_):
    root = {"w": tensor("FloatStorage", "0", 4, (2, 2), (2, 1))}
    path = write(format_, tmp_path / "a.pth", root, {"0": np.ones(4, np.float32)})
    whole = path.read_bytes()
    for place in range(0, len(whole)):
        for value in (0x00, 0xFF):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                loaded = load_checkpoint(path)
            except ValueError:
                continue
            assert all(isinstance(value, np.ndarray) for value in loaded.values())


@pytest.mark.parametrize("root", [[1, 2], {"a": 1}, {"state_dict": {}}, 5])
def test_files_without_named_tensors_are_refused(tmp_path, root):
    with pytest.raises(ValueError, match="no tensors by name"):
        load_checkpoint(write_zip(tmp_path / "a.pth", root, {}))


def test_files_of_other_kinds_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        load_checkpoint(tmp_path / "nothing.pth")
    empty = tmp_path / "empty.pth"
    empty.touch()
    with pytest.raises(ValueError, match="empty"):
        load_checkpoint(empty)
    text = tmp_path / "text.pth"
    text.write_text("<html>Not found</html>")
    with pytest.raises(ValueError, match=r"not a (PyTorch )?checkpoint"):
        load_checkpoint(text)
    archive = tmp_path / "other.pth"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("readme", "hello")
    with pytest.raises(ValueError, match=r"data\.pkl"):
        load_checkpoint(archive)
    other = tmp_path / "other.pickle"
    other.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"not a (PyTorch )?checkpoint"):
        load_checkpoint(other)


def test_safetensors(tmp_path):
    first = np.arange(6, dtype=np.float32).reshape(2, 3)
    second = np.array([1.5, -2], jnp.bfloat16)
    entries = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
    }
    path = tmp_path / "a.safetensors"
    write_safetensors(path, entries, first.tobytes() + second.tobytes())
    loaded = load_checkpoint(path)
    assert list(loaded) == ["a", "b"]
    np.testing.assert_array_equal(loaded["a"], first)
    assert loaded["b"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(loaded["b"], second)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]},
        {"dtype": "Q7", "shape": [2], "data_offsets": [0, 8]},
        {"shape": [2]},
        [],
    ],
)
def test_damaged_safetensors_are_refused(tmp_path, entry):
    path = write_safetensors(tmp_path / "a.safetensors", {"w": entry}, bytes(8))
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        load_checkpoint(path)


def test_truncated_safetensors_are_refused(tmp_path):
    entries = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    path = write_safetensors(tmp_path / "a.safetensors", entries, bytes(8))
    whole = path.read_bytes()
    assert load_checkpoint(path)["w"].shape == (2,)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"empty|truncated|damaged"):
            load_checkpoint(path)
