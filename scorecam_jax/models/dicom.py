"""DICOM files: one frame, in grey levels as a viewer shows it."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image


class Dicom(NamedTuple):
    """What `read_dicom` returns.

    Attributes:
        image: 8-bit RGB.
        frames: how many frames the file has.
        window: the values that became black and white, in the units that the file's rescaling gives
            (Hounsfield units for CT); None for images in colour.
    """

    image: Image.Image
    frames: int
    window: tuple[float, float] | None


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(
    path: Path, *, frame: int = 1, window: tuple[int | float, int | float] | None = None
) -> Dicom:
    """Read one frame of a DICOM file.

    Stored values are rescaled as the file says. Without `window`, the file's own window is used,
    the first if there are several; a file without a window is shown from its lowest to its highest
    value. MONOCHROME1 is inverted, as small values are bright there.

    Args:
        path: of the file.
        frame: which frame, from 1.
        window: the values that become black and white.

    Raises:
        ImportError: pydicom is not installed.
        ValueError: the file is no DICOM file, holds no image or no such frame, or is compressed in
            a way for which a package is missing.

    Source: DICOM PS3.3, C.11.1.1.2 (rescaling) and C.11.2.1.2.1 (linear window).
    """
    pydicom = _pydicom()
    try:
        header = pydicom.dcmread(path)
    except pydicom.errors.InvalidDicomError as error:
        raise ValueError(f"{path} is not a DICOM file") from error
    frames = _frames(header)
    if not 1 <= frame <= frames:
        raise ValueError(f"has {frames} frame{'s' * (frames > 1)}, and no frame {frame}")
    try:
        stored = pydicom.pixels.pixel_array(header, index=frame - 1)
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        # pydicom lists the packages that decode this compression.
        raise ValueError(f"its image cannot be decoded: {error}") from error
    if stored.ndim == 3:
        if stored.dtype != np.uint8:
            raise ValueError("colour of more than 8 bits per channel is not read")
        return Dicom(Image.fromarray(stored), frames, None)
    values = np.asarray(pydicom.pixels.apply_rescale(stored, header), np.float64)
    low, high = window or _window(header, values)
    if not low < high:
        raise ValueError(f"window is {low:g} to {high:g}, wanted the lower value first")
    share = ((values - low) / (high - low)).clip(0, 1)
    if header.PhotometricInterpretation == "MONOCHROME1":
        share = 1 - share
    grey = Image.fromarray(np.rint(255 * share).astype(np.uint8))
    return Dicom(grey.convert("RGB"), frames, (float(low), float(high)))


def frames_of(path: Path) -> int:
    """How many frames a DICOM file has.

    Raises:
        ImportError: pydicom is not installed.
        ValueError: it holds no image.
    """
    return _frames(_pydicom().dcmread(path, stop_before_pixels=True))


def _frames(header: Any) -> int:
    if "Rows" not in header or "PhotometricInterpretation" not in header:
        raise ValueError("this DICOM file holds no image")
    return int(header.get("NumberOfFrames") or 1)


def _window(header: Any, values: Float[np.ndarray, "height width"]) -> tuple[float, float]:
    """The file's first window, or the range of the values."""
    centre, width = (np.ravel(header.get(f"Window{name}") or []) for name in ("Center", "Width"))
    if len(centre) and len(width) and width[0] > 1:
        middle, reach = float(centre[0]) - 0.5, (float(width[0]) - 1) / 2
        return middle - reach, middle + reach
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1


def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise ImportError(
            "the package pydicom is not installed: pip install 'scorecam_jax[medical]'"
        ) from error
    return pydicom
