"""Wrapped text for sheets."""

import math

from PIL import Image, ImageDraw, ImageFont


class Text:
    """Text wrapped to a width. The type is reduced if a single word does not fit."""

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
        """Split `word` into the fewest pieces no wider than `width`."""
        pieces = [""]
        for letter in word:
            if self.font.getlength(pieces[-1] + letter) > width:
                pieces.append("")
            pieces[-1] += letter
        return pieces

    def draw(
        self, draw: ImageDraw.ImageDraw, x: int | float, y: int | float, *, anchor: str
    ) -> None:
        """Write the text in black with its `anchor` (see Pillow's text anchors) at (x, y)."""
        align = {"l": "left", "m": "center", "r": "right"}[anchor[0]]
        draw.multiline_text((x, y), self.text, "black", self.font, anchor=anchor, align=align)
