"""NIfTI volumes: axial slices in radiological orientation, or the whole volume."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from scorecam_jax._internal.extras import required
from scorecam_jax._internal.orientation import radiological_axes, spacing_of, turned
from scorecam_jax.reading.dicom import check_voxels
from scorecam_jax.reading.errors import ReadingError
from scorecam_jax.reading.files import Stamp
from scorecam_jax.reading.pillow import check_pixels
from scorecam_jax.reading.squares import squared
from scorecam_jax.reading.windows import (
    Window,
    as_bytes,
    checked_window,
    remark_on,
    usual_window,
)

# The highest compression ratio of deflate.
_MOST_DEFLATED = 1032


class Scan(NamedTuple):
    """A volume in radiological orientation.

    Attributes:
        values: slices from the feet to the head, rows from front to back, columns from the
            patient's right to left.
        spacing: distances between slices, rows and columns, in the file's unit, usually
            millimetres.
        affine: the map from indices of `values` to the file's coordinates.
        integers: whether the file stores integers without scaling.
        remarks: sentences about how the file was read.
    """

    values: Float[np.ndarray, "depth height width"]
    spacing: tuple[float, float, float]
    affine: Float[np.ndarray, "4 4"]
    integers: bool
    remarks: list[str]


class Shown(NamedTuple):
    """The result of `read_slice`."""

    image: Image.Image
    remarks: list[str]


@functools.lru_cache(maxsize=1024)
def count_slices(stamp: Stamp) -> int:
    """The number of axial slices in a volume, checked against the size of its file.

    Raises:
        ReadingError: the file is not a volume, or contains less than its header claims.
        Exception: whatever nibabel raises.
    """
    with _opened(stamp) as image:
        (slices, *_), _ = radiological_axes(image.affine)
        return int(image.shape[slices])


@functools.lru_cache(maxsize=1)
def read_scan(stamp: Stamp) -> Scan:
    """Read a volume. The last volume is cached.

    Raises:
        ReadingError: the file is not a volume, or takes too much memory.
        Exception: whatever nibabel raises.
    """
    with _opened(stamp) as image:
        remarks = []
        check_voxels(image.shape[:3])
        if len(image.shape) > 3:
            further = int(np.prod(image.shape[3:]))
            if further > 1:
                remarks.append(f"the first of {further} volumes is read")
            values = image.dataobj[(..., *[0] * (len(image.shape) - 3))].astype(np.float32)
        else:
            values = np.asarray(image.dataobj, np.float32)
        scaled = image.header.get_slope_inter()
        integers = image.get_data_dtype().kind in "ui" and scaled in ((None, None), (1, 0))
        values, affine = turned(values, image.affine)
    if not np.isfinite(values).all():
        raise ReadingError("the volume contains NaN or infinity: replace them first")
    # The array is cached, so it must not be changed.
    values.setflags(write=False)
    return Scan(values, spacing_of(affine), affine, bool(integers), remarks)


def read_slice(stamp: Stamp, number: int, window: Window | None) -> Shown:
    """Draw an axial slice, numbered from 1 at the feet. All slices share one window.

    Raises:
        ReadingError: as in `read_scan`.
        Exception: whatever nibabel raises.
    """
    scan = read_scan(stamp)
    ends = float(scan.values.min()), float(scan.values.max())
    shown = checked_window(window or usual_window(*ends, integers=scan.integers))
    drawn = Image.fromarray(as_bytes(scan.values[number - 1], shown)).convert("RGB")
    image, resized = squared(drawn, *scan.spacing[1:])
    return Shown(image, [*scan.remarks, remark_on(shown, window), *resized])


@contextlib.contextmanager
def _opened(stamp: Stamp) -> Iterator[Any]:
    nibabel = required("nibabel", "medical")
    with nibabel.imageglobals.LoggingOutputSuppressor():
        try:
            image = nibabel.load(stamp.path)
        except nibabel.filebasedimages.ImageFileError as error:
            raise ReadingError("not a NIfTI file, despite its name") from error
        if not isinstance(image, nibabel.Nifti1Pair):
            raise ReadingError("not a NIfTI file, despite its name")
        _check_claims(image, stamp)
        yield image


def _check_claims(image: Any, stamp: Stamp) -> None:
    """Compare the header's claims with the file's size, before memory is allocated."""
    kind = image.get_data_dtype()
    if kind.kind not in "uif":
        raise ReadingError(f"a volume of {kind}; wanted one number per voxel")
    if len(image.shape) < 3 or min(image.shape) < 1:
        raise ReadingError(f"has the shape {image.shape}; wanted a volume of three axes")
    if not np.isfinite(image.affine).all() or np.linalg.matrix_rank(image.affine) < 4:
        raise ReadingError("its affine is singular or not finite: the header is damaged")
    wanted = int(np.prod(image.shape, dtype=object)) * kind.itemsize
    there = max(0, stamp.size - 348)
    if stamp.path.name.lower().endswith(".gz"):
        there = stamp.size * _MOST_DEFLATED
    if wanted > there:
        raise ReadingError(
            f"claims {' x '.join(map(str, image.shape))} voxels, {wanted} bytes, which do not "
            f"fit in its {stamp.size} bytes: it is truncated or damaged; copy it again"
        )
    for axis in range(3):
        height, width = (side for at, side in enumerate(image.shape[:3]) if at != axis)
        check_pixels(width, height)
