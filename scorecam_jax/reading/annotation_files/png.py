"""Segmentation masks in PNG files, one per photograph."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from scorecam_jax.reading.annotation_files.gather import Gathered
from scorecam_jax.reading.annotation_files.outlines import runs_of
from scorecam_jax.reading.errors import told
from scorecam_jax.reading.files import stamp_of
from scorecam_jax.reading.pillow import opened

_VOID = 255  # the border between objects in Pascal VOC's palette images
_COLOURS = 32  # fill nearly all of a mask; further ones come from antialiased edges


def read_masks(files: Iterable[tuple[Path, Path]]) -> Gathered:
    """Read masks, given pairs of the path that names the photograph and the file.

    Nonzero pixels belong to the object. In a file with a palette, each colour except 255 is a
    separate object. The classes of the objects are unknown.
    """
    gathered = Gathered()
    for relative, file in files:
        try:
            masks = _masks(file)
        except ValueError as error:
            gathered.note(str(relative), f"cannot be read: {error}")
            continue
        photo = relative.with_suffix("").as_posix()
        rows, columns = masks[0].shape
        gathered.photograph(photo, (columns, rows), str(relative))
        for mask in masks:
            if not mask.any():
                gathered.note(str(relative), "the mask is empty")
                continue
            (top, bottom), (left, right) = (
                np.flatnonzero(mask.any(axis))[[0, -1]].tolist() for axis in (1, 0)
            )
            box = [left, top, right - left + 1, bottom - top + 1]
            gathered.add(photo, box, None, str(relative), runs_of(mask))
    return gathered


def _masks(file: Path) -> list[Bool[np.ndarray, "rows columns"]]:
    with told(), opened(stamp_of(file), 1) as image:
        values, palette = np.asarray(image), image.mode == "P"
        if image.mode in ("LA", "RGBA", "PA"):
            raise ValueError("it has transparency: save the mask as black and white")
    if palette:
        numbers = [number for number in np.unique(values).tolist() if number not in (0, _VOID)]
        return [values == number for number in numbers] or [np.zeros(values.shape, bool)]
    pixels = values.reshape(*values.shape[:2], -1)
    _, counts = np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0, return_counts=True)
    if np.sort(counts)[-_COLOURS:].sum() < 0.9 * counts.sum():
        raise ValueError(
            f"it has {len(counts)} colours, like a photograph; wanted a mask, black where there is "
            "no object"
        )
    return [np.asarray((pixels > 0).any(2))]
