"""Colour bars on request, and where colours have signs."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from scorecam_jax.visualize import figure, overlay, planes, show, slices

VOLUME = np.zeros((3, 40, 60))
HEATMAP = np.full((3, 40, 60), 0.5)


def shown(**options):
    found = SimpleNamespace(heatmap=HEATMAP[:1], weights=None, targets=np.array([1]))
    content = show(found, np.zeros((1, 40, 60, 3)), **options)._repr_jpeg_()
    return Image.open(io.BytesIO(content)).convert("RGB")


@pytest.mark.parametrize(
    "draw",
    [
        lambda **options: slices(VOLUME, HEATMAP, most=2, **options),
        lambda **options: planes(VOLUME, HEATMAP, **options),
        shown,
    ],
    ids=["slices", "planes", "show"],
)
def test_a_colour_bar_is_drawn_if_it_is_asked_for(draw):
    plain, told = np.asarray(draw()).astype(int), np.asarray(draw(colorbar=True)).astype(int)
    assert told.shape[0] > plain.shape[0]
    grey = Image.new("RGB", (9, 1), (128,) * 3)
    bar = np.asarray(overlay(grey, np.linspace(0, 1, 9)[None])).astype(int)[0, 1:-1]
    for colour in bar:  # neither the heatmap nor its picture has most of them
        assert (np.abs(told - colour).max(-1) <= 24).any()
    assert (np.abs(plain - bar[-1]).max(-1) > 24).all()


def test_signs_are_always_told():
    assert slices(VOLUME, HEATMAP, colormap="signed").height > slices(VOLUME, HEATMAP).height


def test_a_figure_may_do_without_its_bar():
    pytest.importorskip("matplotlib")
    picture = np.zeros((40, 60, 3))
    assert len(figure(picture, {"a": HEATMAP[0]}).axes) == 3
    assert len(figure(picture, {"a": HEATMAP[0]}, colorbar=False).axes) == 2
    assert len(figure(np.arange(9.0), {"a": np.ones(9)}, colorbar=False).axes) == 1
