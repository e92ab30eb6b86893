"""Errors that explain why a file cannot be read."""

import contextlib
import threading
import warnings
from collections.abc import Iterator

from PIL import Image, UnidentifiedImageError

# The libraries that read files, and this folder's own arithmetic on damaged values.
_NOISY = r"(PIL|pydicom|nibabel|tifffile|imagecodecs|pillow_heif|scorecam_jax\.reading)(\.|$)"


class ReadingError(ValueError):
    """Why a file cannot be read, and what to try. The message does not name the file."""


def too_large() -> ReadingError:
    """The error for a picture beyond Pillow's limit against decompression bombs."""
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
    return ReadingError(
        f"larger than {most} megapixels, the limit; reduce it first: the network sees only a few "
        "hundred pixels per side"
    )


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Convert any error raised by a reading library into a `ReadingError`.

    The libraries' warnings are dropped: their causes also lead to an error or a remark.
    """
    try:
        with _quiet.held():
            yield
    except ReadingError:
        raise
    except FileNotFoundError:
        raise ReadingError("no such file") from None
    except IsADirectoryError:
        raise ReadingError("a folder, not a photograph; name the files in it") from None
    except UnidentifiedImageError:
        raise ReadingError(
            "cannot be read: not an image in a known format; convert it to JPEG or PNG"
        ) from None
    except Image.DecompressionBombError:
        raise too_large() from None
    except MemoryError:
        raise ReadingError("too large for this machine's memory; reduce it first") from None
    except OSError as error:
        raise ReadingError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # A damaged file can make its library fail in any way.
        what = str(error) or type(error).__name__
        raise ReadingError(f"cannot be read: {what}") from error


class _Quiet:
    """Filters out the libraries' warnings while any thread reads.

    All threads share Python's warning filters. If each thread saved and restored them by itself,
    one could restore the temporary filters of another.
    """

    def __init__(self) -> None:
        self._lock, self._readers = threading.Lock(), 0
        self._filters = contextlib.ExitStack()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if not self._readers:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", module=_NOISY)
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    self._filters.close()


_quiet = _Quiet()
