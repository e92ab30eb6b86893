"""Whole volumes, for networks that take them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from scorecam_jax.reading import dicom, nifti
from scorecam_jax.reading.errors import ReadingError, told
from scorecam_jax.reading.files import Stamp, kind_of, stamp_of
from scorecam_jax.reading.sources import Source


class Volume(NamedTuple):
    """What `read_volume` returns.

    Attributes:
        values: in the file's units. Of NIfTI: slices from the feet to the head, rows from front to
            back, columns from the patient's right to the left.
        spacing: between slices, rows and columns, in millimetres; 1 where the file does not tell.
        affine: (4, 4), from indices of `values` to the coordinates of a NIfTI file, so that what
            `visualize.write_nifti` writes with it lies over the volume; None for other files.
        remarks: what there is to tell.
    """

    values: Float[np.ndarray, "depth height width"]
    spacing: tuple[float, float, float]
    affine: Float[np.ndarray, "4 4"] | None
    remarks: list[str]


def read_volume(source: Source | Path) -> Volume:
    """Read a NIfTI file, all frames of a DICOM file, or an array of three axes (.npy).

    Args:
        source: as from `find`, or a path. Its page does not matter.

    Raises:
        ReadingError: it cannot be read, or holds no volume.
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
    # Mapped, so that what the header claims is compared with the file before it is read.
    values = np.load(stamp.path, mmap_mode="r", allow_pickle=False)
    if values.ndim != 3 or values.dtype.kind not in "uif" or not values.size:
        raise ReadingError(
            f"an array of {values.dtype} of shape {values.shape}; wanted numbers on three axes"
        )
    dicom.check_voxels(values.shape)
    found = np.asarray(values, np.float32)
    if not np.isfinite(found).all():
        raise ReadingError("the volume holds NaN or infinity: replace them before it is shown")
    return Volume(np.array(found), (1.0, 1.0, 1.0), None, [])
