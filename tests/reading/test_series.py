"""Series from tables, arrays and sound, and what is said of files that are none."""

import struct
import wave

import numpy as np
import pytest

from scorecam_jax.reading import ReadingError, find, read_picture, read_series

VALUES = np.array([[1.0, -2.0], [0.5, 4.0], [-3.0, 0.25]], np.float32)


def table(path, text):
    path.write_text(text, "utf-8")
    return path


def sound(path, raw, *, kind=1, channels=1, rate=8000, bits=16, claimed=None, extensible=False):
    """A WAV file, written by hand."""
    frame = channels * bits // 8
    told = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else kind, channels, rate, rate * frame, frame, bits
    )
    if extensible:
        told += struct.pack("<HHIH", 22, bits, 0, kind) + bytes(14)
    head = b"WAVEfmt " + struct.pack("<I", len(told)) + told
    head += b"LIST" + struct.pack("<I", 3) + b"abc\0"  # of odd length, hence padded
    head += b"data" + struct.pack("<I", len(raw) if claimed is None else claimed)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(head) + len(raw)) + head + raw)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1,-2\n0.5,4\n-3,0.25\n",
        "# of a device\na;b\n1;-2\n0,5;4\n-3;0,25\n\n",
        "a\tb\n1\t-2\n5e-1\t4\n-3\t0.25",
        ",a,b\n0,1,-2\n1,0.5,4\n2,-3,0.25\n",
        "\ufefft,a,b\n0,1,-2\n0.25,0.5,4\n0.5,-3,0.25\n",
        "time (ms),a,b\n10,1,-2\n260,0.5,4\n510,-3,0.25\n",
    ],
)
def test_tables_with_and_without_names_and_time(tmp_path, text):
    found = read_series(table(tmp_path / "a.csv", text))
    np.testing.assert_array_equal(found.values, VALUES)
    timed = text.lstrip("\ufeff").startswith("t") and not text.startswith("1")
    assert found.rate == (4 if timed else None)
    assert found.names == ([] if text.startswith("1") else ["a", "b"])
    assert not found.remarks


def test_uneven_time_is_told(tmp_path):
    found = read_series(table(tmp_path / "a.csv", "time,a\n0,1\n1,2\n5,3\n"))
    assert found.rate is None
    assert found.remarks == ["its steps vary from 1 to 4 s; treated as equal"]


@pytest.mark.parametrize("shape", [(3,), (3, 2), (1, 3, 2)])
def test_arrays(tmp_path, shape):
    values = np.arange(np.prod(shape)).reshape(shape)
    np.save(tmp_path / "a.npy", values)
    found = read_series(tmp_path / "a.npy").values
    np.testing.assert_array_equal(found, values.reshape(3, -1))


def test_sound_as_pythons_own_reader_has_it(tmp_path):
    samples = np.array([[0, -(2**15)], [2**14, 2**15 - 1]], "<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, 44100, 2, "NONE", ""))
        file.writeframes(samples.tobytes())
    found = read_series(tmp_path / "a.wav")
    np.testing.assert_allclose(found.values, samples / 2**15)
    assert (found.rate, found.names) == (44100, ["left", "right"])


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("kind", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
def test_samples_of_every_kind(tmp_path, kind, bits, extensible):
    wanted = np.array([-1, -0.5, 0, 0.25])
    if kind == 3:
        raw = wanted.astype(f"<f{bits // 8}").tobytes()
    else:
        whole = [int(value * 2 ** (bits - 1)) + 128 * (bits == 8) for value in wanted]
        raw = b"".join(value.to_bytes(bits // 8, "little", signed=bits > 8) for value in whole)
    path = sound(tmp_path / "a.wav", raw, kind=kind, bits=bits, extensible=extensible)
    np.testing.assert_array_equal(read_series(path).values[:, 0], wanted.astype(np.float32))


def test_sound_is_resampled(tmp_path):
    def tone(rate):
        return 0.5 * np.sin(2 * np.pi * 100 * np.arange(rate // 10) / rate)

    path = sound(tmp_path / "a.wav", tone(8000).astype("<f4").tobytes(), kind=3, bits=32)
    for rate in (4000, 20000):
        found = read_series(path, rate=rate)
        np.testing.assert_allclose(found.values[:, 0], tone(rate), atol=1e-6)
        assert found.remarks == [f"resampled from 8000 to {rate} steps per second"]
    silent = read_series(table(tmp_path / "a.csv", "1\n2\n"), rate=50)
    assert silent.rate == 50
    assert "states no rate" in silent.remarks[0]


def test_sound_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path):
    path = sound(tmp_path / "a.wav", bytes(4000), claimed=2**32 - 1)
    found = read_series(path)
    assert found.values.shape == (2000, 1)
    assert found.remarks == ["ends early, after 0.25 s"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"time,x\n0,1\n1,oops\n", r"row 3, column 2 \(x\) is 'oops'; wanted a number"),
        ("a.csv", b"1,2\n3\n", "row 2 has 1 columns, and the first has 2"),
        ("a.csv", b"t,x\n1,1\n0,2\n", "does not increase from row to row"),
        ("a.csv", b"x,y\n", "without rows below the names"),
        ("a.csv", b"", "a table without rows"),
        ("a.csv", b"1,nan\n", "contains NaN or infinity"),
        ("a.csv", b"\x89PNG\xff\xfe", "not UTF-8 text"),
        ("a.wav", b"OggS" + bytes(40), "not a WAV file, despite its name"),
        ("a.wav", b"RIFF\0\0\0\0WAVE", "without samples"),
        ("a.wav", b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "does not state its format"),
        ("a.npy", b"\x93NUMPY", "cannot be read"),
        ("a.png", b"", "not a series; wanted .csv, .tsv, .npy or .wav"),
    ],
)
def test_what_is_no_series_is_told_in_words(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadingError, match=message):
        read_series(tmp_path / name)


def test_wrong_arrays_and_formats_are_told(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4)))
    with pytest.raises(ReadingError, match=r"of shape \(2, 3, 4\); wanted numbers of shape"):
        read_series(tmp_path / "a.npy")
    path = sound(tmp_path / "a.wav", bytes(8), kind=6, bits=8)
    with pytest.raises(ReadingError, match="format 6 with samples of 8 bits"):
        read_series(path)
    with pytest.raises(ReadingError, match="sound, not a picture"):
        read_picture(path)
    with pytest.raises(ReadingError, match="no such file"):
        read_series(tmp_path / "b.csv")


def test_folders_hold_series_for_networks_of_series(tmp_path):
    for name in ("a.csv", "more/b.npy", "c.wav", "d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def names(takes):
        found = find([tmp_path], takes=takes)
        assert all(source.page is None for source in found.sources if source.name != "d.png")
        return [source.name for source in found.sources], [tuple(one) for one in found.remarks]

    assert names("series") == (["a.csv", "c.wav", "more/b.npy"], [("d.png", "no series")])
    assert names("pictures") == (["d.png"], [("a.csv and 2 more", "no pictures")])
    assert names("volumes")[0] == ["more/b.npy"]
    assert names(None) == (["a.csv", "c.wav", "d.png", "more/b.npy"], [])
