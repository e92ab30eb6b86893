"""Reading one page of a file as an upright 8-bit RGB picture with square pixels."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from scorecam_jax.reading import dicom, nifti, pillow, tiff
from scorecam_jax.reading.deep import deep_colour, read_deep
from scorecam_jax.reading.errors import ReadingError, told
from scorecam_jax.reading.files import Stamp, kind_of, stamp_of
from scorecam_jax.reading.rgb import as_rgb
from scorecam_jax.reading.sources import Source, pages_in, usual_page
from scorecam_jax.reading.windows import Window, remark_on, window_of

_NO_PICTURES = {"array": "an array", "table": "a table", "sound": "sound"}


class Picture(NamedTuple):
    """The result of `read_picture`.

    Attributes:
        image: upright, 8-bit RGB, with square pixels.
        remarks: sentences about the page, the window and resized pixels.
    """

    image: Image.Image
    remarks: list[str]


def read_picture(source: Source | Path, *, window: Window | None = None) -> Picture:
    """Read a page of a picture, a frame of a DICOM file or a slice of a NIfTI volume.

    Args:
        source: a result of `find`, or a path, whose default page is read.
        window: the values of deep images that become black and white. None: a DICOM file's own
            window or lookup table; for other files as in `usual_window`. Ignored for 8-bit images.

    Raises:
        ReadingError: the source cannot be read.
    """
    with told():
        what = _NO_PICTURES.get(kind_of(stamp_of(_path_of(source)).path))
        if what:
            raise ReadingError(f"{what}, not a picture; wanted PNG, JPEG, DICOM or similar")
        stamp, page = _page_of(source)
        remarks = _check_page(stamp, page)
        kind = kind_of(stamp.path)
        if kind == "dicom":
            found = dicom.read_frame(stamp, page, window)
            return Picture(found.image, remarks + found.remarks)
        if kind == "nifti":
            shown = nifti.read_slice(stamp, page, window)
            return Picture(shown.image, remarks + shown.remarks)
        image, shown_window = _read_page(stamp, page, window)
        if shown_window is not None:
            remarks.append(remark_on(shown_window, window))
        return Picture(image, remarks)


def check_picture(source: Source | Path) -> None:
    """Check a file's header, pages and size, without reading pixels.

    Arrays, tables and sound are not checked here: `read_volume` and `read_series` compare their
    headers with the file.

    Raises:
        ReadingError: the source cannot be read.
    """
    with told():
        if kind_of(stamp_of(_path_of(source)).path) in _NO_PICTURES:
            return
        stamp, page = _page_of(source)
        _check_page(stamp, page)
        kind = kind_of(stamp.path)
        if kind == "picture":
            try:
                with pillow.opened(stamp, page):
                    return
            except pillow.NotPillowsError:
                tiff.check(stamp, page)


def _path_of(source: Source | Path) -> Path:
    return source.path if isinstance(source, Source) else source


def _page_of(source: Source | Path) -> tuple[Stamp, int]:
    if isinstance(source, Source):
        stamp = stamp_of(source.path)
        return stamp, usual_page(stamp) if source.page is None else source.page
    stamp = stamp_of(source)
    return stamp, usual_page(stamp)


def _check_page(stamp: Stamp, page: int) -> list[str]:
    """Refuse a missing page; return a remark on which of several pages it is."""
    pages = pages_in(stamp)
    if not 1 <= page <= pages:
        raise ReadingError(f"has {pages} page{'s' * (pages != 1)}, and no page {page}")
    return [f"page {page} of {pages} (--page N, --page all)"] if pages > 1 else []


def _read_page(stamp: Stamp, page: int, window: Window | None) -> tuple[Image.Image, Window | None]:
    """A page in RGB, and the window if the page is deep."""
    try:
        with pillow.opened(stamp, page) as image:
            how = deep_colour(image)
            if how is None:
                own = window_of(image)
                shown = own and (window or own)
            else:
                image, shown = read_deep(lambda: pillow.opened(stamp, page), how, window)
            found = as_rgb(image, window=None if how else shown)
            # The page itself may be cached and changed.
            return (found.copy() if found is image else found), shown
    except (pillow.NotPillowsError, SyntaxError) as error:
        if isinstance(error, SyntaxError) and not tiff.is_tiff(stamp):
            raise
        return tiff.read(stamp, page, window)
