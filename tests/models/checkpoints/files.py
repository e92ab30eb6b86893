"""Checkpoints written byte by byte, so that no test needs PyTorch."""

import collections
import io
import json
import pickle
import struct
import zipfile


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
    """A pickler in Python, which can name globals that do not exist here."""

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Stored) else None

    def save_global_call(self, obj):
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        if obj.args:
            self.save(obj.args)
            self.write(pickle.REDUCE)

    dispatch = {**pickle._Pickler.dispatch, Global: save_global_call}  # noqa: RUF012


def dumps(obj, protocol=2):
    file = io.BytesIO()
    Writer(file, protocol).dump(obj)
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


def write_zip(path, root, storages, *, byteorder="little", protocol=2):
    """`root` may be a pickle, as bytes."""
    pickled = root if isinstance(root, bytes) else dumps(root, protocol)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("name/data.pkl", pickled)
        archive.writestr("name/byteorder", byteorder)
        for key, raw in storages.items():
            archive.writestr(f"name/data/{key}", raw)
    return path


def write_legacy(path, root, storages, *, version=1001, system=None, keys=None, protocol=2):
    """`root` may be a pickle, as bytes."""
    content = dumps(0x1950A86A20F9469CFC6C) + dumps(version)
    content += dumps({"little_endian": True} if system is None else system)
    content += root if isinstance(root, bytes) else dumps(root, protocol)
    content += dumps(list(storages) if keys is None else keys)
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
    """`entries` may be a header, as bytes."""
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    size = len(header) if header_size is None else header_size
    path.write_bytes(struct.pack("<Q", size) + header + data)
    return path


def replace(path, content):
    """Write a new file, because some file systems wait for the disk when a file is truncated."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def write_tensors(path, tensors):
    """Write float32 arrays by name as a safetensors file."""
    ends = [0]
    for array in tensors.values():
        ends.append(ends[-1] + array.nbytes)
    entries = {
        name: {"dtype": "F32", "shape": array.shape, "data_offsets": ends[index : index + 2]}
        for index, (name, array) in enumerate(tensors.items())
    }
    return write_safetensors(path, entries, b"".join(a.tobytes() for a in tensors.values()))
