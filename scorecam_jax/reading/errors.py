"""What is wrong with a file, in words."""

import contextlib
import warnings
from collections.abc import Iterator

from PIL import Image, UnidentifiedImageError


class ReadingError(ValueError):
    """Why a file cannot be read, and what to try. The text does not name the file."""


def too_large() -> ReadingError:
    """The error for a picture of more pixels than Pillow's limit against decompression bombs."""
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
    return ReadingError(
        f"more than {most} megapixels are not read; reduce it first: the network sees only a few "
        "hundred pixels per side"
    )


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn whatever a file makes a reading library raise into a `ReadingError`.

    The libraries' warnings are dropped: what they warn of either ends in an error or is a remark.
    Python's filters of warnings are one for all threads.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ReadingError:
        raise
    except FileNotFoundError:
        raise ReadingError("no such file") from None
    except IsADirectoryError:
        raise ReadingError("a folder, not a photograph; name the files in it") from None
    except UnidentifiedImageError:
        raise ReadingError(
            "not an image in a format that can be read; convert it to JPEG or PNG"
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
