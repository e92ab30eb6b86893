"""Small files that ask for much: each is refused at once, in little memory and few words."""

import zipfile

import numpy as np
import pytest

from scorecam_jax.models import load_checkpoint
from scorecam_jax.models.checkpoints import pickles
from tests.models.checkpoints.files import tensor, write_legacy, write_safetensors, write_zip

PROTOCOL = b"\x80\x02"
FLOATS = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
PICKLES = {
    "a dict that wraps itself": b"}q\0X\n\0\0\0state_dicth\0s.",
    "two dicts that wrap each other": b"}q\0X\5\0\0\0model}X\5\0\0\0modelh\0ss.",
    "a key that takes ages to hash": b"})"
    + b"".join(b"q%c0(" % i + (b"h%c" % i) * 10 + b"t" for i in range(1, 13))
    + b"K\1s.",
    "such a key in an OrderedDict": b"ccollections\nOrderedDict\n])"
    + b"".join(b"q%c0(" % i + (b"h%c" % i) * 10 + b"t" for i in range(1, 13))
    + b"K\1\x86a\x85R.",
    "such a member of a set": b"("
    + b")"
    + b"".join(b"q%c0(" % i + (b"h%c" % i) * 10 + b"t" for i in range(1, 13))
    + b"\x91.",
    "a key nested deep": b"})" + b"\x85" * 20_000 + b"K\1s.",
    "lists nested deep": b"]" * 20_000 + b"a" * 19_999 + b".",
    "dicts nested deep": b"}" + b"N}" * 20_000 + b"s" * 20_000 + b".",
    "a high memo index": b"]r\0\0\0\x08.",
    "a text of 2**60 bytes": b"\x8d" + (2**60).to_bytes(8, "little") + b".",
    "a number of 2**31 - 1 bytes": b"\x8b\xff\xff\xff\x7f.",
    "a message that takes ages to write": b"(" + b"N" + b"q\0h\0\x86" * 30 + b"NNNK\1tQ.",
    "such a key of a storage": b"(X\7\0\0\0storage" + FLOATS + b"N" + b"q\0h\0\x86" * 30
    + b"X\3\0\0\0cpuK\1tQ.",
    "such a tensor": REBUILD + b"(N" + b"q\0h\0\x86" * 30 + b"K\0))tR.",
    "long arguments, often": REBUILD
    + b"q\0(" + b"N" * 5000 + b"tq\1" + b"h\0h\1R" * 5000 + b".",
    "a long text": b"X\x40\x42\x0f\0" + b"x" * 1_000_000 + b".",
    "a long global": b"c" + b"x" * 20_000 + b"\n" + b"y" * 20_000 + b"\n.",
    "a huge number as a key": b"}\x8b\x40\x42\x0f\0" + b"\x7f" * 1_000_000 + b"K\1s.",
    "a class": b"cbuiltins\nobject\n)\x81.",
    "marks without values": b"((((t0.",
    "values without a mark": b"Nt.",
    "an empty stack": b"a.",
}  # fmt: skip


def refusal(path):
    with pytest.raises(ValueError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert len(message) <= 500
    assert message.isprintable()
    return message


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_are_bounded(tmp_path, name):
    refusal(write_zip(tmp_path / "a.pth", PROTOCOL + PICKLES[name], {}))
    refusal(write_legacy(tmp_path / "b.pth", PROTOCOL + PICKLES[name], {}))
    (tmp_path / "c.pth").write_bytes(PROTOCOL + PICKLES[name])
    refusal(tmp_path / "c.pth")


def test_the_steps_of_a_pickle_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "_MOST_INSTRUCTIONS", 1000)
    path = write_zip(tmp_path / "a.pth", PROTOCOL + b"]" * 2000 + b".", {})
    assert "more than 1000 instructions" in refusal(path)
    # A list that is copied counts as many steps as it has entries.
    pairs = b"(" + b"NN\x86" * 50 + b"lq\0"
    copies = b"ccollections\nOrderedDict\nq\1" + b"h\1h\0\x85R" * 20
    path = write_zip(tmp_path / "b.pth", PROTOCOL + pairs + copies + b".", {})
    assert "more than 1000 instructions" in refusal(path)


@pytest.mark.parametrize(
    ("size", "shape", "strides"),
    [
        (2**60, (2,), (1,)),
        (2**62, (2**62,), (1,)),
        (4, (2**40,), (0,)),
        (4, (60000, 60000), (0, 0)),
        (4, (2**62, 2**62, 0), (1, 1, 1)),
        (4, (2,) * 65, (0,) * 65),
        (4, (2,), (2**63,)),
        (4, (True,), (1,)),
    ],
)
def test_tensors_larger_than_the_file_are_refused(tmp_path, size, shape, strides):
    root = {"w": tensor("FloatStorage", "0", size, shape, strides)}
    refusal(write_zip(tmp_path / "a.pth", root, {"0": np.ones(4, "f4").tobytes()}))


def test_the_stride_of_an_axis_of_one_means_nothing(tmp_path):
    root = {"w": tensor("FloatStorage", "0", 4, (1, 4), (2**63, 1))}
    path = write_zip(tmp_path / "a.pth", root, {"0": np.arange(4, dtype="f4").tobytes()})
    np.testing.assert_array_equal(load_checkpoint(path)["w"], [[0, 1, 2, 3]])


def test_compressed_members_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("name/data.pkl", bytes(10**7))
    assert "compressed" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_occur_twice_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.pth", {}, {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("name/data.pkl", "")
    assert "occurs twice" in refusal(path)
    path = write_zip(tmp_path / "b.pth", {}, {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", "")
    assert "2 data.pkl" in refusal(path)


def test_members_that_overlap_are_refused(tmp_path):
    """The directory's entry of the second storage gives the first's place and name length."""
    root = {"w": tensor("FloatStorage", "0", 4, (4,), (1,))}
    path = write_zip(tmp_path / "a.pth", root, {"0": bytes(16), "1": bytes(16)})
    with zipfile.ZipFile(path) as archive:
        offsets = [archive.getinfo(f"name/data/{key}").header_offset for key in "01"]
    first, second = (offset.to_bytes(4, "little") for offset in offsets)
    content = path.read_bytes()
    assert content.count(second) == 1
    path.write_bytes(content.replace(second, first))
    assert "overlaps" in refusal(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 20_000,
        b'{"a":' * 20_000,
        b'{"a": {"dtype": "F32", "shape": [' + b"1" * 5000 + b'], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [4e9, 4e9], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": ' + b"[%s]" % b",".join([b"9"] * 64)
        + b', "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [0, 1], "data_offsets": [0, 1e999]}}',
        b'{"%s": {"dtype": "%s", "shape": [], "data_offsets": [0, 4]}}'
        % (b"x" * 10**6, b"y" * 10**6),
        b'{"\\ud800\\u001b": {"dtype": "I8", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": null}',
        b"null",
    ],
)  # fmt: skip
def test_headers_of_safetensors_are_bounded(tmp_path, header):
    refusal(write_safetensors(tmp_path / "a.safetensors", header, bytes(4)))


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**25 + 1, 20])
def test_lengths_of_headers_are_bounded(tmp_path, size):
    refusal(write_safetensors(tmp_path / "a.safetensors", b"{}", bytes(4), header_size=size))


def test_a_long_path_is_cut(tmp_path):
    folder = tmp_path.joinpath(*["x" * 200] * 4)
    folder.mkdir(parents=True)
    (folder / "a.pth").write_bytes(b"nothing")
    refusal(folder / "a.pth")
