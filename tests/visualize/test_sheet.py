import importlib

import numpy as np
import pytest
from PIL import Image

from scorecam_jax.visualize import sheet

sheets = importlib.import_module("scorecam_jax.visualize.sheet")

LONG = "dragonfly, darning needle, devil's darning needle, sewing needle, mosquito hawk 12.3 %"
UNBROKEN = "IMG_2023_04_12_123456789_HDR_panorama_long_name_without_blanks.jpeg"


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
        assert all(0.6 < ratio(count, size) < 4 for count in range(2, 10)), size


def test_no_quarter_of_a_sheet_is_white():
    panel = Image.new("RGB", (300, 200), "magenta")
    for count in range(1, 13):
        page = np.asarray(sheet([panel] * count))
        assert (page == (255, 0, 255)).all(-1).mean() > 0.7, count


def test_a_text_stands_in_the_middle_of_its_cell():
    panel = Image.new("RGB", (300, 200), "magenta")
    page = np.asarray(sheet([panel, panel, "leopard 10%", panel], columns=2))
    lower = page[page.shape[0] // 2 :, : page.shape[1] // 2].max(-1) < 128
    rows, columns = np.nonzero(lower)
    assert abs(columns.mean() - 158) < 12
    assert abs(rows.mean() + page.shape[0] // 2 - (8 + 200 + 8 + 100)) < 12
    with pytest.raises(ValueError, match="at least one panel"):
        sheet(["leopard"])


def test_captions_notes_and_legends_stand_below_and_touch_no_panel():
    panels = [Image.new("RGB", (300, 200), "magenta")] * 4
    bar = Image.new("RGB", (100, 9), (0, 255, 0))
    asked = []

    def legend(width, size):
        asked.append((width, size))
        return bar

    page = sheet(panels, columns=2, captions=[LONG] * 4, note=LONG * 2, legend=legend)
    assert found(page, panels[0]) == 4
    assert found(page, bar) == 1
    ((width, size),) = asked
    assert 100 <= width <= page.width
    assert size >= 11
    pixels = np.asarray(page)
    lowest = np.flatnonzero((pixels == (0, 255, 0)).all(-1).any(1)).max()
    note = pixels[lowest + 1 :].max(-1) < 128
    assert note.any()
    assert not note[-2:].any()
    with pytest.raises(ValueError, match="3 captions for 4 panels"):
        sheet(panels, captions=["a"] * 3)


@pytest.mark.parametrize("size", [(4000, 10), (1, 8000), (900, 3), (2000, 1300)])
def test_large_sheets_are_bounded_along_both_sides(size, monkeypatch):
    monkeypatch.setattr(sheets, "_MOST_SIDE", 600)
    page = sheet([Image.new("RGB", size, "magenta")] * 2, ["photograph", "jaguar"])
    assert max(page.size) < 720
    magenta = (np.asarray(page) == (255, 0, 255)).all(-1)
    assert magenta.any(1).sum() >= min(size[1], 10)
    assert magenta.any(0).sum() >= min(size[0], 10)


def test_sheet_needs_matching_numbers(photo):
    with pytest.raises(ValueError, match="at least one panel"):
        sheet([])
    with pytest.raises(ValueError, match="3 titles for 4 panels in 2 columns"):
        sheet([photo] * 4, ["a"] * 3, columns=2)
    with pytest.raises(ValueError, match="1 row labels for 2 rows"):
        sheet([photo] * 4, columns=2, row_labels=["a"])
    with pytest.raises(ValueError, match="columns"):
        sheet([photo], columns=0)
