"""Answers as pictures and text."""

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from scorecam_jax._internal.text import short
from scorecam_jax.app.engine import COARSE, Answer
from scorecam_jax.app.question import Corners, class_names
from scorecam_jax.metrics.localization import boxes_from_heatmap
from scorecam_jax.study.drawing import percent
from scorecam_jax.visualize import mark_crop, overlay
from scorecam_jax.visualize.pictures import enlarged, enlargement

MOST_SIDE = 1024
"""The maximum side of a shown picture, in pixels."""

# White on black, so that lines are visible on any photograph.
_LINES = (("black", 5), ("white", 2))


class Style(NamedTuple):
    """The style of an answer's picture.

    Attributes:
        colormap: as in `overlay`.
        alpha: as in `overlay`.
        threshold: frame the largest part of the heatmap above this fraction of its maximum; 0: no
            frame.
    """

    colormap: str = "ember"
    alpha: float = 0.7
    threshold: float = 0.0


def draw(answer: Answer, style: Style = Style()) -> Image.Image:  # noqa: B008
    """Draw the photograph under its heatmap with the boxes, at most `MOST_SIDE` pixels a side."""
    photo = shown(answer.photo)
    preprocess = answer.plan.classifier.preprocess
    heatmap = _heatmap(answer)
    whole = preprocess.restore(heatmap, photo.size)
    drawn = overlay(photo, whole, colormap=style.colormap, alpha=style.alpha)
    drawn = mark_crop(drawn, preprocess.box(photo.size))
    if style.threshold > 0:
        implied = implied_box(answer, style.threshold)
        if implied:
            _frame(drawn, implied, answer.photo.width / photo.width, dashed=True)
    if answer.question.box:
        _frame(drawn, answer.question.box, answer.photo.width / photo.width)
    return drawn


def shown(photo: Image.Image) -> Image.Image:
    """Resize a photograph for showing; small ones are enlarged without smoothing."""
    picture = enlarged(photo, enlargement(photo.size)).copy()
    picture.thumbnail((MOST_SIDE, MOST_SIDE))
    return picture


def shown_scale(size: tuple[int, int]) -> float:
    """The number of pixels of a photograph of this size per pixel of `shown`, along a side.

    >>> shown_scale((48, 40)), shown_scale((2048, 512))
    (0.2, 2.0)
    """
    return max(1 / enlargement(size), max(size) / MOST_SIDE)


def implied_box(answer: Answer, threshold: float) -> Corners | None:
    """The box that a threshold frames, in the photograph's pixels; None if the map is empty."""
    found = boxes_from_heatmap(jnp.asarray(_heatmap(answer))[None], threshold)[0]
    x, y, across, down = np.asarray(found, float)
    if not across * down > 0:
        return None
    preprocess = answer.plan.classifier.preprocess
    left, top, right, bottom = seen = preprocess.box(answer.photo.size)
    whole = np.array([left, top, right - left, bottom - top])
    place = np.asarray(preprocess.boxes(whole, answer.photo.size), float)
    scale = whole[2:] / place[2:]
    start = np.array(seen[:2]) + ([x, y] - place[:2]) * scale
    end = start + [across, down] * scale
    (left, top), (right, bottom) = start.tolist(), end.tolist()
    return left, top, right, bottom


def told(answer: Answer) -> list[str]:
    """Describe an answer in sentences."""
    record = answer.record
    target = record.targets[0]
    (result,) = record.results.values()
    name = short(answer.plan.classifier.labels[target.index])
    if answer.question.like:
        name = f"{answer.question.photo.stem} {name}"
    other = answer.plan.other_name
    against = f" rather than {short(other)}" if other else ""
    lines = [f"{name}{against}, {percent(target.probability)}: {_state(answer)}"]
    if record.boxes and result.metrics.get("energy") is not None:
        share = _share_of_seen(answer)
        lines.append(
            f"The box holds {percent(result.metrics['energy'])} of the heatmap, on "
            f"{percent(share)} of what the network sees."
        )
    lines += [_sentence(text) for _, _, text in result.findings[0]]
    return lines + [_sentence(note) for note in record.remarks]


def likeliest(answer: Answer) -> dict[str, float]:
    """The likeliest classes and their probabilities."""
    names = class_names(answer.plan.classifier.labels)
    return {names[one.index]: one.probability for one in answer.record.top}


def _state(answer: Answer) -> str:
    """Describe how complete the answer is."""
    (result,) = answer.record.results.values()
    method = answer.question.method
    if not answer.scored:
        return f"by {method}."
    if answer.exact:
        return f"the exact map, of all {answer.scored} masks."
    known = min(answer.scored, result.interpolated["scored"] if result.interpolated else COARSE)
    off = f", ± {result.interpolated['deviation']:.2f} at worst" if result.interpolated else ""
    return f"a map from {known} of {answer.masks} masks{off}."


def _heatmap(answer: Answer) -> Float[np.ndarray, "height width"]:
    (result,) = answer.record.results.values()
    assert result.heatmaps is not None
    return np.asarray(result.heatmaps[0])


def _share_of_seen(answer: Answer) -> float:
    """The fraction of the area seen by the network that lies in the box."""
    preprocess = answer.plan.classifier.preprocess
    left, top, right, bottom = preprocess.box(answer.photo.size)
    whole = np.array([[left, top, right - left, bottom - top], answer.record.boxes[0]])
    seen, box = preprocess.boxes(whole, answer.photo.size)
    return float(box[2] * box[3] / (seen[2] * seen[3]))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _frame(picture: Image.Image, box: Corners, scale: float, *, dashed: bool = False) -> None:
    """Draw a box given in the pixels of a picture `scale` times as large."""
    left, top, right, bottom = (edge / scale for edge in box)
    draw = ImageDraw.Draw(picture)
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for colour, width in _LINES:
        for start, end in itertools.pairwise(corners):
            for part in _dashes(start, end) if dashed else [(start, end)]:
                draw.line(part, fill=colour, width=width)


def _dashes(
    start: tuple[float, float], end: tuple[float, float]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Split a line into dashes of about 12 pixels."""
    (x, y), (a, b) = start, end
    count = max(1, round(max(abs(a - x), abs(b - y)) / 24))
    shares = [(step / count, (step + 0.5) / count) for step in range(count)]

    def at(share: float) -> tuple[float, float]:
        return x + share * (a - x), y + share * (b - y)

    return [(at(first), at(last)) for first, last in shares]
