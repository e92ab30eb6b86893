"""What people have: pictures, DICOM, NIfTI, their pages and windows, and folders of them."""

from scorecam_jax.reading.dicom import Dicom, read_dicom
from scorecam_jax.reading.errors import ReadingError
from scorecam_jax.reading.files import is_dicom
from scorecam_jax.reading.notes import Note
from scorecam_jax.reading.pictures import Picture, check_picture, read_picture
from scorecam_jax.reading.rgb import as_rgb
from scorecam_jax.reading.sources import Listing, Source, find
from scorecam_jax.reading.volumes import Volume, read_volume
from scorecam_jax.reading.windows import window_of

__all__ = [
    "Dicom",
    "Listing",
    "Note",
    "Picture",
    "ReadingError",
    "Source",
    "Volume",
    "as_rgb",
    "check_picture",
    "find",
    "is_dicom",
    "read_dicom",
    "read_picture",
    "read_volume",
    "window_of",
]
