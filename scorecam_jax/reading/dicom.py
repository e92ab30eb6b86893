"""DICOM files: one frame as a viewer shows it, or all frames in the units of the file."""

import contextlib
import functools
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Real, Shaped, UInt8
from PIL import Image

from scorecam_jax.reading.errors import ReadingError, told
from scorecam_jax.reading.files import Guarded, Stamp, is_dicom, stamp_of
from scorecam_jax.reading.pillow import check_pixels
from scorecam_jax.reading.squares import squared
from scorecam_jax.reading.windows import (
    Window,
    as_bytes,
    as_shares,
    bands,
    checked_window,
    remark_on,
)

_MOST_INFLATED = 512 * 2**20
_MOST_VOLUME = 2**30

# Larger header elements are left in the file.
_MOST_ELEMENT = 2**24

# The maximum number of frames whose range sets the window of all frames.
_SAMPLED = 32

_UNDEFINED = 0xFFFFFFFF

_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence")


class Dicom(NamedTuple):
    """The result of `read_dicom`.

    Attributes:
        image: 8-bit RGB, with square pixels.
        frames: the number of frames in the file.
        window: the values that became black and white, in the file's rescaled units (Hounsfield
            units for CT). None for 8-bit colour, and for images drawn through a lookup table.
        remarks: sentences about the window and about resized pixels.
    """

    image: Image.Image
    frames: int
    window: tuple[float, float] | None
    remarks: list[str]


def read_dicom(path: Path, *, frame: int = 1, window: Window | None = None) -> Dicom:
    """Read one frame of a DICOM file.

    Stored values are rescaled as the file specifies, for all frames or per frame. Without `window`,
    the file's lookup table is used, or else the first of its windows. A file with neither is shown
    from its lowest to its highest value, without padding. All frames of a file share one window:
    that of the first frame, or the range of up to 32 frames. MONOCHROME1 images, in which small
    values are bright, are inverted. Images are resized so that pixels are square.

    Args:
        path: the file.
        frame: the number of the frame, from 1.
        window: the values that become black and white. None: chosen as above.

    Raises:
        ValueError: the file is not a DICOM file, contains no image or no such frame, is damaged or
            truncated, or its compression needs a package that is missing; or pydicom is missing.
        OSError: the file cannot be opened.

    Source: DICOM PS3.3, C.11.1 (rescaling), C.11.2 (windows and lookup tables), C.7.6.16
    (functional groups), by pydicom's `pydicom.pixels`.
    """
    if not is_dicom(path):
        raise ValueError(f"{path} is not a DICOM file")
    with told():
        stamp = stamp_of(path)
        frames = count_frames(stamp)
        if not 1 <= frame <= frames:
            raise ReadingError(f"has {frames} frame{'s' * (frames > 1)}, and no frame {frame}")
        return read_frame(stamp, frame, window)


def frames_of(path: Path) -> int:
    """The number of frames in a DICOM file.

    Raises:
        ValueError: the file contains no image, or is damaged or truncated; or pydicom is missing.
    """
    with told():
        return count_frames(stamp_of(path))


@functools.lru_cache(maxsize=1024)
def count_frames(stamp: Stamp) -> int:
    """The number of frames in a file, checked against the size of its data.

    Raises:
        ReadingError: the file contains no image, or fewer data than its header claims.
        Exception: whatever pydicom raises.
    """
    with _opened(stamp) as dicom:
        return dicom.frames


def read_frame(stamp: Stamp, frame: int, window: Window | None) -> Dicom:
    """Read one frame; see `read_dicom`.

    Raises:
        ReadingError: the frame cannot be read.
        Exception: whatever pydicom raises.
    """
    with _opened(stamp) as dicom:
        stored = dicom.stored(frame)
        header = dicom.header_of(frame)
        shown: Window | None
        remarks: list[str]
        if header.PhotometricInterpretation == "PALETTE COLOR":
            pixels, shown, remarks = _through_palette(stored, header), None, []
        elif stored.ndim == 3:
            pixels, shown, remarks = _colours(stored, header, window)
        else:
            pixels, shown, remarks = _grey(dicom, stored, header, window)
        image, resized = squared(Image.fromarray(pixels).convert("RGB"), *_spacing(header, dicom))
        frames = dicom.frames
    if shown is not None:
        shown = float(shown[0]), float(shown[1])
    return Dicom(image, frames, shown, remarks + resized)


class Frames(NamedTuple):
    """The result of `read_frames`.

    Attributes:
        values: the rescaled values.
        spacing: millimetres between frames, rows and columns; 1 where the file does not specify it.
    """

    values: Float[np.ndarray, "depth height width"]
    spacing: tuple[float, float, float]


def read_frames(stamp: Stamp) -> Frames:
    """Read all frames of a greyscale file, rescaled.

    Raises:
        ReadingError: the frames take too much memory, or are in colour.
        Exception: whatever pydicom raises.
    """
    with _opened(stamp) as dicom:
        header = dicom.header_of(1)
        if not header.PhotometricInterpretation.startswith("MONOCHROME"):
            raise ReadingError("the frames are in colour; a volume has one value per voxel")
        shape = dicom.frames, int(header.Rows), int(header.Columns)
        check_voxels(shape)
        values = np.empty(shape, np.float32)
        for frame in range(1, dicom.frames + 1):
            values[frame - 1] = dicom.rescaled(frame)
        depth = header.get("SpacingBetweenSlices") or header.get("SliceThickness")
        depth = depth or dicom.header.get("SpacingBetweenSlices")
        depth = depth or dicom.header.get("SliceThickness") or 1
        return Frames(values, (float(depth), *_spacing(header, dicom)))


def check_voxels(shape: tuple[int, ...]) -> None:
    """Refuse a volume that takes too much memory as float32.

    Raises:
        ReadingError: the volume is too large.
    """
    size = 4 * int(np.prod(shape, dtype=object))
    if size > _MOST_VOLUME:
        sides = " x ".join(map(str, shape))
        raise ReadingError(
            f"a volume of {sides} voxels takes {size / 1e9:.1f} GB; reduce it first, or choose a "
            "slice with --page"
        )


class _Opened(NamedTuple):
    """An open file whose header has been read."""

    stamp: Stamp
    file: io.BufferedIOBase
    header: Any
    frames: int

    def stored(self, frame: int) -> Shaped[np.ndarray, "..."]:
        """The stored values of a frame; colours are converted to RGB."""
        self.file.seek(0)
        try:
            return _pydicom().pixels.pixel_array(self.file, index=frame - 1)
        except (AttributeError, NotImplementedError, RuntimeError) as error:
            # pydicom lists the packages that decode this compression.
            raise ReadingError(f"its image cannot be decoded: {error}") from error

    def header_of(self, frame: int) -> Any:
        """The header of a frame: the file's, then the shared, then the frame's own entries."""
        found = self.header.group_dataset(0x0028)
        found.file_meta = self.header.file_meta
        shared = self.header.get("SharedFunctionalGroupsSequence") or []
        single = self.header.get("PerFrameFunctionalGroupsSequence") or []
        for groups in (*shared[:1], *single[frame - 1 : frame]):
            for name in _MACROS:
                for macro in (groups.get(name) or [])[:1]:
                    found.update(macro)
        return found

    def rescaled(self, frame: int) -> Real[np.ndarray, "height width"]:
        """The values of a greyscale frame, in the file's rescaled units."""
        stored, header = self.stored(frame), self.header_of(frame)
        return np.concatenate(
            [
                _pydicom().pixels.apply_modality_lut(stored[rows], header).astype(np.float32)
                for rows in bands(stored.shape)
            ]
        )


@contextlib.contextmanager
def _opened(stamp: Stamp) -> Iterator[_Opened]:
    pydicom = _pydicom()
    meta = pydicom.filereader.read_file_meta_info(stamp.path)
    with Guarded(stamp.path) as file:
        if meta.get("TransferSyntaxUID") == pydicom.uid.DeflatedExplicitVRLittleEndian:
            # After the preamble and the 12-byte element that gives the length of the rest.
            file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
            inflated = _inflated(file, meta)
            yield _Opened(stamp, inflated, *_header(inflated))
        else:
            yield _Opened(stamp, file, *_header_of_file(stamp))


@functools.lru_cache(maxsize=4)
def _header_of_file(stamp: Stamp) -> tuple[Any, int]:
    """The header and the number of frames of a file, cached for all its frames."""
    with Guarded(stamp.path) as file:
        return _header(file)


def _header(file: io.BufferedIOBase) -> tuple[Any, int]:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    header = _pydicom().dcmread(file, stop_before_pixels=True, defer_size=_MOST_ELEMENT)
    if "Rows" not in header or "PhotometricInterpretation" not in header:
        raise ReadingError("this DICOM file contains no image")
    frames = int(header.get("NumberOfFrames") or 1)
    _check_claims(header, frames, file, size)
    return header, frames


def _inflated(file: io.BufferedIOBase, meta: Any) -> io.BufferedIOBase:
    """The file with its deflated part inflated, up to a limit."""
    pydicom = _pydicom()
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    content = io.BytesIO()
    plain = pydicom.Dataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    plain.file_meta = meta
    content.write(b"\0" * 128 + b"DICM")
    pydicom.filewriter.write_file_meta_info(content, meta, enforce_standard=False)
    while block := file.read(2**16):
        while block:
            content.write(inflate.decompress(block, 2**20))
            block = inflate.unconsumed_tail
            if content.tell() > _MOST_INFLATED:
                most = _MOST_INFLATED // 2**20
                raise ReadingError(f"inflates to more than {most} MiB; export it uncompressed")
    return content


def _check_claims(header: Any, frames: int, file: io.BufferedIOBase, size: int) -> None:
    """Compare the header's claims with the size of the data, before memory is allocated.

    Raises:
        ReadingError: the header claims more data than the file contains.
    """
    rows, columns = int(header.Rows), int(header.Columns)
    check_pixels(columns, rows)
    if frames < 1 or rows < 1 or columns < 1:
        raise ReadingError(f"claims {frames} frames of {columns} x {rows} pixels: it is damaged")
    length = _pixel_length(header, file)
    if length is None:
        raise ReadingError("its pixel data are missing: it is truncated; copy or export it again")
    there = size - file.tell()
    samples, bits = int(header.get("SamplesPerPixel") or 1), int(header.BitsAllocated)
    wanted = -(-rows * columns * samples * bits * frames // 8)
    if header.PhotometricInterpretation == "YBR_FULL_422":
        wanted = wanted * 2 // 3
    if length == _UNDEFINED:
        wanted = 8 * frames  # the item that begins each frame
    else:
        there = min(there, length)
    if there < wanted:
        raise ReadingError(
            f"claims {frames} frame{'s' * (frames > 1)} of {columns} x {rows} pixels, which take "
            f"at least {wanted} bytes, but contains {there}: it is truncated or damaged; copy or "
            "export it again"
        )


def _pixel_length(header: Any, file: io.BufferedIOBase) -> int | None:
    """Read the length of the pixel data, which follow in the file; None if there are none."""
    implicit, little = header.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    head = file.read(8)
    if len(head) < 8:
        return None
    if implicit:
        return int.from_bytes(head[4:], order)
    if head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"UN", b"OL", b"OV"):
        return int.from_bytes(file.read(4), order)
    return int.from_bytes(head[6:], order)


def _through_palette(
    stored: Shaped[np.ndarray, "height width"], header: Any
) -> UInt8[np.ndarray, "height width 3"]:
    """The colours of palette indices."""
    apply = _pydicom().pixels.apply_color_lut
    found = np.empty((*stored.shape, 3), np.uint8)
    name = "RedPaletteColorLookupTableDescriptor"
    entries = np.arange(header[name].value[0] or 2**16, dtype=np.int64) + header[name].value[1]
    # Some files store 8-bit colours in 16-bit entries.
    deep = apply(entries[None], header).max() > 255
    for rows in bands(stored.shape):
        colours = apply(stored[rows], header)[..., :3]
        found[rows] = as_bytes(colours, (0, 65535)) if deep else colours
    return found


def _colours(
    stored: Shaped[np.ndarray, "height width channels"], header: Any, window: Window | None
) -> tuple[UInt8[np.ndarray, "height width channels"], Window | None, list[str]]:
    if stored.dtype == np.uint8:
        return stored, None, []
    shown = checked_window(window or (0, 2 ** int(header.BitsStored) - 1))
    return as_bytes(stored, shown), shown, [remark_on(shown, window)]


def _grey(
    dicom: _Opened, stored: Shaped[np.ndarray, "height width"], header: Any, window: Window | None
) -> tuple[UInt8[np.ndarray, "height width"], Window | None, list[str]]:
    """A greyscale frame as a viewer shows it, its window, and remarks."""
    pixels = _pydicom().pixels
    shown = window if window is None else checked_window(window)
    share: Callable[[Any], Any]
    if shown is None and header.get("VOILUTSequence"):
        most = 2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
        remarks = ["drawn through the file's lookup table; override with --window LOW,HIGH"]

        def share(values: Any) -> Any:
            return pixels.apply_voi(np.rint(values).astype(np.int64), header) / most

    else:
        first = dicom.header_of(1)
        named = None if shown else _named_window(first)
        shown = shown or named or _range(dicom.stamp)
        remarks = [remark_on(shown, window)]
        if named and str(first.get("VOILUTFunction") or "").upper() == "SIGMOID":
            header.WindowCenter, header.WindowWidth = first.WindowCenter, first.WindowWidth
            header.VOILUTFunction = "SIGMOID"

            def share(values: Any) -> Any:
                # pydicom scales to the range of stored values. Infinite inputs give its ends.
                with np.errstate(over="ignore"):
                    black, white = pixels.apply_windowing(np.array([-np.inf, np.inf]), header)
                    return (pixels.apply_windowing(values, header) - black) / (white - black)

        else:
            share = functools.partial(as_shares, window=shown)
    inverted = header.PhotometricInterpretation == "MONOCHROME1"
    found = np.empty(stored.shape, np.uint8)
    for rows in bands(stored.shape):
        shares = share(pixels.apply_modality_lut(stored[rows], header))
        if not np.isfinite(shares).all():
            raise ReadingError("the image contains NaN or infinity: replace them first")
        found[rows] = np.rint(255 * ((1 - shares) if inverted else shares))
    return found, shown, remarks


def _named_window(header: Any) -> Window | None:
    """The file's first window; None if it has none."""
    centre, width = (np.ravel(header.get(f"Window{name}") or []) for name in ("Center", "Width"))
    if not (len(centre) and len(width)):
        return None
    middle, reach = float(centre[0]), float(width[0])
    if str(header.get("VOILUTFunction") or "LINEAR").upper() == "LINEAR":
        middle, reach = middle - 0.5, reach - 1
    return (middle - reach / 2, middle + reach / 2) if reach > 0 else None


@functools.lru_cache(maxsize=64)
def _range(stamp: Stamp) -> tuple[float, float]:
    """The range of the values in up to 32 frames, without padding."""
    ranges = []
    with _opened(stamp) as dicom:
        count = min(dicom.frames, _SAMPLED)
        for frame in np.linspace(1, dicom.frames, count).astype(int).tolist():
            stored, header = dicom.stored(frame), dicom.header_of(frame)
            for rows in bands(stored.shape):
                values = stored[rows]
                real = values[~_is_padding(values, header)]
                if real.size:
                    found = _pydicom().pixels.apply_modality_lut(real, header)
                    ranges.append((float(found.min()), float(found.max())))
    low, high = (float(np.min(ranges)), float(np.max(ranges))) if ranges else (0.0, 1.0)
    return low, high if high > low else low + 1


def _is_padding(values: Shaped[np.ndarray, "..."], header: Any) -> Shaped[np.ndarray, "..."]:
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, bool)
    last = header.get("PixelPaddingRangeLimit")
    ends = sorted((int(first), int(first if last is None else last)))
    return (values >= ends[0]) & (values <= ends[1])


def _spacing(header: Any, dicom: _Opened) -> tuple[float, float]:
    """The height and the width of a pixel, in millimetres or relative to each other."""
    for found in (
        header.get("PixelSpacing"),
        dicom.header.get("ImagerPixelSpacing"),
        dicom.header.get("NominalScannedPixelSpacing"),
        header.get("PixelAspectRatio"),
    ):
        if found is not None and len(found) == 2:
            return float(found[0]), float(found[1])
    return 1.0, 1.0


def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise ReadingError(
            "the package pydicom is not installed: pip install 'scorecam_jax[medical]'"
        ) from error
    return pydicom
