"""Reading whole volumes, for networks that take volumes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scorecam_jax.reading import dicom, nifti
from scorecam_jax.reading.errors import ReadingError, told
from scorecam_jax.reading.files import Stamp, kind_of, stamp_of
from scorecam_jax.reading.sources import Source


class Volume(NamedTuple):
    """The result of `read_volume`.

    Attributes:
        values: the values in the file's units. NIfTI volumes have slices from the feet to the head,
            rows from front to back, columns from the patient's right to left.
        spacing: millimetres between slices, rows and columns; 1 where the file does not state it.
        affine: (4, 4), the map from indices of `values` to a NIfTI file's coordinates. A heatmap
            written with it by `visualize.write_nifti` aligns with the volume. None for other files.
        remarks: sentences about how the file was read.
    """

    values: Float[np.ndarray, "depth height width"]
    spacing: tuple[float, float, float]
    affine: Float[np.ndarray, "4 4"] | None
    remarks: list[str]


def read_volume(source: Source | Path) -> Volume:
    """Read a NIfTI file, all frames of a DICOM file, or an array of three axes (.npy).

    Args:
        source: a result of `find`, or a path. Its page is ignored.

    Raises:
        ReadingError: the source cannot be read, or is not a volume.
    """
    with told():
        stamp = stamp_of(source.path if isinstance(source, Source) else source)
        kind = kind_of(stamp.path)
        if kind == "nifti":
            scan = nifti.read_scan(stamp)
            return Volume(scan.values, scan.spacing, scan.affine, scan.remarks)
        if kind == "dicom":
            if dicom.count_frames(stamp) == 1:
                raise ReadingError("has one frame; a volume has several")
            frames = dicom.read_frames(stamp)
            return Volume(frames.values, frames.spacing, None, [])
        if kind == "array":
            return _read_array(stamp)
        raise ReadingError("not a volume; wanted NIfTI, DICOM of several frames, or .npy")


def _read_array(stamp: Stamp) -> Volume:
    # Memory-mapped, so that NumPy compares the header with the file before reading it.
    values = np.load(stamp.path, mmap_mode="r", allow_pickle=False)
    if values.ndim != 3 or values.dtype.kind not in "uif" or not values.size:
        raise ReadingError(
            f"an array of {values.dtype} of shape {values.shape}; wanted numbers on three axes"
        )
    dicom.check_voxels(values.shape)
    found = np.asarray(values, np.float32)
    if not np.isfinite(found).all():
        raise ReadingError("the volume contains NaN or infinity: replace them first")
    return Volume(np.array(found), (1.0, 1.0, 1.0), None, [])
