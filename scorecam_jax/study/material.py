"""What is put to a network, as it is read: a picture, a volume or a series."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from scorecam_jax.models import Classifier
from scorecam_jax.reading import Series, Source, Takes, read_picture, read_series, read_volume
from scorecam_jax.study.record import Given
from scorecam_jax.visualize.pictures import as_picture
from scorecam_jax.visualize.report.words import plural
from scorecam_jax.visualize.series import as_series

SINGLE: dict[Takes, str] = {"pictures": "photograph", "volumes": "volume", "series": "series"}
"""What each thing that a network takes is called."""


class Material(NamedTuple):
    """Something read.

    Attributes:
        content: what `Classifier.preprocess` takes: a picture, a volume (depth, height, width) or
            a series (time, channels).
        shown: the picture to look at, which may be that of a series' spectrogram; None: a volume
            or a series.
        remarks: what there is to tell.
        rate: of a series, steps per second.
        names: of a series' channels, or none.
        spacing: of a volume, as in `reading.Volume`, and so is the next one.
        affine: of a volume.
    """

    content: Any
    shown: Image.Image | None
    remarks: list[str]
    rate: int | float | None = None
    names: Sequence[str] = ()
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    affine: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """Width and height of a picture, the three sides of a volume, or (time,) of a series."""
        if self.shown is not None:
            return self.shown.size
        return np.shape(self.content)[:1] if self.content.ndim == 2 else np.shape(self.content)


def material(
    classifier: Classifier, item: Source | Given, window: tuple[float, float] | None = None
) -> Material:
    """Read what a network is put to.

    Args:
        classifier: which knows what it takes.
        item: a file, or what is in memory.
        window: as in `read_picture`.

    Raises:
        ReadingError: it cannot be read.
        ValueError: what is in memory is unfit.
    """
    takes = classifier.takes
    if isinstance(item, Given) and takes == "volumes":
        return Material(np.asarray(item.image, np.float32), None, [])
    if takes == "volumes":
        assert isinstance(item, Source)
        volume = read_volume(item)
        return Material(
            volume.values, None, volume.remarks, spacing=volume.spacing, affine=volume.affine
        )
    if takes == "pictures":
        if isinstance(item, Given):
            return Material(as_picture(item.image), as_picture(item.image), [])
        picture = read_picture(item, window=window)
        return Material(picture.image, picture.image, picture.remarks)
    rate = getattr(classifier.preprocess, "rate", None)
    if isinstance(item, Given):
        read = Series(as_series(item.image).astype(np.float32), rate, [], [])
    else:
        read = read_series(item, rate=rate)
    if classifier.lines:
        return Material(read.values, None, read.remarks, read.rate, read.names)
    draw = getattr(classifier.preprocess, "picture", None)
    if draw is None:
        raise ValueError(
            f"inputs of {classifier.input_size} are pictures of a series: give the preprocessing a "
            "method picture(series), which returns what to look at, as SpectrogramPreprocess has"
        )
    return Material(read.values, as_picture(draw(read.values)), read.remarks, read.rate)


def counted(count: int, takes: Takes) -> str:
    """So many photographs, volumes or series.

    >>> counted(1, "pictures"), counted(2, "series")
    ('1 photograph', '2 series')
    """
    kind = SINGLE[takes]
    return f"{count} {kind if count == 1 else plural(kind)}"
