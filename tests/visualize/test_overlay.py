import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax.visualize import COLORMAPS, colorize, mark_crop, overlay

RAMP = np.linspace(0, 1, 256, dtype=np.float32)[None]


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_overlay_leaves_the_photograph_where_the_heatmap_is_zero(photo, colormap):
    heatmap = np.zeros((40, 60))
    heatmap[:, 30:] = 1
    drawn = np.asarray(overlay(photo, heatmap, colormap=colormap, alpha=1))
    grey = np.asarray(photo.convert("L"))
    np.testing.assert_array_equal(drawn[:, :30], np.repeat(grey[:, :30, None], 3, -1))
    np.testing.assert_array_equal(drawn[:, 30:], colorize(heatmap, colormap=colormap)[:, 30:])


def test_overlay_grows_more_opaque_with_the_heatmap(photo):
    black = Image.new("RGB", (256, 1))
    opacity = np.asarray(overlay(black, RAMP, alpha=0.8)) / colorize(RAMP).clip(1)
    assert opacity[0, 250:].max() <= 0.81
    np.testing.assert_allclose(opacity[0, 40:, 0], 0.8 * np.sqrt(RAMP[0, 40:]), atol=0.03)


def test_overlay_without_fading_is_a_blend(photo):
    heatmap = np.random.default_rng(1).random((40, 60))
    drawn = np.asarray(overlay(photo, heatmap, colormap="jet", alpha=0.5, fade=False))
    colours = colorize(heatmap, colormap="jet").astype(float)
    np.testing.assert_allclose(drawn, (np.asarray(photo) + colours) / 2, atol=1.1)


def test_overlay_takes_any_picture(photo):
    heatmap = np.random.default_rng(1).random((40, 60))
    expected = np.asarray(overlay(photo, heatmap))
    for same in (np.asarray(photo), np.asarray(photo) / 255, jnp.asarray(np.asarray(photo))):
        np.testing.assert_array_equal(np.asarray(overlay(same, heatmap)), expected)
    grey = photo.convert("L")
    expected = np.asarray(overlay(grey, heatmap))
    for same in (np.asarray(grey), np.asarray(grey)[..., None], grey.convert("P")):
        np.testing.assert_array_equal(np.asarray(overlay(same, heatmap)), expected)


def test_channels_to_show_are_named():
    bands = np.random.default_rng(0).normal(100, 30, (20, 30, 6))
    heatmap = np.zeros((20, 30))
    drawn = np.asarray(overlay(bands, heatmap, picture=(3, 2, 1), alpha=0, fade=False))
    for place, channel in enumerate((3, 2, 1)):
        low, high = np.percentile(bands[..., channel], [2, 98])
        wanted = 255 * ((bands[..., channel] - low) / (high - low)).clip(0, 1)
        np.testing.assert_allclose(drawn[..., place], wanted, atol=0.51)
    one = np.asarray(overlay(bands[..., 4], heatmap, picture=0))
    same = np.asarray(overlay(bands, heatmap, picture=-2))
    np.testing.assert_array_equal(one, same)
    by_hand = overlay(bands, heatmap, picture=lambda image: image[..., 0].clip(0, 200) / 200)
    wanted = overlay(bands[..., 0].clip(0, 200) / 200, heatmap)
    np.testing.assert_array_equal(np.asarray(by_hand), np.asarray(wanted))


def test_channels_that_are_not_there_are_refused_and_many_get_advice():
    bands = np.random.default_rng(0).uniform(0, 1, (20, 30, 6))
    with pytest.raises(ValueError, match=r"picture=\(3, 2, 1\)"):
        overlay(bands, np.zeros((20, 30)))
    with pytest.raises(ValueError, match=r"the 6 channels of an image of shape \(20, 30, 6\)"):
        overlay(bands, np.zeros((20, 30)), picture=6)
    with pytest.raises(ValueError, match="one channel, or three"):
        overlay(bands, np.zeros((20, 30)), picture=(0, 1))


def test_overlay_does_not_change_the_photograph(photo):
    before = photo.tobytes()
    overlay(photo, np.ones((40, 60)))
    mark_crop(photo, (1, 1, 9, 9))
    assert photo.tobytes() == before


def test_overlay_of_another_size_says_how_to_resize(photo):
    with pytest.raises(ValueError, match="60 x 40") as error:
        overlay(photo, np.zeros((7, 9)))
    assert "9 x 7" in str(error.value)
    shape = re.search(r"resize\(heatmap, \((\d+), (\d+)\)", str(error.value))
    assert shape is not None
    overlay(photo, np.zeros([int(size) for size in shape.groups()]))


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_opacity_outside_its_range_is_refused(photo, alpha):
    with pytest.raises(ValueError, match="alpha"):
        overlay(photo, np.zeros((40, 60)), alpha=alpha)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4, 3), np.int32), "uint8, found int32"),
        (np.full((4, 4, 3), 255.0), "normalisation"),
        (np.full((4, 4, 3), np.nan), "finite"),
        (np.zeros((3, 4, 4)), r"\(3, 4, 4\)"),
        (np.zeros((4, 0, 3)), "empty"),
    ],
)
def test_arrays_that_are_no_picture_are_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        overlay(picture, np.zeros((4, 4)))


def test_crop_is_left_alone_and_the_rest_bleached():
    photo = Image.new("RGB", (100, 80), (10, 20, 30))
    marked = np.asarray(mark_crop(photo, (10, 20, 90, 70)))
    np.testing.assert_array_equal(marked[20:70, 10:90], np.full((50, 80, 3), (10, 20, 30)))
    assert (marked[:19] > 100).all()
    assert (marked[19, 9:91] == 0).all()
    assert (marked[20:70, 9] == 0).all()


def test_crop_of_everything_changes_nothing(photo):
    np.testing.assert_array_equal(
        np.asarray(mark_crop(photo, (-3, 0, 60.2, 40))), np.asarray(photo)
    )
