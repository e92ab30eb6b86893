"""Volumes and video: sheets of slices, moving pictures, and NIfTI files."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from scorecam_jax.visualize.colours import checked
from scorecam_jax.visualize.overlay import overlay
from scorecam_jax.visualize.pictures import as_picture
from scorecam_jax.visualize.sheet import sheet

_FORMATS = {".webp": "WEBP", ".gif": "GIF"}


class Volume(NamedTuple):
    """What was read from a NIfTI file.

    Attributes:
        values: (x, y, z) or (x, y, z, further), scaled as the file says.
        affine: (4, 4), from indices to millimetres.
    """

    values: Float[np.ndarray, "x y z *further"]
    affine: Float[np.ndarray, "4 4"]


def slices(
    volume: Any,
    heatmap: Any,
    *,
    most: int = 12,
    every: int | None = None,
    axis: int = 0,
    window: tuple[int | float, int | float] | None = None,
    colormap: str = "ember",
    alpha: int | float = 0.7,
) -> Image.Image:
    """Set the slices of a volume out under its heatmap.

    Args:
        volume: (D, H, W) in any range, or (D, H, W, 3), uint8 or in [0, 1], as a video is.
        heatmap: (D, H, W), in [0, 1].
        most: how many slices to show: those with the largest sum of the heatmap, in their order.
        every: show each n-th slice instead, beginning with the first.
        axis: which of the three axes to cut across.
        window: the values drawn black and white; None: the volume's least and largest.
        colormap: as in `colorize`.
        alpha: as in `overlay`.

    Returns:
        A sheet; each slice's title is its index.

    Raises:
        ValueError: the shapes do not fit, `most`, `every` or `axis` is out of range, or the heatmap
            is unfit.

    >>> slices(np.zeros((4, 20, 30)), np.ones((4, 20, 30)), every=2).width > 180
    True
    """
    pictures, maps = _cut(volume, heatmap, axis, window)
    if every is not None:
        _at_least_one("every", every)
        chosen = list(range(0, len(maps), every))
    else:
        _at_least_one("most", most)
        sums = maps.sum((1, 2))
        chosen = sorted(np.argsort(-sums, kind="stable")[:most].tolist())
    panels = [overlay(pictures[at], maps[at], colormap=colormap, alpha=alpha) for at in chosen]
    return sheet(panels, [f"{at}" for at in chosen])


def animate(
    path: str | Path,
    volume: Any,
    heatmap: Any,
    *,
    rate: int | float = 10,
    axis: int = 0,
    window: tuple[int | float, int | float] | None = None,
    colormap: str = "ember",
    alpha: int | float = 0.7,
) -> None:
    """Write a volume under its heatmap as a moving picture, a slice after the other, in a loop.

    Args:
        path: a file that ends in .webp or .gif.
        volume: as in `slices`.
        heatmap: as in `slices`.
        rate: slices per second.
        axis: which of the three axes to cut across.
        window: as in `slices`.
        colormap: as in `colorize`.
        alpha: as in `overlay`.

    Raises:
        ValueError: as in `slices`, or the file's name has another ending.
        OSError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in _FORMATS:
        raise ValueError(f"{target} ends in {target.suffix!r}; wanted .webp or .gif")
    if not rate > 0:
        raise ValueError(f"rate is {rate}; wanted slices per second, above 0")
    pictures, maps = _cut(volume, heatmap, axis, window)
    first, *rest = (
        overlay(picture, one, colormap=colormap, alpha=alpha)
        for picture, one in zip(pictures, maps, strict=True)
    )
    content = io.BytesIO()
    first.save(
        content,
        _FORMATS[target.suffix.lower()],
        save_all=True,
        append_images=rest,
        duration=round(1000 / rate),
        loop=0,
    )
    target.write_bytes(content.getvalue())


def as_slices(
    volume: Any, *, axis: int = 0, window: tuple[int | float, int | float] | None = None
) -> list[Image.Image]:
    """A volume or a video as one picture per slice; see `slices` for the arguments.

    >>> [picture.size for picture in as_slices(np.zeros((2, 5, 7)))]
    [(7, 5), (7, 5)]
    """
    values = np.asarray(volume)
    if values.shape[3:] == (1,):
        values = values[..., 0]
    if values.ndim not in (3, 4) or values.shape[3:] not in ((), (3,)) or not values.size:
        raise ValueError(
            f"a volume has the shape (depth, height, width) or, in colour, (depth, height, width, "
            f"3); found {np.shape(volume)}"
        )
    if not -3 <= axis < 3:
        raise ValueError(f"axis is {axis}; wanted 0, 1 or 2")
    values = np.moveaxis(values, axis % 3, 0)
    if values.ndim == 4:
        return [as_picture(one) for one in values]
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("the volume holds values that are NaN or infinite")
    low, high = window or (float(values.min()), float(values.max()))
    share = (values - low) / ((high - low) or 1.0)
    return [as_picture(one) for one in share.clip(0, 1)]


def read_nifti(path: str | Path) -> Volume:
    """Read a volume from a NIfTI file, with nibabel (the extra `medical`).

    Raises:
        ImportError: nibabel is not installed.
        ValueError: the file is no NIfTI file.
        OSError: it cannot be read.
    """
    nibabel = _nibabel()
    try:
        image = nibabel.load(path)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError(f"{path} is not a NIfTI file: {error}") from error
    return Volume(np.asarray(image.get_fdata(), np.float32), np.asarray(image.affine, np.float64))


def write_nifti(path: str | Path, heatmap: Any, affine: Any) -> None:
    """Write a heatmap as a NIfTI file that lies over the volume it explains.

    Args:
        path: a file that ends in .nii or .nii.gz.
        heatmap: (x, y, z), of the volume's shape.
        affine: (4, 4), the volume's.

    Raises:
        ImportError: nibabel is not installed.
        ValueError: the heatmap is not three-dimensional or the affine not (4, 4).
        OSError: the file cannot be written.
    """
    nibabel = _nibabel()
    values, transform = np.asarray(heatmap, np.float32), np.asarray(affine, np.float64)
    if values.ndim != 3 or transform.shape != (4, 4):
        raise ValueError(
            f"the heatmap has shape {values.shape} and the affine {transform.shape}; wanted "
            "(x, y, z) and (4, 4)"
        )
    if not str(path).endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path} should end in .nii or .nii.gz")
    nibabel.save(nibabel.Nifti1Image(values, transform), path)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ImportError(
            "the package nibabel is not installed: pip install 'scorecam_jax[medical]'"
        ) from error
    return nibabel


def _cut(
    volume: Any,
    heatmap: Any,
    axis: int,
    window: tuple[int | float, int | float] | None,
) -> tuple[list[Image.Image], Float[np.ndarray, "depth height width"]]:
    """The slices, and the heatmap of each."""
    pictures = as_slices(volume, axis=axis, window=window)
    maps = np.asarray(heatmap)
    if maps.shape != np.shape(volume)[:3]:
        raise ValueError(
            f"the heatmap has shape {maps.shape} and the volume {np.shape(volume)}; wanted one "
            "value of the heatmap for each voxel"
        )
    maps = np.moveaxis(maps, axis % 3, 0)
    return pictures, np.stack([checked(one) for one in maps])


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}; wanted at least 1")
