"""Picture files that Pillow reads, page by page and within limits."""

import contextlib
import functools
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from scorecam_jax.reading.errors import ReadingError, too_large
from scorecam_jax.reading.files import Guarded, Stamp

# No picture within Pillow's pixel limit takes more. TIFF is exempt: it is not read whole.
_MOST_BYTES = 2 * 2**30
_MOST_KEPT = 64 * 2**20

# The minimum size of a page in any format, in bytes.
_LEAST_PAGE = 6

_HEIF = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}

_of_this_thread = threading.local()


class NotPillowsError(Exception):
    """A TIFF file of a type that Pillow does not read."""


@functools.lru_cache(maxsize=1024)
def count_pages(stamp: Stamp) -> int:
    """The number of pages in a file.

    Raises:
        ReadingError: the file claims more pages than fit in its bytes.
        NotPillowsError: Pillow does not read this type of TIFF file.
        Exception: whatever Pillow raises.
    """
    with _file(stamp) as image, _told_apart(image):
        pages = int(getattr(image, "n_frames", 1))
    if pages > max(1, stamp.size // _LEAST_PAGE):
        raise ReadingError(
            f"claims {pages} pages, more than fit in its {stamp.size} bytes: it is damaged"
        )
    return pages


@contextlib.contextmanager
def opened(stamp: Stamp, page: int) -> Iterator[Image.Image]:
    """Open a page of a file, numbered from 1, without decoding its pixels.

    Raises:
        ReadingError: the page has too many pixels.
        NotPillowsError: Pillow does not read this type of TIFF file.
        Exception: whatever Pillow raises.
    """
    kept = _kept(stamp, page)
    if kept is not None:
        yield kept
        return
    with _file(stamp) as image:
        with _told_apart(image):
            image.seek(page - 1)
        check_pixels(*image.size)
        yield image


@contextlib.contextmanager
def _told_apart(image: Image.Image) -> Iterator[None]:
    """Convert Pillow's errors on unsupported pages of a TIFF file into `NotPillowsError`."""
    try:
        yield
    except (SyntaxError, KeyError, TypeError) as error:
        if image.format != "TIFF":
            raise
        raise NotPillowsError(str(error)) from error


def check_pixels(width: int, height: int) -> None:
    """Refuse a picture with more pixels than Pillow's limit against decompression bombs.

    Raises:
        ReadingError: the picture has more pixels.
    """
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise too_large()


def _kept(stamp: Stamp, page: int) -> Image.Image | None:
    """The page of an animation, or None for other files.

    Frames of an animation must be decoded in order. The file is therefore kept open in memory, per
    thread, so that reading all pages in order takes linear time.
    """
    found = getattr(_of_this_thread, "image", None)
    _of_this_thread.image = None
    if stamp.size > _MOST_KEPT or count_pages(stamp) == 1:
        return None
    if found is None or found[0] != stamp:
        with _file(stamp) as image:
            if image.format not in ("GIF", "PNG", "WEBP"):
                return None
            check_pixels(*image.size)
        found = stamp, Image.open(io.BytesIO(stamp.path.read_bytes()))
    found[1].seek(page - 1)
    found[1].load()
    _of_this_thread.image = found
    return found[1]


@contextlib.contextmanager
def _file(stamp: Stamp) -> Iterator[Image.Image]:
    with Guarded(stamp.path) as file:
        head = file.peek(16)[:16]
        with _image(file, head, stamp) as image:
            yield image


def _image(file: Guarded, head: bytes, stamp: Stamp) -> Any:
    if head.startswith(tuple(TiffImagePlugin.PREFIXES)):
        # Image.open would check only the size of the first page.
        try:
            return TiffImagePlugin.TiffImageFile(file, str(stamp.path))
        except (SyntaxError, KeyError, TypeError) as error:
            raise NotPillowsError(str(error)) from error
    if stamp.size > _MOST_BYTES:
        raise ReadingError(
            f"a file of {stamp.size / 1e9:.1f} GB, larger than any picture that can be read; is "
            "it a picture?"
        )
    try:
        image = Image.open(file)
        file.compressed = image.format in ("JPEG", "MPO")
        return image
    except UnidentifiedImageError:
        if head[4:8] == b"ftyp" and head[8:12] in _HEIF:
            return _heif(file, stamp.path)
        raise


def _heif(file: Guarded, path: Path) -> Any:
    try:
        import pillow_heif
    except ImportError as error:
        raise ReadingError(
            "a HEIC picture, which needs pillow_heif: pip install 'scorecam_jax[pictures]'"
        ) from error
    return pillow_heif.HeifImageFile(file, str(path))
