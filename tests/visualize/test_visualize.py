import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from scorecam_jax.visualize import COLORMAPS, colorize, mark_crop, overlay, sheet

RAMP = np.linspace(0, 1, 256, dtype=np.float32)[None]
LONG = "dragonfly, darning needle, devil's darning needle, sewing needle, mosquito hawk 12.3 %"
UNBROKEN = "IMG_2023_04_12_123456789_HDR_panorama_long_name_without_blanks.jpeg"


@pytest.fixture
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_default_colours_are_perceptually_uniform():
    lab = rgb2lab(colorize(RAMP)[0])
    assert (np.diff(lab[:, 0]) > 0).all()
    assert lab[0, 0] < 10
    assert lab[-1, 0] > 90
    distance = deltaE_ciede2000(lab[:-16], lab[16:])
    assert distance.max() / distance.min() < 1.5


def test_jet_is_not_perceptually_uniform():
    lab = rgb2lab(colorize(RAMP, colormap="jet")[0])
    assert (np.diff(lab[:, 0]) < 0).any()


def test_jet_is_matplotlibs():
    def segment(x, start, stop):
        return (x - start) / (stop - start)

    x = RAMP[0].astype(np.float64)
    red = np.minimum(segment(x, 0.35, 0.66), 0.5 + 0.5 * segment(x, 1, 0.89))
    green = np.minimum(segment(x, 0.125, 0.375), segment(x, 0.91, 0.64))
    blue = np.minimum(0.5 + 0.5 * segment(x, 0, 0.11), segment(x, 0.65, 0.34))
    expected = 255 * np.stack([red, green, blue], -1).clip(0, 1)
    np.testing.assert_allclose(colorize(RAMP, colormap="jet")[0], expected, atol=0.5001)


def test_gray_is_the_heatmap():
    np.testing.assert_array_equal(colorize(RAMP, colormap="gray")[0, :, 1], np.arange(256))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_jax_arrays_of_any_precision_are_drawn(dtype):
    heatmap = jnp.array([[0, 0.25], [0.5, 1]], dtype)
    np.testing.assert_array_equal(colorize(heatmap), colorize(np.array([[0, 0.25], [0.5, 1]])))


@pytest.mark.parametrize(
    ("heatmap", "message"),
    [
        (np.array([[0, np.nan]]), "NaN in 1 place"),
        (np.zeros((1, 4, 4)), r"\(1, 4, 4\).*heatmap\[i\]"),
        (np.zeros(4), r"\(4,\)"),
        (np.zeros((0, 4)), r"\(0, 4\)"),
        (np.array([[0.0, 7.0]]), "0 to 7"),
        (np.array([[-0.5, 1.0]]), "-0.5 to 1"),
        (np.array([[0.0, np.inf]]), "inf"),
    ],
)
def test_heatmaps_that_cannot_be_drawn_are_refused(heatmap, message):
    with pytest.raises(ValueError, match=message):
        colorize(heatmap)


def test_unknown_colour_map_lists_the_known():
    with pytest.raises(ValueError, match=r"'hot'.*ember, jet, gray"):
        colorize(RAMP, colormap="hot")


def test_rounding_errors_beyond_the_range_are_forgiven():
    np.testing.assert_array_equal(
        colorize(np.array([[-1e-6, 1 + 1e-6]])), colorize(np.array([[0.0, 1.0]]))
    )


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


def found(page, panel):
    """How often the panel appears in the page, pixel for pixel."""
    page, panel = np.asarray(page), np.asarray(panel.convert("RGB"))
    height, width = panel.shape[:2]
    rows, columns = np.nonzero((page == panel[0, 0]).all(-1))
    return sum(
        np.array_equal(page[row : row + height, column : column + width], panel)
        for row, column in zip(rows, columns, strict=True)
    )


@pytest.mark.parametrize("columns", [None, 1, 2, 4])
def test_sheet_shows_every_panel_pixel_for_pixel(photo, columns):
    panels = [photo, photo.rotate(180), photo.resize((30, 30)), photo.resize((90, 20))]
    page = sheet(panels, ["a", "b", "c", "d"], columns=columns)
    assert [found(page, panel) for panel in panels] == [1, 1, 1, 1]


@pytest.mark.parametrize("size", [(200, 130), (130, 200), (64, 64), (2000, 1300)])
@pytest.mark.parametrize("title", ["jaguar 94.3 %", LONG, UNBROKEN])
def test_titles_are_whole_whatever_the_size(size, title):
    # Magenta panels: lettering on one, in a gutter or over the edge would show.
    panels = [Image.new("RGB", size, "magenta")] * 4
    page = np.asarray(sheet(panels, [title] * 4, row_labels=[title] * 2, columns=2))
    magenta = (page == (255, 0, 255)).all(-1)
    assert magenta.sum() == 4 * size[0] * size[1]
    ink = (page.max(-1) < 128) & ~magenta
    assert ink.any()
    border = np.ones(ink.shape, bool)
    border[2:-2, 2:-2] = False
    assert not ink[border].any()
    columns = np.flatnonzero(magenta.any(0))
    gutter = columns[np.flatnonzero(np.diff(columns) > 1)[0]] + 1
    right_panel = columns[np.flatnonzero(np.diff(columns) > 1)[0] + 1]
    middle = (gutter + right_panel) // 2
    assert not ink[:, middle - 1 : middle + 2].any()


def test_lettering_grows_with_the_panels():
    def title_height(width):
        page = np.asarray(sheet([Image.new("RGB", (width, width), "magenta")], ["jaguar"]))
        return np.ptp(np.flatnonzero((page.max(-1) < 128).any(1))) + 1

    assert title_height(200) >= 8
    assert 8 < title_height(2000) / title_height(200) < 12


def test_every_letter_of_a_title_is_drawn():
    ink = [
        (np.asarray(sheet([Image.new("RGB", (200, 9), "white")], [title])) < 128).sum()
        for title in ("hhhh", "hhhh hhhh hhhh hhhh hhhh hhhh hhhh hhhh hhhh hhhh")
    ]
    assert ink[1] == 10 * ink[0]


def test_column_headings_stand_above_the_first_row_only():
    panels = [Image.new("RGB", (300, 200), "magenta")] * 6
    page = np.asarray(sheet(panels, ["Score-CAM", "Grad-CAM"], columns=2))
    magenta = (page == (255, 0, 255)).all(-1).any(1)
    ink = (page.max(-1) < 128).any(1)
    assert ink[: np.flatnonzero(magenta)[0]].any()
    assert not ink[np.flatnonzero(magenta)[0] :].any()


def test_sheet_is_near_landscape():
    def ratio(count, size):
        page = sheet([Image.new("RGB", size)] * count, ["jaguar"] * count)
        return page.width / page.height

    for size in [(300, 200), (200, 300), (400, 100)]:
        assert all(0.6 < ratio(count, size) < 3.5 for count in range(2, 10)), size


def test_sheet_needs_matching_numbers(photo):
    with pytest.raises(ValueError, match="at least one panel"):
        sheet([])
    with pytest.raises(ValueError, match="3 titles for 4 panels in 2 columns"):
        sheet([photo] * 4, ["a"] * 3, columns=2)
    with pytest.raises(ValueError, match="1 row labels for 2 rows"):
        sheet([photo] * 4, columns=2, row_labels=["a"])
    with pytest.raises(ValueError, match="columns"):
        sheet([photo], columns=0)
