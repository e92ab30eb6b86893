"""Pictures of heatmaps: colour maps, overlays and sheets of panels. Pillow and NumPy only."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

Picture: TypeAlias = Any
"""A Pillow image, or an array (H, W) or (H, W, 3), uint8 or floating point in [0, 1]."""

# Seventeen colours at equal CIEDE2000 distances along a curve in CIELAB that rises from lightness
# 4 to 95 while its hue turns from blue through magenta and orange to yellow.
_EMBER = (
    "0e0d19 111732 1d2359 442b75 6c2b81 942783 b7247c d32b71 e73a64 "
    "f54e57 fe634b ff7942 ff8f3c ffa63e ffbf4d ffd96d fff19b"
)


def _ember() -> Float[np.ndarray, "256 3"]:
    anchors = np.array([list(bytes.fromhex(colour)) for colour in _EMBER.split()]) / 255
    at = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(np.linspace(0, 1, 256), at, c) for c in anchors.T], axis=-1)


def _jet() -> Float[np.ndarray, "256 3"]:
    value = np.linspace(0, 1, 256)
    red = np.interp(value, [0.35, 0.66, 0.89, 1], [0, 1, 1, 0.5])
    green = np.interp(value, [0.125, 0.375, 0.64, 0.91], [0, 1, 1, 0])
    blue = np.interp(value, [0, 0.11, 0.34, 0.65], [0.5, 1, 1, 0])
    return np.stack([red, green, blue], axis=-1)


def _gray() -> Float[np.ndarray, "256 3"]:
    return np.repeat(np.linspace(0, 1, 256)[:, None], 3, axis=1)


COLORMAPS = {"ember": _ember, "jet": _jet, "gray": _gray}


def colorize(
    heatmap: Any, *, colormap: str = "ember"
) -> UInt8[np.ndarray, "height width channels=3"]:
    """Draw a heatmap in colours.

    Args:
        heatmap: (H, W) in [0, 1], a NumPy or JAX array.
        colormap: `"ember"` (dark blue to light yellow, perceptually uniform: equal steps of the
            heatmap look equally large, also in greyscale print), `"jet"` (the rainbow of most
            published figures, as Matplotlib defines it) or `"gray"`.

    Returns:
        The picture (H, W, 3), uint8.

    Raises:
        ValueError: the heatmap is not (H, W), is empty, holds NaN or values outside [0, 1], or
            the colour map is unknown.

    >>> colorize(np.eye(2), colormap="gray")[..., 0]
    array([[255,   0],
           [  0, 255]], dtype=uint8)
    """
    if colormap not in COLORMAPS:
        raise ValueError(f"unknown colour map {colormap!r}; choose from {', '.join(COLORMAPS)}")
    table = np.rint(COLORMAPS[colormap]() * 255).astype(np.uint8)
    return table[_bytes(_checked(heatmap))]


def overlay(
    image: Picture,
    heatmap: Any,
    *,
    colormap: str = "ember",
    alpha: int | float = 0.7,
    fade: bool = True,
) -> Image.Image:
    """Lay a heatmap over the picture it explains.

    The picture is drawn in grey and the colours as opaque as the square root of the heatmap is
    high, so that every colour seen is the heatmap's and the rest stays a photograph.

    Args:
        image: a Pillow image, or an array (H, W) or (H, W, 3), uint8 or floating point in [0, 1].
        heatmap: (H, W) in [0, 1], of the picture's size.
        colormap: as in `colorize`.
        alpha: opacity of the colours where the heatmap is 1, in [0, 1].
        fade: `False` lays the colours on the picture in its own, as opaque everywhere, as most
            papers do.

    Returns:
        An RGB image of the picture's size.

    Raises:
        ValueError: the heatmap is of another size or otherwise unfit (see `colorize`), `alpha` is
            outside [0, 1], or the array is not a picture.

    >>> overlay(np.zeros((2, 3, 3)), np.ones((2, 3)), colormap="gray", alpha=1.0).getpixel((0, 0))
    (255, 255, 255)
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], found {alpha}")
    picture, values = _picture(image), _checked(heatmap)
    height, width = values.shape
    if picture.size != (width, height):
        raise ValueError(
            f"the heatmap is {width} x {height} pixels (width x height) and the picture "
            f"{picture.width} x {picture.height}; resize the heatmap first, for example "
            f"jax.image.resize(heatmap, ({picture.height}, {picture.width}), 'linear')"
        )
    colours = Image.fromarray(colorize(values, colormap=colormap))
    # Linear opacity would leave the middle of the scale too faint to tell from the picture.
    opacity = np.sqrt(values) if fade else np.ones_like(values)
    if fade:
        picture = picture.convert("L").convert("RGB")
    return Image.composite(colours, picture, Image.fromarray(_bytes(opacity * np.float32(alpha))))


def mark_crop(image: Picture, box: Sequence[int | float]) -> Image.Image:
    """Bleach what lies outside `box`, the part of a photograph that a network saw, and frame it.

    Args:
        image: as in `overlay`.
        box: (left, top, right, bottom) in pixels, as Pillow counts them.

    Returns:
        An RGB image, the same inside the box; unchanged if the box covers the whole picture.
    """
    picture = _picture(image)
    left, top, right, bottom = (round(edge) for edge in box)
    if left <= 0 and top <= 0 and right >= picture.width and bottom >= picture.height:
        return picture
    marked = Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.5)
    region = max(left, 0), max(top, 0), min(right, picture.width), min(bottom, picture.height)
    frame = max(1, min(picture.size) // 200)
    outer = (region[0] - frame, region[1] - frame, region[2] + frame - 1, region[3] + frame - 1)
    ImageDraw.Draw(marked).rectangle(outer, outline="black", width=frame)
    marked.paste(picture.crop(region), region[:2])
    return marked


def sheet(
    panels: Sequence[Picture],
    titles: Sequence[str] = (),
    *,
    columns: int | None = None,
    row_labels: Sequence[str] = (),
) -> Image.Image:
    """Set panels out in rows and columns, with titles, each panel pixel for pixel as it came.

    Args:
        panels: pictures as in `overlay`, row by row. Smaller ones are centred in their cell.
        titles: one for each panel, or one for each column, which then head the columns.
        columns: panels a row; None: what makes the sheet nearest to a 3:2 landscape.
        row_labels: one for each row, written to its left.

    Returns:
        An RGB image. The lettering grows with the panels; long titles are wrapped, never cut.

    Raises:
        ValueError: no panels, or titles or labels that do not match them in number.

    >>> sheet([np.zeros((200, 300)), np.ones((200, 300))], ["before", "after"]).width > 600
    True
    """
    pictures = [_picture(panel) for panel in panels]
    if not pictures:
        raise ValueError("a sheet needs at least one panel, found none")
    # Below this width titles would be set in type too small to read.
    width = max(180, *(picture.width for picture in pictures))
    gap = max(8, width // 30)
    tallest = max(picture.height for picture in pictures)
    size = max(12, int(min(width / 18, math.sqrt(width * tallest) / 12)))
    if columns is None:
        columns = _landscape(len(pictures), width, tallest + 2 * size)
    if columns < 1:
        raise ValueError(f"columns must be at least 1, found {columns}")
    rows = math.ceil(len(pictures) / columns)
    if len(titles) not in (0, min(columns, len(pictures)), len(pictures)):
        raise ValueError(
            f"found {len(titles)} titles for {len(pictures)} panels in {columns} columns; "
            "give one a panel, one a column, or none"
        )
    if len(row_labels) not in (0, rows):
        raise ValueError(f"found {len(row_labels)} row labels for {rows} rows; give one a row")

    headings = [_Text(title, width, size) for title in titles]
    labels = [_Text(label, max(90, width // 3), size) for label in row_labels]
    indent = max((label.width + gap for label in labels), default=0)
    tops, heights = [], []
    bottom = 0
    for row in range(rows):
        cells = slice(row * columns, (row + 1) * columns)
        above = max((text.height + gap // 2 for text in headings[cells]), default=0)
        beside = [label.height for label in labels[row : row + 1]]
        tops.append(bottom + gap + above)
        heights.append(max([picture.height for picture in pictures[cells]] + beside))
        bottom = tops[-1] + heights[-1]

    page = Image.new("RGB", (indent + columns * (width + gap) + gap, bottom + gap), "white")
    draw = ImageDraw.Draw(page)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        left, top = indent + gap + column * (width + gap), tops[row]
        spare = width - picture.width, heights[row] - picture.height
        page.paste(picture, (left + spare[0] // 2, top + spare[1] // 2))
        if index < len(headings):
            headings[index].draw(draw, left + width / 2, top - gap // 2, anchor="md")
    for row, label in enumerate(labels):
        label.draw(draw, gap, tops[row] + heights[row] / 2, anchor="lm")
    return page


class _Text:
    """Lettering wrapped to a width, in smaller type if a single word is wider."""

    def __init__(self, text: str, width: int, size: int) -> None:
        words = text.split() or [""]
        self.font = ImageFont.load_default(size)
        widest = max(self.font.getlength(word) for word in words)
        if widest > width:
            self.font = ImageFont.load_default(max(8, int(size * width / widest)))
        lines = [""]
        for word in words:
            for piece in self._pieces(word, width):
                longer = f"{lines[-1]} {piece}".strip()
                if self.font.getlength(longer) <= width:
                    lines[-1] = longer
                else:
                    lines.append(piece)
        self.text = "\n".join(lines)
        measure = ImageDraw.Draw(Image.new("L", (1, 1)))
        left, top, right, _ = measure.multiline_textbbox(
            (0, 0), self.text, font=self.font, anchor="ld"
        )
        self.width, self.height = math.ceil(right - left), math.ceil(-top)

    def _pieces(self, word: str, width: int) -> list[str]:
        """`word`, in as many pieces as it takes for each to be no wider than `width`."""
        pieces = [""]
        for letter in word:
            if self.font.getlength(pieces[-1] + letter) > width:
                pieces.append("")
            pieces[-1] += letter
        return pieces

    def draw(
        self, draw: ImageDraw.ImageDraw, x: int | float, y: int | float, *, anchor: str
    ) -> None:
        """Write it in black with its `anchor`, as Pillow names them, at (x, y)."""
        align = "left" if anchor[0] == "l" else "center"
        draw.multiline_text((x, y), self.text, "black", self.font, anchor=anchor, align=align)


def _landscape(count: int, width: int, height: int) -> int:
    """How many columns bring `count` panels of this size nearest to 3:2."""

    def misfit(columns: int) -> float:
        return abs(math.log(columns * width / (math.ceil(count / columns) * height) / 1.5))

    return min(range(1, count + 1), key=misfit)


def _checked(heatmap: Any) -> Float[np.ndarray, "height width"]:
    """The heatmap as float32 in [0, 1]."""
    values = np.asarray(heatmap)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"a heatmap to draw has the shape (height, width), found {values.shape}; "
            "for a batch or several targets, draw heatmap[i] one at a time"
        )
    values = values.astype(np.float32)
    if np.isnan(values).any():
        raise ValueError(f"the heatmap holds NaN in {np.isnan(values).sum()} places")
    low, high = float(values.min()), float(values.max())
    if low < -1e-3 or high > 1 + 1e-3:  # interpolation may overshoot by a rounding error
        raise ValueError(
            f"heatmap values must lie in [0, 1], found {low:.4g} to {high:.4g}; "
            "rescale it, for example (h - h.min()) / (h.max() - h.min())"
        )
    return values.clip(0, 1)


def _bytes(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    return np.rint(values * np.float32(255)).astype(np.uint8)


def _picture(image: Picture) -> Image.Image:
    """Any picture as an RGB Pillow image."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    values = np.asarray(image)
    if values.dtype != np.uint8:
        if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
            raise ValueError(f"an integer picture must be uint8, found {values.dtype}")
        values = values.astype(np.float32)
        if not (values.size and values.min() >= -1e-3 and values.max() <= 1 + 1e-3):
            raise ValueError(
                "a floating-point picture must be finite, in [0, 1] and not empty; undo the "
                "network's normalisation, or pass the photograph itself"
            )
        values = _bytes(values.clip(0, 1))
    if values.shape[2:] == (1,):
        values = values[..., 0]
    if values.ndim not in (2, 3) or values.shape[2:] not in ((), (3,)) or not values.size:
        raise ValueError(
            f"a picture has the shape (height, width) or (height, width, 3), found {values.shape}"
        )
    return Image.fromarray(values).convert("RGB")
