"""Reading series, such as signals and sound, from tables, arrays and WAV files."""

import csv
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from scorecam_jax.reading.dicom import check_voxels
from scorecam_jax.reading.errors import ReadingError, told
from scorecam_jax.reading.files import Stamp, kind_of, stamp_of
from scorecam_jax.reading.sources import Source

# A table is read whole: one of this size takes a few gigabytes of memory.
_MOST_TEXT = 256 * 2**20

_TIME = ("time", "t", "s", "sec", "seconds", "ms", "milliseconds")

# Equal time steps may differ by this fraction, because of rounding.
_UNEVEN = 0.02

# NumPy types by sample width in bytes; there is none for three bytes.
_WHOLE = {1: "u1", 2: "<i2", 4: "<i4"}
_REAL = {4: "<f4", 8: "<f8"}
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


class Series(NamedTuple):
    """The result of `read_series`.

    Attributes:
        values: the values in the file's units; in [-1, 1] for WAV files.
        rate: steps per second; None if the file does not state it.
        names: the channels' names; empty if the file has none.
        remarks: sentences about how the file was read.
    """

    values: Float[np.ndarray, "time channels"]
    rate: int | float | None
    names: list[str]
    remarks: list[str]


def read_series(source: Source | Path, *, rate: int | float | None = None) -> Series:
    """Read a table (.csv, .tsv), an array (.npy) or sound (.wav).

    A table has one row per step and one column per channel, separated by commas, semicolons or
    tabs. Its first row may name the columns. A first column called time, t, s, seconds or ms gives
    the rate and is not a channel. Neither is an unnamed first column that numbers the rows. An
    array is (time,), (time, channels) or (1, time, channels). WAV files may contain integers of 8
    to 32 bits or floating-point samples.

    Args:
        source: a result of `find`, or a path. Its page is ignored.
        rate: the wanted steps per second. A series with another rate is resampled by its Fourier
            transform; a series without a rate is assumed to have this one. None: no resampling.

    Raises:
        ReadingError: the source cannot be read, or is not a series.
    """
    with told():
        stamp = stamp_of(source.path if isinstance(source, Source) else source)
        kind = kind_of(stamp.path)
        if kind == "table":
            found = _read_table(stamp)
        elif kind == "sound":
            found = _read_sound(stamp)
        elif kind == "array":
            found = Series(_read_array(stamp), None, [], [])
        else:
            raise ReadingError("not a series; wanted .csv, .tsv, .npy or .wav")
        if not np.isfinite(found.values).all():
            raise ReadingError("the series contains NaN or infinity: replace them first")
        return found if rate is None else _at_rate(found, rate)


def _read_array(stamp: Stamp) -> Float[np.ndarray, "time channels"]:
    # Memory-mapped, so that NumPy compares the header with the file before reading it.
    values = np.load(stamp.path, mmap_mode="r", allow_pickle=False)
    shape = values.shape[1:] if values.ndim == 3 and values.shape[0] == 1 else values.shape
    if len(shape) not in (1, 2) or values.dtype.kind not in "uif" or not values.size:
        raise ReadingError(
            f"an array of {values.dtype} of shape {values.shape}; wanted numbers of shape (time,), "
            "(time, channels) or (1, time, channels)"
        )
    check_voxels(shape)
    return np.array(values, np.float32).reshape(len(values) if len(shape) == 1 else shape[0], -1)


def _read_table(stamp: Stamp) -> Series:
    if stamp.size > _MOST_TEXT:
        raise ReadingError(
            f"a table of {stamp.size / 1e6:.0f} MB; save it as .npy, which is read in parts"
        )
    try:
        text = stamp.path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ReadingError("not a table: its bytes are not UTF-8 text") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ReadingError("a table without rows")
    delimiter = max(",;\t", key=lines[0].count)
    comma = delimiter != ","  # then a comma may be the decimal separator
    rows = list(csv.reader(lines, delimiter=delimiter))
    names = [] if all(_is_number(cell, comma) for cell in rows[0]) else rows.pop(0)
    if not rows:
        raise ReadingError("a table without rows below the names of its columns")
    width = len(names or rows[0])
    values = np.empty((len(rows), width), np.float64)
    for number, row in enumerate(rows, 1 + bool(names)):
        if len(row) != width:
            raise ReadingError(
                f"row {number} has {len(row)} columns, and the first has {width}; wanted one "
                "column per channel"
            )
        try:
            values[number - 1 - bool(names)] = [_number(cell, comma) for cell in row]
        except ValueError:
            at = next(place for place, cell in enumerate(row) if not _is_number(cell, comma))
            called = f" ({names[at].strip()})" if names else ""
            raise ReadingError(
                f"row {number}, column {at + 1}{called} is {row[at][:40]!r}; wanted a number"
            ) from None
    names = [name.strip() for name in names]
    unit = names[0].lower() if names else ""
    if names and not unit and width > 1 and (values[:, 0] == np.arange(len(values))).all():
        return Series(values[:, 1:].astype(np.float32), None, names[1:], [])  # as pandas writes
    first = unit.replace("(", " ").replace("[", " ").split()[:1]
    if first and first[0] in _TIME and width > 1:
        rate, remarks = _rate(values[:, 0] / (1000 if "ms" in unit or "milli" in unit else 1))
        return Series(values[:, 1:].astype(np.float32), rate, names[1:], remarks)
    return Series(values.astype(np.float32), None, names, [])


def _rate(seconds: Float[np.ndarray, " time"]) -> tuple[float | None, list[str]]:
    """Steps per second from a column of times, and remarks."""
    steps = np.diff(seconds)
    if not len(steps):
        return None, []
    if not steps.min() > 0:
        raise ReadingError("its time column does not increase from row to row; sort the rows")
    length = float(np.median(steps))
    if np.ptp(steps) > _UNEVEN * length:
        text = f"its steps vary from {steps.min():.3g} to {steps.max():.3g} s; treated as equal"
        return None, [text]
    return float(f"{1 / length:.6g}"), []


def _number(cell: str, comma: bool) -> float:
    return float(cell.replace(",", ".") if comma else cell)


def _is_number(cell: str, comma: bool) -> bool:
    try:
        _number(cell, comma)
    except ValueError:
        return False
    return True


def _read_sound(stamp: Stamp) -> Series:
    """Read a WAV file. Python's `wave` does not read floating-point samples."""
    with stamp.path.open("rb") as file:
        start = file.read(12)
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            raise ReadingError("not a WAV file, despite its name")
        layout: tuple[Any, ...] | None = None
        while True:
            head = file.read(8)
            if len(head) < 8:
                raise ReadingError("a WAV file without samples; copy it again")
            name, size = struct.unpack("<4sI", head)
            left = stamp.size - file.tell()
            if name == b"data":
                break
            content = file.read(min(size + size % 2, left))
            if name == b"fmt ":
                layout = struct.unpack("<HHIIHH", content[:16])
                if layout[0] == _EXTENSIBLE:
                    layout = (struct.unpack("<H", content[24:26])[0], *layout[1:])
        if layout is None:
            raise ReadingError("a WAV file that does not state its format; copy it again")
        kind, channels, rate, _, frame, bits = layout
        width = frame // channels if channels else 0
        if not rate or not width or width * channels != frame or bits > 8 * width:
            raise ReadingError("a WAV file whose format is inconsistent; copy it again")
        # Programs that write to a pipe claim more samples than they write.
        raw = file.read(min(size, left) // frame * frame)
    if not raw:
        raise ReadingError("a WAV file without samples; copy it again")
    remarks = [] if size <= left else [f"ends early, after {len(raw) / frame / rate:.3g} s"]
    values = _samples(raw, kind, width).reshape(-1, channels)
    return Series(values, float(rate), ["left", "right"] if channels == 2 else [], remarks)


def _samples(raw: bytes, kind: int, width: int) -> Float[np.ndarray, " samples"]:
    """Convert samples to floating point in [-1, 1]."""
    if kind == _FLOAT and width in _REAL:
        return np.frombuffer(raw, _REAL[width]).astype(np.float32)
    if kind == _PCM and width == 3:
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    if kind == _PCM and width in _WHOLE:
        values = np.frombuffer(raw, _WHOLE[width]).astype(np.float32)
        return values / 128 - 1 if width == 1 else values / 2 ** (8 * width - 1)
    raise ReadingError(
        f"a WAV file of format {kind} with samples of {8 * width} bits; wanted integers of 8 to "
        "32 bits or floating point: convert it with a program such as ffmpeg"
    )


def _at_rate(found: Series, rate: int | float) -> Series:
    if found.rate is None:
        text = f"states no rate; {rate:g} steps per second are assumed"
        return found._replace(rate=rate, remarks=[*found.remarks, text])
    if found.rate == rate:
        return found
    steps = max(1, round(len(found.values) * rate / found.rate))
    waves = np.fft.rfft(found.values, axis=0)
    values = np.fft.irfft(waves, steps, axis=0) * (steps / len(found.values))
    text = f"resampled from {found.rate:g} to {rate:g} steps per second"
    return Series(values.astype(np.float32), rate, found.names, [*found.remarks, text])
