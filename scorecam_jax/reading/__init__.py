"""Reading pictures, DICOM, NIfTI, series and annotations, with their pages, windows and folders."""

from scorecam_jax.reading.dicom import Dicom, read_dicom
from scorecam_jax.reading.errors import ReadingError
from scorecam_jax.reading.files import Takes, is_dicom
from scorecam_jax.reading.notes import Note
from scorecam_jax.reading.pictures import Picture, check_picture, read_picture
from scorecam_jax.reading.rgb import as_rgb
from scorecam_jax.reading.series import Series, read_series
from scorecam_jax.reading.sources import Listing, Source, find
from scorecam_jax.reading.volumes import Volume, read_volume
from scorecam_jax.reading.windows import window_of

__all__ = [
    "Dicom",
    "Listing",
    "Note",
    "Picture",
    "ReadingError",
    "Series",
    "Source",
    "Takes",
    "Volume",
    "as_rgb",
    "check_picture",
    "find",
    "is_dicom",
    "read_dicom",
    "read_picture",
    "read_series",
    "read_volume",
    "window_of",
]
