"""NIfTI volumes: axial slices as radiologists look at them, or the whole volume."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

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

# Deflate packs no more than this into a byte.
_MOST_DEFLATED = 1032


class Scan(NamedTuple):
    """A volume in the order in which radiologists look at it.

    Attributes:
        values: slices from the feet to the head, rows from front to back, columns from the
            patient's right to the left.
        spacing: between slices, rows and columns, in the file's unit, usually millimetres.
        affine: from indices of `values` to the file's coordinates.
        integers: whether the values are integers, unscaled.
        remarks: what there is to tell.
    """

    values: Float[np.ndarray, "depth height width"]
    spacing: tuple[float, float, float]
    affine: Float[np.ndarray, "4 4"]
    integers: bool
    remarks: list[str]


class Shown(NamedTuple):
    """What `read_slice` returns."""

    image: Image.Image
    remarks: list[str]


@functools.lru_cache(maxsize=1024)
def count_slices(stamp: Stamp) -> int:
    """How many axial slices a volume has, all of which its file can hold.

    Raises:
        ReadingError: it is no volume, or claims more than there is.
        Exception: whatever nibabel raises.
    """
    with _opened(stamp) as image:
        axis = int(_nibabel().io_orientation(image.affine)[:, 0].tolist().index(2))
        return int(image.shape[axis])


@functools.lru_cache(maxsize=1)
def read_scan(stamp: Stamp) -> Scan:
    """Read a volume. The last one that was read is kept.

    Raises:
        ReadingError: it is no volume, or takes too much memory.
        Exception: whatever nibabel raises.
    """
    with _opened(stamp) as image:
        remarks = []
        check_voxels(image.shape[:3])
        if len(image.shape) > 3:
            further = int(np.prod(image.shape[3:]))
            if further > 1:
                remarks.append(f"the first of {further} volumes")
            image = image.slicer[(..., *[slice(1)] * (len(image.shape) - 3))]
        canonical = _nibabel().as_closest_canonical(image)
        values = np.asarray(canonical.get_fdata(dtype=np.float32, caching="unchanged"))
        values = values.reshape(values.shape[:3])
        scaled = canonical.header.get_slope_inter()
        integers = image.get_data_dtype().kind in "ui" and scaled in ((None, None), (1, 0))
    if not np.isfinite(values).all():
        raise ReadingError("the volume holds NaN or infinity: replace them before it is shown")
    # From right, front and top (x, y, z) to slices that are looked at from the feet.
    across, down, _ = values.shape
    turn = np.array(
        [[0, 0, -1, across - 1], [0, -1, 0, down - 1], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64
    )
    spacing = np.sqrt((canonical.affine[:3, :3] ** 2).sum(0)).tolist()
    return Scan(
        np.ascontiguousarray(values[::-1, ::-1].transpose(2, 1, 0)),
        (spacing[2], spacing[1], spacing[0]),
        canonical.affine @ turn,
        bool(integers),
        remarks,
    )


def read_slice(stamp: Stamp, number: int, window: Window | None) -> Shown:
    """Draw an axial slice, from 1 at the feet, through one window for all slices.

    Raises:
        ReadingError: as `read_scan`.
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
    nibabel = _nibabel()
    with nibabel.imageglobals.LoggingOutputSuppressor():
        try:
            image = nibabel.load(stamp.path)
        except nibabel.filebasedimages.ImageFileError as error:
            raise ReadingError(f"not a NIfTI file: {error}") from error
        if not isinstance(image, nibabel.Nifti1Pair):
            raise ReadingError("not a NIfTI file, but for its name")
        _check_claims(image, stamp)
        yield image


def _check_claims(image: Any, stamp: Stamp) -> None:
    """Compare what a header claims with the data that are there, before anything is made."""
    kind = image.get_data_dtype()
    if kind.kind not in "uif":
        raise ReadingError(f"a volume of {kind}; wanted one number for each voxel")
    if len(image.shape) < 3 or min(image.shape) < 1:
        raise ReadingError(f"has the shape {image.shape}; wanted a volume of three axes")
    if not np.isfinite(image.affine).all() or np.linalg.matrix_rank(image.affine) < 4:
        raise ReadingError("its affine is not that of a volume: the header is damaged")
    wanted = int(np.prod(image.shape, dtype=object)) * kind.itemsize
    there = max(0, stamp.size - 348)
    if stamp.path.name.lower().endswith(".gz"):
        there = stamp.size * _MOST_DEFLATED
    if wanted > there:
        raise ReadingError(
            f"claims {' x '.join(map(str, image.shape))} voxels, {wanted} bytes, and its "
            f"{stamp.size} cannot hold them: it is truncated or damaged; copy it again"
        )
    for axis in range(3):
        height, width = (side for at, side in enumerate(image.shape[:3]) if at != axis)
        check_pixels(width, height)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ReadingError(
            "the package nibabel is not installed: pip install 'scorecam_jax[medical]'"
        ) from error
    return nibabel
