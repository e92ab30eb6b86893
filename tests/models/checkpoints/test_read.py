import collections
import os
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.models import load_checkpoint
from tests.models.checkpoints.files import (
    Global,
    replace,
    tensor,
    write,
    write_legacy,
    write_safetensors,
    write_zip,
)

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
        replace(path, whole[:size])
        with pytest.raises(ValueError, match=r"empty|truncated|damaged"):
            load_checkpoint(path)


@FORMATS
def test_damaged_bytes_never_escape_as_other_errors(tmp_path, format_):
    root = {"w": tensor("FloatStorage", "0", 4, (2, 2), (2, 1))}
    path = write(format_, tmp_path / "a.pth", root, {"0": np.ones(4, np.float32)})
    whole = path.read_bytes()
    for place in range(0, len(whole)):
        for value in (0x00, 0xFF):
            replace(path, whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                loaded = load_checkpoint(path)
            except ValueError:
                continue
            assert all(isinstance(value, np.ndarray) for value in loaded.values())


@pytest.mark.parametrize("root", [[1, 2], {"a": 1}, {"state_dict": {}}, 5])
def test_files_without_named_tensors_are_refused(tmp_path, root):
    with pytest.raises(ValueError, match="no named tensors"):
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
        replace(path, whole[:size])
        with pytest.raises(ValueError, match=r"empty|truncated|damaged"):
            load_checkpoint(path)


@pytest.mark.parametrize("kind", ["Float", "Double", "Half", "Long", "Short", "Byte", "BFloat16"])
def test_big_endian_zip_files_are_read_right(tmp_path, kind):
    dtype = {"BFloat16": jnp.bfloat16, "Half": "f2", "Float": "f4", "Double": "f8", "Long": "i8",
             "Short": "i2", "Byte": "u1"}[kind]  # fmt: skip
    values = np.array([1, 3, 200]).astype(dtype)
    swapped = b"".join(value.tobytes()[::-1] for value in values)
    root = {"w": tensor(f"{kind}Storage", "0", 3, (3,), (1,))}
    path = write_zip(tmp_path / "a.pth", root, {"0": swapped}, byteorder="big")
    np.testing.assert_array_equal(load_checkpoint(path)["w"], values)


def test_big_endian_complex_numbers_are_read_right(tmp_path):
    values = np.complex64([1 + 2j, 3 - 4j])
    root = {"w": tensor("ComplexFloatStorage", "0", 2, (2,), (1,))}
    swapped = values.astype(">c8").tobytes()
    path = write_zip(tmp_path / "a.pth", root, {"0": swapped}, byteorder="big")
    np.testing.assert_array_equal(load_checkpoint(path)["w"], values)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"system": {"little_endian": False}}, "big-endian"),
        ({"system": [1]}, "big-endian"),
        ({"version": 1000}, "protocol is 1000"),
        ({"keys": ["0", "0"]}, "'0' occurs twice"),
        ({"keys": ["0", "1"]}, "'1' belongs to no tensor"),
        ({"keys": [["0"]]}, "more than names"),
        ({"keys": []}, "'0' is missing"),
    ],
)
def test_legacy_files_that_contradict_themselves_are_refused(tmp_path, changes, complaint):
    root = {"w": tensor("FloatStorage", "0", 2, (2,), (1,))}
    path = write_legacy(tmp_path / "a.pth", root, {"0": (bytes(8), 2)}, **changes)
    with pytest.raises(ValueError, match=complaint):
        load_checkpoint(path)


def test_legacy_sizes_that_disagree_are_refused(tmp_path):
    root = {"w": tensor("FloatStorage", "0", 2, (2,), (1,))}
    path = write_legacy(tmp_path / "a.pth", root, {"0": (bytes(8), 1)})
    with pytest.raises(ValueError, match="1 values in one place and 2 in another"):
        load_checkpoint(path)


@FORMATS
@pytest.mark.parametrize(("kind", "size"), [("IntStorage", 2), ("FloatStorage", 1)])
def test_one_storage_of_two_types_or_sizes_is_refused(tmp_path, format_, kind, size):
    root = {
        "a": tensor("FloatStorage", "0", 2, (2,), (1,)),
        "b": tensor(kind, "0", size, (1,), (1,)),
    }
    path = write(format_, tmp_path / "a.pth", root, {"0": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match="values of float32 and also"):
        load_checkpoint(path)


@FORMATS
def test_a_name_that_occurs_twice_or_is_no_string_is_refused(tmp_path, format_):
    one = tensor("FloatStorage", "0", 2, (2,), (1,))
    for pairs, complaint in (
        ([["w", one], ["w", one]], "'w' occurs twice"),
        ([[3, one]], "name is 3; wanted a string"),
        ([[(1, (2,)), one]], "name is a tuple; wanted a string"),
    ):
        root = Global("collections", "OrderedDict", pairs)
        path = write(format_, tmp_path / "a.pth", root, {"0": np.ones(2, np.float32)})
        with pytest.raises(ValueError, match=complaint):
            load_checkpoint(path)


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_training_checkpoints_of_every_protocol_are_read(tmp_path, format_, protocol):
    """With an optimizer's numbered entries, sets, bytes and attributes of the state dict."""
    state = collections.OrderedDict(w=tensor("FloatStorage", "0", 4, (2, 2), (2, 1)))
    state["b"] = tensor("FloatStorage", "0", 4, (2,), (1,), offset=2)
    state._metadata = {"": {"version": 1}}
    root = {
        "epoch": 2**40,
        "optimizer": {"state": {0: {"step": 1.5}, 1: {"step": None}}, "groups": [{"lr": (1, 2)}]},
        "state_dict": state,
    }
    if protocol >= 4:  # older ones need functions for these
        root |= {"seen": {1, 2, 3}, "kinds": frozenset("ab"), "raw": b"bytes"}
    values = np.arange(4, dtype=np.float32)
    if format_ == "zip":
        path = write_zip(tmp_path / "a.pth", root, {"0": values.tobytes()}, protocol=protocol)
    else:
        path = write_legacy(
            tmp_path / "a.pth", root, {"0": (values.tobytes(), 4)}, protocol=protocol
        )
    loaded = load_checkpoint(path)
    assert list(loaded) == ["w", "b"]
    np.testing.assert_array_equal(loaded["w"], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(loaded["b"], [2, 3])


def test_truth_values_are_0_or_1(tmp_path):
    root = {"w": tensor("BoolStorage", "0", 2, (2,), (1,))}
    with pytest.raises(ValueError, match="boolean values"):
        load_checkpoint(write_zip(tmp_path / "a.pth", root, {"0": b"\1\2"}))


@pytest.mark.parametrize(
    ("entries", "size", "complaint"),
    [
        ('{"a": ONE, "a": ONE}', 4, "occurs twice"),
        ('{"a": ONE, "b": ONE}', 4, "'b' begins at 0, but the previous tensor ends at 4"),
        ('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', 8, "begins at 4"),
        ('{"a": ONE}', 8, "take 4 bytes, but there are 8"),
        ('{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}', 4, "shape"),
        ('{"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}', 4, "shape"),
        ('{"a": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}}', 4, "boolean values"),
    ],
)
def test_safetensors_that_contradict_themselves_are_refused(tmp_path, entries, size, complaint):
    one = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    path = tmp_path / "a.safetensors"
    write_safetensors(path, entries.replace("ONE", one).encode(), bytes([7] * size))
    with pytest.raises(ValueError, match=complaint):
        load_checkpoint(path)


def test_safetensors_may_be_stored_in_any_order(tmp_path):
    entries = {
        "late": {"dtype": "U8", "shape": [2], "data_offsets": [3, 5]},
        "empty": {"dtype": "F32", "shape": [0, 3], "data_offsets": [3, 3]},
        "early": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
    }
    path = write_safetensors(tmp_path / "a.safetensors", entries, bytes(range(5)))
    loaded = load_checkpoint(path)
    assert list(loaded) == ["late", "empty", "early"]
    assert loaded["empty"].shape == (0, 3)
    np.testing.assert_array_equal(loaded["early"], [0, 1, 2])
    np.testing.assert_array_equal(loaded["late"], [3, 4])
