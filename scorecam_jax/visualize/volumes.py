"""Volumes and videos: sheets of slices, animations and NIfTI files."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image, ImageDraw

from scorecam_jax._internal.extras import required
from scorecam_jax._internal.orientation import spacing_of, turned
from scorecam_jax.visualize.colours import SIGNED, checked
from scorecam_jax.visualize.legend import kinds_of, legend_of
from scorecam_jax.visualize.overlay import overlay
from scorecam_jax.visualize.pictures import as_picture, enlargement
from scorecam_jax.visualize.sheet import sheet

_FORMATS = {".webp": "WEBP", ".gif": "GIF"}

# The plane across each axis of a volume from `radiological`, and the directions of its edges.
_PLANES = ("axial", "coronal", "sagittal")
_EDGES = ("R to L, A to P", "R to L, S to I", "A to P, S to I")


class Panels(NamedTuple):
    """The panels of a sheet.

    Attributes:
        pictures: the panels.
        titles: the panels' titles.
        captions: the panels' captions; may be empty.
        factor: the factor by which the panels were enlarged.
        colormap: the colour map of the heatmaps.
        alpha: opacity of the colours where a heatmap is 1.
    """

    pictures: list[Image.Image]
    titles: list[str]
    captions: Sequence[str]
    factor: int
    colormap: str
    alpha: int | float

    def sheet(self, columns: int | None = None, *, colorbar: bool = False) -> Image.Image:
        """Arrange the panels on a sheet; signed ones always get a colour bar."""
        kinds = kinds_of([self.colormap == SIGNED], self.colormap, wanted=colorbar)
        return sheet(
            self.pictures,
            self.titles,
            columns=columns,
            captions=self.captions,
            note=enlarged_by(self.factor),
            legend=legend_of(kinds, alpha=self.alpha),
        )


class Volume(NamedTuple):
    """A volume from a NIfTI file.

    Attributes:
        values: (x, y, z) or (x, y, z, further), scaled as the file specifies.
        affine: (4, 4), the map from indices to millimetres.
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
    spacing: Sequence[int | float] | None = None,
    affine: Any = None,
    colormap: str = "ember",
    alpha: int | float = 0.7,
    colorbar: bool = False,
) -> Image.Image:
    """Draw the slices of a volume under its heatmap, on one sheet.

    Args:
        volume: (D, H, W) in any range, or (D, H, W, 3), uint8 or in [0, 1], such as a video.
        heatmap: (D, H, W), in [0, 1]; with `colormap="signed"` in [-1, 1].
        most: the number of slices to show: those with the largest sum of absolute heatmap values,
            in their order.
        every: show every n-th slice instead, beginning with the first.
        axis: the axis to cut across, 0, 1 or 2.
        window: the values drawn black and white; None: the volume's smallest and largest.
        spacing: the lengths of a voxel's three sides; None: voxels are cubes.
        affine: (4, 4), the affine of the NIfTI file if volume and heatmap are (x, y, z). Both are
            then reoriented by `radiological`, and `spacing` is taken from the affine. `axis` and
            the titles refer to the reoriented volume. None: nothing is reoriented.
        colormap: as in `colorize`.
        alpha: as in `overlay`.
        colorbar: whether to draw a colour bar. Signed heatmaps always have one.

    Returns:
        A sheet; each slice's title is its index. Small slices are enlarged without smoothing, and a
        note on the sheet states the factor.

    Raises:
        ValueError: the shapes do not fit, `most`, `every` or `axis` is out of range, or the heatmap
            cannot be drawn.

    >>> slices(np.zeros((4, 20, 30)), np.ones((4, 20, 30)), every=2).width > 180
    True
    """
    return slice_panels(
        volume, heatmap, most=most, every=every, axis=axis, window=window, spacing=spacing,
        affine=affine, colormap=colormap, alpha=alpha,
    ).sheet(colorbar=colorbar)  # fmt: skip


def slice_panels(
    volume: Any,
    heatmap: Any,
    *,
    most: int = 12,
    every: int | None = None,
    axis: int = 0,
    window: tuple[int | float, int | float] | None = None,
    spacing: Sequence[int | float] | None = None,
    affine: Any = None,
    colormap: str = "ember",
    alpha: int | float = 0.7,
) -> Panels:
    """The panels of `slices`."""
    volume, heatmap, spacing = _turned(volume, heatmap, spacing, affine)
    pictures, maps = _cut(volume, heatmap, axis, window, colormap)
    if every is not None:
        _at_least_one("every", every)
        chosen = list(range(0, len(maps), every))
    else:
        _at_least_one("most", most)
        sums = np.abs(maps).sum((1, 2))
        chosen = sorted(np.argsort(-sums, kind="stable")[:most].tolist())
    sides = _sides(spacing, axis)
    factor = _factor(pictures[0].size, sides)
    panels = [
        _to_scale(overlay(pictures[at], maps[at], colormap=colormap, alpha=alpha), sides, factor)
        for at in chosen
    ]
    return Panels(panels, [f"{at}" for at in chosen], (), factor, colormap, alpha)


def planes(
    volume: Any,
    heatmap: Any,
    *,
    at: Sequence[int] | None = None,
    window: tuple[int | float, int | float] | None = None,
    spacing: Sequence[int | float] | None = None,
    affine: Any = None,
    colormap: str = "ember",
    alpha: int | float = 0.7,
    colorbar: bool = False,
) -> Image.Image:
    """Draw the three planes through a point of a volume, by default the heatmap's peak.

    Lines mark where the planes meet.

    Args:
        volume: as in `slices`.
        heatmap: as in `slices`.
        at: the point, an index along each axis; None: the largest absolute heatmap value.
        window: as in `slices`.
        spacing: as in `slices`.
        affine: as in `slices`. `at` then refers to the reoriented volume.
        colormap: as in `colorize`.
        alpha: as in `overlay`.
        colorbar: whether to draw a colour bar. Signed heatmaps always have one.

    Returns:
        A sheet of three panels. With an affine they are axial, coronal and sagittal, with the head
        up, and letters name the directions of the edges: right (R) and left (L) of the patient,
        anterior (A), posterior (P), superior (S) and inferior (I). Without an affine, the first
        axis points up in the planes across the other two.

    Raises:
        ValueError: the shapes do not fit, `at` is outside the volume, or the heatmap cannot be
            drawn.
    """
    return plane_panels(
        volume, heatmap, at=at, window=window, spacing=spacing, affine=affine, colormap=colormap,
        alpha=alpha,
    ).sheet(columns=3, colorbar=colorbar)  # fmt: skip


def plane_panels(
    volume: Any,
    heatmap: Any,
    *,
    at: Sequence[int] | None = None,
    window: tuple[int | float, int | float] | None = None,
    spacing: Sequence[int | float] | None = None,
    affine: Any = None,
    colormap: str = "ember",
    alpha: int | float = 0.7,
) -> Panels:
    """The panels of `planes`."""
    known = affine is not None
    volume, heatmap, spacing = _turned(volume, heatmap, spacing, affine)
    values = np.asarray(heatmap)
    if at is None:
        peak = np.argmax(np.abs(values))
        at = [int(index) for index in np.unravel_index(peak, values.shape)]
    if len(at) != 3 or not all(0 <= i < side for i, side in zip(at, values.shape, strict=True)):
        raise ValueError(f"at is {tuple(at)}; wanted an index along each axis of {values.shape}")
    panels = []
    lengths = [side / min(spacing or (1,)) for side in spacing or (1, 1, 1)]
    factor = enlargement(
        [round(cells * one) for cells, one in zip(values.shape, lengths, strict=True)]
    )
    shown = np.asarray(volume)
    if window is None and shown.ndim == 3:
        window = float(shown.min()), float(shown.max())
    for axis in range(3):
        one = [at[axis]]
        (picture,), (plane,) = _cut(
            np.take(shown, one, axis), np.take(values, one, axis), axis, window, colormap
        )
        drawn = overlay(picture, plane, colormap=colormap, alpha=alpha)
        down, across = (place for other, place in enumerate(at) if other != axis)
        if axis:
            drawn, down = drawn.transpose(Image.Transpose.FLIP_TOP_BOTTOM), drawn.height - 1 - down
        depth, height, width = lengths
        sides = [(width, height), (width, depth), (height, depth)][axis]
        panels.append(_cross(_to_scale(drawn, sides, factor), drawn.size, across, down))
    names = _PLANES if known else ("axis 0", "axis 1", "axis 2")
    titles = [f"{name}, {place}" for name, place in zip(names, at, strict=True)]
    return Panels(panels, titles, _EDGES if known else (), factor, colormap, alpha)


def animate(
    path: str | Path,
    volume: Any,
    heatmap: Any,
    *,
    rate: int | float = 10,
    axis: int = 0,
    window: tuple[int | float, int | float] | None = None,
    spacing: Sequence[int | float] | None = None,
    affine: Any = None,
    colormap: str = "ember",
    alpha: int | float = 0.7,
) -> int:
    """Write a volume under its heatmap as an animation, slice by slice, in a loop.

    Args:
        path: a file that ends in .webp or .gif.
        volume: as in `slices`.
        heatmap: as in `slices`.
        rate: slices per second.
        axis: the axis to cut across, 0, 1 or 2.
        window: as in `slices`.
        spacing: as in `slices`.
        affine: as in `slices`.
        colormap: as in `colorize`.
        alpha: as in `overlay`.

    Returns:
        The factor by which the slices were enlarged, without smoothing. It is 1 for large slices.

    Raises:
        ValueError: as in `slices`, or `path` has another suffix.
        OSError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in _FORMATS:
        raise ValueError(f"{target} ends in {target.suffix!r}; wanted .webp or .gif")
    if not rate > 0:
        raise ValueError(f"rate is {rate}; wanted slices per second, above 0")
    volume, heatmap, spacing = _turned(volume, heatmap, spacing, affine)
    pictures, maps = _cut(volume, heatmap, axis, window, colormap)
    sides = _sides(spacing, axis)
    factor = _factor(pictures[0].size, sides)
    first, *rest = (
        _to_scale(overlay(picture, one, colormap=colormap, alpha=alpha), sides, factor)
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
    return factor


def radiological(
    volume: Any, affine: Any
) -> tuple[Shaped[np.ndarray, "depth height width *further"], tuple[float, float, float]]:
    """Reorient a volume (x, y, z) to the radiological view.

    Args:
        volume: (x, y, z) or (x, y, z, further), as in a NIfTI file.
        affine: (4, 4), the map from indices to millimetres right, anterior and superior (RAS).

    Returns:
        The volume, with slices from the feet to the head, rows from front to back, columns from the
        patient's right to left; and the lengths of a voxel's sides in this order. Axes are only
        permuted and reversed: oblique ones are assigned to the nearest direction.

    Raises:
        ValueError: the affine is not (4, 4), or maps two axes to one direction.

    >>> turned, sides = radiological(np.arange(8).reshape(2, 2, 2), np.diag([2.0, 2.0, 3.0, 1.0]))
    >>> turned[0].tolist(), sides
    ([[6, 2], [4, 0]], (3.0, 2.0, 2.0))
    """
    transform = np.asarray(affine, np.float64)
    if transform.shape != (4, 4) or not np.isfinite(transform).all():
        raise ValueError(f"the affine has shape {transform.shape}; wanted (4, 4), all finite")
    values, transform = turned(np.asarray(volume), transform)
    return values, spacing_of(transform)


def squared_slices(
    volume: Any, spacing: Sequence[int | float], window: tuple[int | float, int | float] | None
) -> tuple[list[Image.Image], float]:
    """A volume's slices with square pixels, and the thickness of a slice in pixels."""
    across, down = _sides(spacing, 0)
    pictures = as_slices(volume, window=window)
    size = round(pictures[0].width * across), round(pictures[0].height * down)
    if size != pictures[0].size:
        pictures = [picture.resize(size, Image.Resampling.BICUBIC) for picture in pictures]
    return pictures, spacing[0] / min(spacing[1:])


def as_slices(
    volume: Any, *, axis: int = 0, window: tuple[int | float, int | float] | None = None
) -> list[Image.Image]:
    """Convert a volume or a video to one picture per slice; see `slices` for the arguments.

    >>> [picture.size for picture in as_slices(np.zeros((2, 5, 7)))]
    [(7, 5), (7, 5)]
    """
    values = np.asarray(volume)
    if values.shape[3:] == (1,):
        values = values[..., 0]
    if values.ndim not in (3, 4) or values.shape[3:] not in ((), (3,)) or not values.size:
        raise ValueError(
            f"a volume must have shape (depth, height, width) or, in colour, (depth, height, "
            f"width, 3); found {np.shape(volume)}"
        )
    if not -3 <= axis < 3:
        raise ValueError(f"axis is {axis}; wanted 0, 1 or 2")
    values = np.moveaxis(values, axis % 3, 0)
    if values.ndim == 4:
        return [as_picture(one) for one in values]
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("the volume contains values that are NaN or infinite")
    low, high = window or (float(values.min()), float(values.max()))
    share = (values - low) / ((high - low) or 1.0)
    return [as_picture(one) for one in share.clip(0, 1)]


def read_nifti(path: str | Path) -> Volume:
    """Read a volume from a NIfTI file, with nibabel (the extra `medical`).

    Raises:
        ImportError: nibabel is not installed.
        ValueError: the file is not a NIfTI file.
        OSError: the file cannot be read.
    """
    nibabel = required("nibabel", "medical")
    try:
        image = nibabel.load(path)
    except nibabel.filebasedimages.ImageFileError as error:
        raise ValueError(f"{path} is not a NIfTI file: {error}") from error
    return Volume(np.asarray(image.get_fdata(), np.float32), np.asarray(image.affine, np.float64))


def write_nifti(path: str | Path, heatmap: Any, affine: Any) -> None:
    """Write a heatmap as a NIfTI file that aligns with the volume it explains.

    Args:
        path: a file that ends in .nii or .nii.gz.
        heatmap: (x, y, z), with the volume's shape.
        affine: (4, 4), the volume's affine.

    Raises:
        ImportError: nibabel is not installed.
        ValueError: the heatmap is not three-dimensional, the affine is not (4, 4), or `path` has
            another suffix.
        OSError: the file cannot be written.
    """
    nibabel = required("nibabel", "medical")
    values, transform = np.asarray(heatmap, np.float32), np.asarray(affine, np.float64)
    if values.ndim != 3 or transform.shape != (4, 4):
        raise ValueError(
            f"the heatmap has shape {values.shape} and the affine {transform.shape}; wanted "
            "(x, y, z) and (4, 4)"
        )
    if not str(path).lower().endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path} must end in .nii or .nii.gz")
    nibabel.save(nibabel.Nifti1Image(values, transform), path)


def _turned(
    volume: Any, heatmap: Any, spacing: Sequence[int | float] | None, affine: Any
) -> tuple[Any, Any, Sequence[int | float] | None]:
    """The volume and its heatmap, reoriented for drawing, and the lengths of a voxel's sides."""
    if spacing is not None and not (len(spacing) == 3 and all(0 < one < np.inf for one in spacing)):
        raise ValueError(f"spacing is {spacing}; wanted three positive lengths, one per axis")
    if affine is None:
        return volume, heatmap, spacing
    if np.ndim(heatmap) != 3 or np.ndim(volume) < 3:
        raise ValueError(
            f"the heatmap has shape {np.shape(heatmap)} and the volume {np.shape(volume)}; an "
            "affine needs three axes"
        )
    shown, lengths = radiological(volume, affine)
    return shown, radiological(heatmap, affine)[0], lengths


def _sides(spacing: Sequence[int | float] | None, axis: int) -> tuple[float, float]:
    """The width and the height of a slice's pixels, in units of the shorter one."""
    down, across = (side for at, side in enumerate(spacing or (1, 1, 1)) if at != axis % 3)
    return across / min(across, down), down / min(across, down)


def _factor(size: Sequence[int], sides: tuple[float, float]) -> int:
    return enlargement([round(pixels * side) for pixels, side in zip(size, sides, strict=True)])


def _to_scale(picture: Image.Image, sides: tuple[float, float], factor: int) -> Image.Image:
    """Enlarge a slice by a factor, with pixels in their true proportions."""
    width, height = (
        max(1, round(pixels * side * factor))
        for pixels, side in zip(picture.size, sides, strict=True)
    )
    return picture.resize((width, height), Image.Resampling.NEAREST)


def enlarged_by(factor: int) -> str:
    """The note on a sheet about its enlargement."""
    return f"Drawn at {factor} times its size, without smoothing." if factor > 1 else ""


def _cross(picture: Image.Image, size: Sequence[int], across: int, down: int) -> Image.Image:
    """Mark a column and a row of a slice by lines with a gap around their crossing."""
    draw = ImageDraw.Draw(picture)
    (width, height), (columns, rows) = picture.size, size
    x, y = (across + 0.5) * width / columns, (down + 0.5) * height / rows
    free = max(picture.size) / 12
    for line in (
        (x, 0, x, y - free), (x, y + free, x, height), (0, y, x - free, y), (x + free, y, width, y)
    ):  # fmt: skip
        if line[0] <= line[2] and line[1] <= line[3]:
            draw.line(line, "white", 1)
    return picture


def _cut(
    volume: Any,
    heatmap: Any,
    axis: int,
    window: tuple[int | float, int | float] | None,
    colormap: str,
) -> tuple[list[Image.Image], Float[np.ndarray, "depth height width"]]:
    """The slices of a volume, and the heatmap of each slice."""
    pictures = as_slices(volume, axis=axis, window=window)
    maps = np.asarray(heatmap)
    if maps.shape != np.shape(volume)[:3]:
        raise ValueError(
            f"the heatmap has shape {maps.shape} and the volume {np.shape(volume)}; wanted one "
            "heatmap value per voxel"
        )
    maps = np.moveaxis(maps, axis % 3, 0)
    return pictures, np.stack([checked(one, signed=colormap == SIGNED) for one in maps])


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}; wanted at least 1")
