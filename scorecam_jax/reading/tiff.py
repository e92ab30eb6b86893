"""Reading TIFF files that Pillow does not read, with tifffile (the extra `pictures`)."""

import functools
import logging
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image, TiffImagePlugin

from scorecam_jax.reading.errors import ReadingError
from scorecam_jax.reading.files import Stamp
from scorecam_jax.reading.pillow import check_pixels
from scorecam_jax.reading.rgb import as_rgb
from scorecam_jax.reading.windows import Window, as_bytes, bands, checked_window, usual_window

_MOST_BYTES = 1.2e9


def is_tiff(stamp: Stamp) -> bool:
    """Whether a file begins like a TIFF file."""
    with stamp.path.open("rb") as file:
        return file.read(4).startswith(tuple(TiffImagePlugin.PREFIXES))


@functools.lru_cache(maxsize=1024)
def count_pages(stamp: Stamp) -> int:
    """The number of pages in a file.

    Raises:
        ReadingError: tifffile is not installed.
        Exception: whatever tifffile raises.
    """
    with _tifffile().TiffFile(stamp.path) as file:
        return len(file.pages)


def check(stamp: Stamp, page: int) -> None:
    """Refuse a page that is too large or of an unsupported type.

    Raises:
        ReadingError: the page is refused.
        Exception: whatever tifffile raises.
    """
    with _tifffile().TiffFile(stamp.path) as file:
        _checked(file.pages[page - 1])


def read(stamp: Stamp, page: int, window: Window | None) -> tuple[Image.Image, Window | None]:
    """A page in RGB, and the window if the page is deep.

    Raises:
        ReadingError: the page is too large or of an unsupported type.
        Exception: whatever tifffile raises.
    """
    with _tifffile().TiffFile(stamp.path) as file:
        one = _checked(file.pages[page - 1])
        values = one.asarray()
        inverted = one.photometric == 0
        if one.axes.startswith("S"):
            values = np.moveaxis(values, 0, -1)
    if values.ndim == 2:
        values = values[..., None]
    colours = values.shape[-1] - (values.shape[-1] in (2, 4))
    shown = None
    if values.dtype != np.uint8:
        shown = checked_window(window or _range(values[..., :colours]))
        opaque = (0, 1) if values.dtype.kind == "f" else (0, np.iinfo(values.dtype).max)
        found = np.empty(values.shape, np.uint8)
        found[..., :colours] = as_bytes(values[..., :colours], shown)
        found[..., colours:] = as_bytes(values[..., colours:], opaque)
        values = found
    if inverted:
        values = np.concatenate([255 - values[..., :colours], values[..., colours:]], -1)
    return as_rgb(Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values)), shown


def _range(values: Shaped[np.ndarray, "height width channels"]) -> tuple[float, float]:
    ranges = [(values[rows].min(), values[rows].max()) for rows in bands(values.shape)]
    low, high = float(np.min(ranges)), float(np.max(ranges))
    if not np.isfinite([low, high]).all():
        raise ReadingError("the image contains NaN or infinity: replace them first")
    return usual_window(low, high, integers=values.dtype.kind in "ui")


def _checked(page: Any) -> Any:
    check_pixels(page.imagewidth, page.imagelength)
    if page.nbytes > _MOST_BYTES:
        raise ReadingError(f"takes {page.nbytes / 1e9:.1f} GB when decoded; reduce it first")
    if page.axes not in ("YX", "YXS", "SYX") or page.samplesperpixel > 4:
        raise ReadingError(
            f"a TIFF page with axes {page.axes} and {page.samplesperpixel} channels; save it as "
            "grey or RGB"
        )
    if page.dtype is None or page.dtype.kind not in "uif":
        raise ReadingError(f"a TIFF page with values of {page.dtype}; save it as grey or RGB")
    if page.photometric not in (0, 1, 2):
        raise ReadingError(
            f"a TIFF page with colours in {page.photometric.name}; save it as grey or RGB"
        )
    return page


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise ReadingError(
            "a type of TIFF file that Pillow does not read; tifffile may: "
            "pip install 'scorecam_jax[pictures]'"
        ) from error
    # Without a handler, its log goes to standard error.
    logger = logging.getLogger("tifffile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return tifffile
