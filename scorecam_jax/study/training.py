"""Heatmaps of a fixed batch while a network is trained."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from scorecam_jax._internal.text import short
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.visualize.colours import SIGNED
from scorecam_jax.visualize.overlay import overlay
from scorecam_jax.visualize.pictures import Shown, enlarged, enlargement, pictured
from scorecam_jax.visualize.series import draw_series, is_series
from scorecam_jax.visualize.sheet import sheet

# A longer strip is shrunk to illegibility on a screen.
_MOST_PANELS = 12


class HeatmapLog:
    """Explains the same images every so many steps, for TensorBoard and as plain files.

    The network's weights change from step to step and nothing else does, so all is compiled once.

    Args:
        images: (B, *spatial, C), as the network takes them: pictures or series.
        targets: (B,) or one class for all; None: at each step the likeliest one then.
        every: explain at each step that is a multiple of this.
        method: called as `score_cam` is.
        writer: of TensorBoard, with a method `add_image`, as those of tensorboardX and PyTorch, or
            `write_images`, as those of clu. None: there is none.
        folder: where to write PNG files: `NAME/000100.png` for each step, and `NAME.png`, the
            image over time. None: nowhere.
        pictures: what people look at, B pictures as in `overlay` of the images' size. None: the
            images.
        picture: what to show of them if they are no pictures; as in `overlay`.
        names: of the images; None: numbers.
        labels: the name of each class; None: numbers.
        tag: what the tags in TensorBoard begin with.
        colormap: as in `overlay`.
        **options: of the method, such as `channels=64`.

    Raises:
        ValueError: the images are no pictures, or there are not as many names.

    >>> def model(images):
    ...     return images.mean((1, 2)), images
    >>> log = HeatmapLog(jnp.linspace(0, 1, 96).reshape(2, 4, 4, 3), [0, 1], every=10)
    >>> [log(step, model) for step in (0, 5, 10)]
    [True, False, True]
    """

    def __init__(
        self,
        images: Any,
        targets: Any = None,
        *,
        every: int = 100,
        method: Callable[..., Any] = score_cam,
        writer: Any = None,
        folder: str | Path | None = None,
        pictures: Sequence[Any] | None = None,
        picture: Shown = None,
        names: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        tag: str = "heatmaps",
        colormap: str = "ember",
        **options: Any,
    ) -> None:
        if every < 1:
            raise ValueError(f"every is {every}; wanted a number of steps, at least 1")
        if writer is not None and not (
            hasattr(writer, "add_image") or hasattr(writer, "write_images")
        ):
            raise ValueError(
                f"the writer is a {type(writer).__name__}; wanted one with add_image, as "
                "tensorboardX's, or write_images, as clu's"
            )
        self._images = jnp.asarray(images)
        if targets is not None:
            targets = jnp.broadcast_to(jnp.asarray(targets), (len(self._images),))
        self._names = [f"{at}" for at in range(len(self._images))] if names is None else list(names)
        self._shown = list(images if pictures is None else pictures)
        for kind, found in (("names", self._names), ("pictures", self._shown)):
            if len(found) != len(self._images):
                raise ValueError(f"found {len(found)} {kind} for {len(self._images)} images")
        self._lines = is_series(np.empty(self._images.shape[1:-1]))
        if not self._lines:
            self._shown = [pictured(one, picture) for one in self._shown]
        self._targets, self._method, self._options = targets, method, options
        self._every, self._writer, self._tag = every, writer, tag
        self._folder = None if folder is None else Path(folder)
        self._labels, self._colormap = labels, colormap
        self._kept: list[tuple[str, list[Image.Image]]] = []
        self._latest: tuple[str, list[Image.Image]] | None = None
        self._stride = 1
        self.steps: list[int] = []

    def __call__(self, step: int, model: AnyModel) -> bool:
        """Explain the images by a model, if it is time.

        Args:
            step: of the training.
            model: as in `score_cam`, with the weights of this step.

        Returns:
            Whether it was time.

        Raises:
            OSError: a file cannot be written.
        """
        if step % self._every:
            return False
        found = self._method(model, self._images, self._targets, **self._options)
        heatmaps, targets = np.asarray(found.heatmap), np.asarray(found.targets)
        panels = [
            self._draw(one, heatmap) for one, heatmap in zip(self._shown, heatmaps, strict=True)
        ]
        self._latest = f"step {step}", panels
        if len(self.steps) % self._stride == 0:
            self._kept.append(self._latest)
        if len(self._kept) > _MOST_PANELS:
            self._kept, self._stride = self._kept[::2], 2 * self._stride
        self.steps.append(step)
        for place, (name, panel) in enumerate(zip(self._names, panels, strict=True)):
            index = int(targets[place])
            label = f"class {index}" if self._labels is None else short(self._labels[index])
            titled = sheet([panel], [f"{label}, step {step}"])
            self._write(f"{name}/{step:06d}", f"{self._tag}/{name}", titled, step)
            self._write(name, f"{self._tag} over time/{name}", self.strip(place), step)
        return True

    def strip(self, place: int = 0) -> Image.Image:
        """One image under its heatmaps from the first step to the last, at most 13 of them.

        Args:
            place: of the image in the batch.

        Raises:
            ValueError: nothing was explained yet.
        """
        if self._latest is None:
            raise ValueError("nothing was explained yet: call the log with a step and a model")
        shown = [*self._kept, *[self._latest] * (self._kept[-1] is not self._latest)]
        return sheet(
            [panels[place] for _, panels in shown],
            [title for title, _ in shown],
            columns=1 if self._lines else len(shown),
        )

    def _draw(self, image: Any, heatmap: np.ndarray) -> Image.Image:
        colormap = SIGNED if heatmap.min() < 0 else self._colormap
        if self._lines:
            return draw_series(image, heatmap, colormap=colormap)
        drawn = overlay(image, heatmap, colormap=colormap)
        return enlarged(drawn, enlargement(drawn.size))

    def _write(self, path: str, tag: str, picture: Image.Image, step: int) -> None:
        if self._folder is not None:
            file = self._folder / f"{path}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file)
        if self._writer is None:
            return
        if hasattr(self._writer, "add_image"):
            self._writer.add_image(tag, np.asarray(picture), step, dataformats="HWC")
        else:
            self._writer.write_images(step, {tag: np.asarray(picture)[None]})
