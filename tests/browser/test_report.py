"""What is seen in the report, and what happens when it is used."""

import base64
import io
import re
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import metrics
from scorecam_jax.study import tables
from scorecam_jax.visualize import grids, show
from scorecam_jax.visualize.report import photograph, report
from scorecam_jax.visualize.report.figures import surprise
from scorecam_jax.visualize.transparent import transparent

from .conftest import INPUT, METHODS, NAMES

pytestmark = pytest.mark.browser


def card(page, number):
    return page.locator(f"#photograph-{number}")


def names(page):
    return page.locator("article:visible h2").all_text_contents()


def canvas_of(card, place=0):
    """What a canvas shows, (height, width, 4)."""
    url = card.locator("canvas").nth(place).evaluate("canvas => canvas.toDataURL('image/png')")
    content = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"), float)


def wanted(shown, method, index, shape):
    """The same from the library's own functions."""
    (rows, columns), (left, top, across, down) = shown.input, shown.place
    window = [(top / rows, down / rows), (left / columns, across / columns)]
    return np.asarray(transparent(grids.draw(shown.maps[method][index], shape, window)), float)


def assert_shows(card, shown, method, index, place=0):
    found = canvas_of(card, place)
    expected = wanted(shown, method, index, found.shape[:2])
    # Canvases keep colours multiplied by their opacity.
    opacity = expected[..., 3:] / 255
    assert np.abs(found[..., :3] - expected[..., :3])[opacity[..., 0] > 0.2].max() < 12
    assert np.abs(found[..., 3:] - expected[..., 3:]).max() <= 2


def picture_of(locator):
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"), float)


def slide(page, name, share):
    """Drags a slider to a share of its length."""
    slider = page.locator(f"input[name={name}]")
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    value = float(slider.input_value()) / float(slider.get_attribute("max"))
    page.mouse.move(box["x"] + 8 + value * (box["width"] - 16), middle)
    page.mouse.down()
    page.mouse.move(box["x"] + share * box["width"], middle, steps=4)
    page.mouse.up()


@pytest.mark.parametrize("number", range(4))
def test_draws_each_method_and_class_as_the_library_does(open_page, four, number):
    path, photographs = four
    page = open_page(path)
    shown, found = photographs[number], card(page, number)
    found.scroll_into_view_if_needed()
    for method in METHODS:
        page.get_by_role("radio", name=method, exact=True).check()
        for index, label in enumerate(("animal", "script")):
            found.get_by_role("radio", name=label).check()
            assert_shows(found, shown, method, index)
            caption = found.locator("figcaption").inner_text()
            assert caption.startswith(f"{method}: ")
            assert caption.endswith((f"{90 - 10 * number}.0 %", "</script> 0.04 %")[index])


def test_names_are_shown_as_they_are_and_run_nothing(open_page, four):
    page = open_page(four[0])
    assert names(page) == list(NAMES)
    assert page.locator("img").count() == 0


def test_the_opacity_slider_fades_the_heatmap_into_the_photograph_in_colour(open_page, four):
    page = open_page(four[0])
    stack = card(page, 0).locator(".stack")
    full = picture_of(stack)
    slide(page, "opacity", 0)
    assert page.locator("output[name=opacity-value]").inner_text() == "0 %"
    bare = picture_of(stack)
    values = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    photo = Image.fromarray(values).resize(bare.shape[1::-1])
    assert np.abs(bare - np.asarray(photo, float)).mean() < 12
    assert np.abs(bare - full).mean() > 20
    slide(page, "opacity", 1)
    assert page.locator("output[name=opacity-value]").inner_text() == "100 %"


def test_side_by_side_shows_every_method_on_the_photograph(open_page, four):
    path, photographs = four
    page = open_page(path)
    page.get_by_label("side by side").check()
    found = card(page, 1)
    captions = found.locator("figcaption").all_inner_texts()
    assert [caption.split(":")[0] for caption in captions] == list(METHODS)
    for place, method in enumerate(METHODS):
        assert_shows(found, photographs[1], method, 0, place)
    slide(page, "opacity", 0)
    pictures = [picture_of(stack) for stack in found.locator(".stack").all()]
    size = min(picture.shape[0] for picture in pictures) - 4
    for picture in pictures[1:]:
        assert np.abs(picture[:size, :size] - pictures[0][:size, :size]).mean() < 12
    page.get_by_label("side by side").uncheck()
    assert found.locator("canvas").count() == 1


def test_keys_switch_what_is_shown(open_page, four):
    path, photographs = four
    page = open_page(path)
    card(page, 0).focus()
    page.keyboard.press("n")
    found = card(page, 1)
    assert found.evaluate("article => article === document.activeElement")
    page.keyboard.press("c")
    assert_shows(found, photographs[1], "score-cam", 1)
    page.keyboard.press("m")
    assert_shows(found, photographs[1], "grad-cam", 1)
    assert page.get_by_role("radio", name="grad-cam").is_checked()
    page.keyboard.press("s")
    assert found.locator("canvas").count() == len(METHODS)
    page.keyboard.press("p")
    assert card(page, 0).evaluate("article => article === document.activeElement")
    page.keyboard.press("/")
    page.keyboard.type("cat")
    assert names(page) == ["cat.jpg"]


def test_arrow_keys_in_a_group_choose_a_class(open_page, four):
    path, photographs = four
    page = open_page(path)
    card(page, 0).get_by_role("radio", name="animal").focus()
    page.keyboard.press("ArrowDown")
    assert_shows(card(page, 0), photographs[0], "score-cam", 1)


@pytest.mark.parametrize(("number", "share"), [(0, (0.25, 0.5)), (1, (0.5, 0.25)), (2, (0.7, 0.6))])
def test_the_value_under_the_pointer_is_the_heatmaps(open_page, four, number, share):
    path, photographs = four
    page = open_page(path)
    shown, stack = photographs[number], card(page, number).locator(".stack")
    card(page, number).scroll_into_view_if_needed()
    card(page, number).locator("canvas").wait_for()  # until then there is a stack a method
    stack.scroll_into_view_if_needed()
    box = stack.bounding_box()
    page.mouse.move(box["x"] + share[0] * box["width"], box["y"] + share[1] * box["height"])
    text = card(page, number).locator(".reading").inner_text()
    left, top, right, bottom = shown.seen
    at = (share[0] * 320 - left) / (right - left), (share[1] * 240 - top) / (bottom - top)
    fine = grids.draw(
        shown.maps["score-cam"][0],
        (240, 320),
        [
            (shown.place[1] / INPUT[0], shown.place[3] / INPUT[0]),
            (shown.place[0] / INPUT[1], shown.place[2] / INPUT[1]),
        ],
    )
    value = fine[int(at[1] * 240), int(at[0] * 320)]
    assert text.startswith("At ")
    assert float(text.split(": ")[1]) == pytest.approx(value, abs=0.03)
    page.mouse.move(0, 0)
    assert card(page, number).locator(".reading").inner_text() == ""


def test_what_the_network_did_not_see_is_told(open_page, four):
    page = open_page(four[0])
    stack = card(page, 1).locator(".stack")
    stack.hover(position={"x": 3, "y": 40})
    assert "not seen by the network" in card(page, 1).locator(".reading").inner_text()


def test_arrow_keys_read_the_value_too(open_page, four):
    page = open_page(four[0])
    card(page, 0).focus()
    page.keyboard.press("ArrowRight")
    text = card(page, 0).locator(".reading").inner_text()
    assert text.startswith("At 166, 120: ")


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("method", METHODS)
def test_the_threshold_implies_the_box_that_the_library_finds(open_page, four, number, method):
    path, photographs = four
    page = open_page(path)
    shown = photographs[number]
    page.get_by_role("radio", name=method, exact=True).check()
    slide(page, "threshold", 0.53)
    threshold = float(page.locator("output[name=threshold-value]").inner_text())
    assert 0.3 < threshold < 0.7
    card(page, number).scroll_into_view_if_needed()
    drawn = card(page, number).locator("rect.implied")
    sides = [float(drawn.get_attribute(side)) for side in ("x", "y", "width", "height")]

    heatmap = grids.draw(shown.maps[method][0], INPUT).astype(np.float32)
    (box,) = np.asarray(metrics.boxes_from_heatmap(heatmap[None], threshold), float)
    left, top, right, bottom = shown.seen
    scale = (right - left) / shown.place[2], (bottom - top) / shown.place[3]
    expected = [
        left + (box[0] - shown.place[0]) * scale[0],
        top + (box[1] - shown.place[1]) * scale[1],
        box[2] * scale[0],
        box[3] * scale[1],
    ]
    np.testing.assert_allclose(sides, expected, atol=1e-3)
    iou = max(
        float(metrics.box_iou(jnp.array(expected), jnp.array(annotated)))
        for annotated in shown.boxes
    )
    assert card(page, number).locator("figcaption").inner_text().endswith(f"box: IoU {iou:.2f}")
    slide(page, "threshold", 0)
    assert drawn.count() == 0


def test_cells_show_the_layers_values_without_blur(open_page, four):
    path, photographs = four
    page = open_page(path)
    page.get_by_label("without smoothing").check()
    found = canvas_of(card(page, 0))
    cells = np.asarray(transparent(grids.unpack(photographs[0].maps["score-cam"][0]).clip(0, 1)))
    centres = found[(np.arange(7) * found.shape[0] // 7 + 8)][
        :, (np.arange(8) * found.shape[1] // 8 + 8)
    ]
    assert np.abs(centres[..., 3] - cells[..., 3]).max() <= 2
    inside = found[: found.shape[0] // 7 - 1, : found.shape[1] // 8 - 1]
    assert np.ptp(inside.reshape(-1, 4), axis=0).max() == 0


def test_the_legend_is_that_of_the_maps_shown(open_page, four):
    page = open_page(four[0])
    plain, signed = page.locator(".unsigned"), page.locator(".signed")
    assert plain.is_visible()
    assert signed.is_hidden()
    page.get_by_role("radio", name="signed", exact=True).check()
    assert plain.is_hidden()
    assert signed.is_visible()
    page.get_by_label("side by side").check()
    assert plain.is_visible()
    assert signed.is_visible()


def test_a_photograph_that_moves_keeps_the_focus(open_page, four):
    page = open_page(four[0])
    page.get_by_label("Sort by").select_option("energy ↑")
    card(page, 0).focus()
    page.keyboard.press("m")
    assert names(page)[0] == "bear.jpg"
    page.keyboard.press("m")
    page.keyboard.press("m")
    assert card(page, 0).evaluate("article => article === document.activeElement")


def test_search_finds_names_and_classes(open_page, four):
    page = open_page(four[0])
    search = page.get_by_label("Search")
    search.fill("ANT")
    assert names(page) == ["ant.jpg"]
    assert page.locator("output[name=count]").inner_text() == "1 of 4 shown"
    search.fill("animal 2")
    assert names(page) == ["cat.jpg"]
    search.fill("<img")
    assert names(page) == [NAMES[1]]
    search.fill("")
    assert names(page) == list(NAMES)


def test_sorts_by_any_metric_of_the_method_shown(open_page, four):
    page = open_page(four[0])
    page.get_by_label("Sort by").select_option("energy ↑")
    assert names(page) == ["bear.jpg", "ant.jpg", NAMES[1], "cat.jpg"]  # the last has no value
    page.get_by_label("Order", exact=True).select_option("highest first")
    assert names(page) == [NAMES[1], "ant.jpg", "bear.jpg", "cat.jpg"]
    page.get_by_role("radio", name="grad-cam").check()
    assert names(page) == ["ant.jpg", "cat.jpg", NAMES[1], "bear.jpg"]
    page.get_by_label("Order", exact=True).select_option("lowest first")
    page.get_by_label("Sort by").select_option("name")
    assert names(page) == sorted(NAMES)
    page.get_by_label("Sort by").select_option("probability")
    assert names(page) == list(NAMES)[::-1]


def test_layers_are_chosen_beside_methods(open_page, four, tmp_path):
    _, photographs = four
    layers = dict(zip(METHODS, [("cam", "late"), ("cam", "early"), ("cam", "first")], strict=True))
    path = tmp_path / "layers.html"
    path.write_text(report(photographs, layers=layers), "utf-8")
    page = open_page(path)
    assert page.locator(".methods").is_hidden()  # there is one
    assert page.locator("header p").inner_text() == "4 photographs, cam at 3 layers"
    page.get_by_role("radio", name="early", exact=True).check()
    assert_shows(card(page, 0), photographs[0], "grad-cam", 0)
    card(page, 0).focus()
    page.keyboard.press("l")
    assert page.get_by_role("radio", name="first", exact=True).is_checked()
    assert_shows(card(page, 0), photographs[0], "signed", 0)
    page.keyboard.press("m")  # there is no other method
    assert page.get_by_role("radio", name="first", exact=True).is_checked()


def test_findings_are_of_the_methods_that_are_shown(open_page, four):
    page = open_page(four[0])
    found = card(page, 2)
    found.scroll_into_view_if_needed()
    assert found.locator(".findings li").is_visible()
    page.get_by_role("radio", name="grad-cam", exact=True).check()
    assert found.locator(".findings li").is_hidden()
    page.get_by_role("checkbox", name="side by side").check()
    assert found.locator(".findings li").is_visible()


def test_filters_by_finding(open_page, four):
    page = open_page(four[0])
    page.get_by_label("Finding", exact=True).select_option("empty (1)")
    assert names(page) == ["cat.jpg"]
    assert "the map is empty" in card(page, 2).locator(".findings").inner_text()


def test_the_most_surprising_comes_first(open_page, four):
    path, photographs = four
    page = open_page(path)
    page.get_by_label("Sort by").select_option("most surprising first")
    wanted = sorted(photographs, key=surprise, reverse=True)
    assert names(page) == [one.name for one in wanted]
    assert page.get_by_label("Order", exact=True).is_hidden()
    page.get_by_label("Sort by").select_option("name")
    assert page.get_by_label("Order", exact=True).is_visible()


def test_findings_are_of_the_class_that_is_shown(open_page, four):
    page = open_page(four[0])
    found = card(page, 2)
    found.scroll_into_view_if_needed()
    assert found.locator(".findings li").is_visible()
    found.get_by_role("radio", name="script").check()
    assert found.locator(".findings li").is_hidden()


@pytest.mark.parametrize(("width", "height"), [(1400, 1000), (390, 844)])
def test_the_first_photograph_is_on_the_first_screen(open_page, four, width, height):
    page = open_page(four[0], width=width, height=height)
    box = card(page, 0).locator(".stack").bounding_box()
    assert box["y"] + box["height"] / 2 < height


@pytest.mark.parametrize("width", [320, 390, 1400])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_no_table_is_cut(open_page, tmp_path, width, media):
    metrics = {f"score-cam-{n}": {f"box-iou-{m}": 0.123 for m in range(8)} for n in range(3)}
    maps = {name: np.eye(8)[None] for name in metrics}
    one = photograph("a", Image.new("RGB", (320, 240)), [("x", 0.5)], maps, metrics=metrics)
    figures = dict.fromkeys(metrics, tables.figure(np.array([0.1, 0.3])))
    columns = [tables.Column(f"box-iou-{m}", f"box-iou-{m} ↑", figures, 3) for m in range(8)]
    path = tmp_path / "wide.html"
    path.write_text(report([one, one._replace(name="b")], columns=columns), "utf-8")
    page = open_page(path, width=width)
    page.emulate_media(media=media)
    page.locator("details.all").evaluate("folded => { folded.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for cell in page.locator("td:visible, th:visible").all():
        inside = cell.evaluate(
            """cell => {
              const outer = cell.closest("article, details").getBoundingClientRect();
              const own = cell.getBoundingClientRect();
              return own.left >= outer.left && own.right <= outer.right + 0.5;
            }"""
        )
        assert inside, cell.inner_text()


def test_a_signed_map_has_a_paler_photograph_and_small_pictures_are_not_smoothed(
    open_page, four, tmp_path
):
    page = open_page(four[0])
    photo = card(page, 0).locator(".photo")
    assert "contrast" not in photo.evaluate("photo => getComputedStyle(photo).filter")
    page.get_by_role("radio", name="signed", exact=True).check()
    assert "contrast(0.5)" in photo.evaluate("photo => getComputedStyle(photo).filter")
    assert photo.evaluate("photo => getComputedStyle(photo).imageRendering") == "auto"
    digit = photograph("7", Image.new("RGB", (28, 28)), [("x", 0.5)], {"m": np.eye(8)[None]})
    path = tmp_path / "small.html"
    path.write_text(report([digit]), "utf-8")
    small = card(open_page(path), 0).locator(".photo")
    assert small.evaluate("photo => getComputedStyle(photo).imageRendering") == "pixelated"


def test_a_volume_is_cut_through_the_peak_of_its_map(open_page, tmp_path):
    z, y, x = np.ogrid[:10, :32, :24]
    heatmap = np.exp(-((z - 7) ** 2 / 4 + (y - 20) ** 2 / 9 + (x - 5) ** 2 / 9))[None]
    frames = [Image.new("L", (24, 32), 20 * number) for number in range(10)]
    volume = photograph("head", frames, [("x", 0.5)], {"m": heatmap}, thickness=2)
    path = tmp_path / "volume.html"
    path.write_text(report([volume]), "utf-8")
    page = open_page(path)
    assert "1 volume, m" in page.locator("header").inner_text()
    found = card(page, 0)
    captions = found.locator(".cuts figcaption").all_inner_texts()
    assert [caption.split(",")[0] for caption in captions] == ["cut at row 20", "cut at column 5"]
    values = grids.draw(volume.maps["m"][0], (10, 32, 24))[::-1]
    for place, plane in enumerate((values[:, 20], values[:, :, 5])):
        picture = found.locator(".cut img").nth(place)
        size = picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")
        assert size == [(24, 32)[place], 20]
        canvas = canvas_of(found, place + 1)
        wanted = 255 * np.sqrt(grids.enlarge(plane, canvas.shape[:2]).clip(0, 1))
        assert np.abs(canvas[..., 3] - wanted).mean() < 12


def test_a_series_has_its_colours_behind_black_lines(open_page, tmp_path):
    heatmap = np.linspace(0, 1, 50, dtype=np.float32)[None]
    explanation = SimpleNamespace(heatmap=heatmap, weights=None, targets=np.array([0]))
    show(explanation, np.sin(np.arange(50.0))[None]).save(tmp_path / "series.html")
    page = open_page(tmp_path / "series.html", colours="dark")
    assert "1 series" in page.locator("header").inner_text()
    stack = card(page, 0).locator(".stack")
    box = stack.bounding_box()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 9)
    assert card(page, 0).locator(".reading").inner_text().startswith("At step 45: 0.9")
    seen = picture_of(stack)
    left, right = seen[:, 100:200], seen[:, -100:-40]
    assert np.median(left.min(-1)) > 150
    assert np.ptp(np.median(right, (0, 1))) > 40
    assert right.min() < 60  # the line


def blocked(path, tmp_path):
    """The same file as a place serves it that lets no script run."""
    copy = tmp_path / "blocked.html"
    rule = '<meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
    copy.write_text(path.read_text("utf-8").replace("<title>", f"{rule}<title>"), "utf-8")
    return copy


@pytest.mark.parametrize("by", ["browser", "policy"])
def test_without_scripts_it_is_a_sheet(open_page, four, browser, tmp_path, by):
    path, _ = four
    if by == "browser":
        page = open_page(path, scripts=False)
    else:
        # Chromium says on its console that it blocked the script: not through `open_page`.
        context = browser.new_context()
        page = context.new_page()
        page.goto(blocked(path, tmp_path).as_uri())
    assert page.locator("form").is_hidden()
    assert page.locator(".legend .unsigned .scale").is_visible()
    assert names(page) == list(NAMES)
    assert page.locator("canvas").count() == 0
    assert page.locator("article .stack:visible").count() == len(NAMES) * len(METHODS)
    first = page.locator("article").first.locator(".stack")
    pictures = [picture_of(stack) for stack in first.all()]
    assert all(np.ptp(picture) > 100 for picture in pictures)
    shades = [np.abs(picture - picture.mean(-1, keepdims=True)).mean() for picture in pictures]
    assert min(shades) > 3  # colours, on a grey photograph
    assert "animal 0" in page.locator("article").first.inner_text()
    assert page.get_by_text("torn.jpg").is_visible()
    assert page.get_by_text("scorecam report").is_visible()


def test_paper_gets_every_photograph_as_it_is_set(open_page, four):
    path, photographs = four
    page = open_page(path, height=300)
    page.get_by_role("radio", name="grad-cam").check()
    assert page.pdf().startswith(b"%PDF")
    for number, shown in enumerate(photographs):
        assert_shows(card(page, number), shown, "grad-cam", 0)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("form").is_hidden()
    assert page.locator(".legend .unsigned .scale").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_thousand_photographs_are_drawn_as_they_come_into_view(
    open_page, tmp_path, record_property
):
    small = photograph(
        "a", Image.new("RGB", (32, 24)), [("x", 0.5)], {"m": np.eye(8)[None], "n": np.eye(8)[None]}
    )
    path = tmp_path / "thousand.html"
    path.write_text(report([small._replace(name=f"{n:04}.jpg") for n in range(1000)]), "utf-8")
    page = open_page(path)
    page.locator("canvas").first.wait_for()
    record_property("milliseconds to the first heatmap", page.evaluate("performance.now()"))
    assert page.locator("canvas").count() < 60
    page.locator("article").last.scroll_into_view_if_needed()
    page.locator("#photograph-999 canvas").wait_for()
    assert page.locator("canvas").count() < 200
    page.get_by_role("radio", name="n", exact=True).check()
    page.get_by_label("Search").fill("0500")
    page.locator("#photograph-500 canvas").wait_for()
    assert card(page, 500).locator("figcaption").inner_text() == "n: x 50.0 %"


def contrast(first, second):
    """WCAG 2's ratio of two colours."""

    def luminance(colour):
        share = np.array(colour) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    high, low = sorted([luminance(first), luminance(second)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def seen_colours(page, selector):
    """The text's colour and the one behind it."""
    found = page.locator(selector).first.evaluate(
        """element => {
          let back = element;
          const clear = () => getComputedStyle(back).backgroundColor === "rgba(0, 0, 0, 0)";
          while (clear() && back.parentElement) back = back.parentElement;
          return [getComputedStyle(element).color, getComputedStyle(back).backgroundColor];
        }"""
    )
    return [[int(part) for part in text[4:-1].split(", ")] for text in found]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(open_page, four, colours):
    page = open_page(four[0], colours=colours)
    page.locator("details.all").evaluate("folded => { folded.open = true; }")
    background = seen_colours(page, "h1")[1]
    assert (np.mean(background) > 128) == (colours == "light")
    for selector in (
        "h1", "header p", "h2", "figcaption", ".classes label", ".classes span", ".findings li",
        ".controls label", ".controls output", "legend", ".key", "table.summary th",
        "td", ".axis", "dt", "dd", "pre", "summary", "kbd",
    ):  # fmt: skip
        assert contrast(*seen_colours(page, selector)) >= 4.5, selector


def test_everything_has_a_name_that_can_be_read_out(open_page, four):
    page = open_page(four[0])
    for role in ("slider", "checkbox", "radio", "combobox", "searchbox", "img", "article"):
        found = page.get_by_role(role)
        named = page.get_by_role(role, name=re.compile(r"\S"))
        assert found.count() == named.count() > 0, role
    assert page.locator("fieldset").count() == page.locator("fieldset > legend").count() > 0
    label = card(page, 0).locator(".stack").get_attribute("aria-label")
    assert label.startswith("bear.jpg, score-cam: animal 0 90.0 %, highest ")


def test_the_notebooks_viewer_works_in_its_frame(open_page, tmp_path):
    heatmap = np.random.default_rng(0).uniform(0, 1, (1, 2, 6, 8, 8)).astype(np.float32)
    explanation = SimpleNamespace(heatmap=heatmap, weights=None, targets=np.array([[1, 0]]))
    viewer = show(explanation, np.random.default_rng(1).uniform(0, 9, (1, 6, 8, 8)))
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><title>notebook</title>{viewer._repr_html_()}", "utf-8")
    page = open_page(path)
    frame = page.frame_locator("iframe")
    shown, found = viewer._photographs[0], frame.locator("#photograph-0")
    found.get_by_role("radio", name="class 0").check()
    found.get_by_role("slider", name="Slice").fill("4")
    assert found.locator(".slices output").inner_text() == "5 of 6"
    canvas = canvas_of(found)
    values = grids.draw(shown.maps["heatmap"][1], (6, *canvas.shape[:2]))[4]
    opacity = np.asarray(transparent(values))[..., 3].astype(float)
    assert np.abs(canvas[..., 3] - opacity).max() <= 2
    assert frame.get_by_label("Search").is_hidden()
    picture = page.locator("img")
    assert picture.evaluate("image => image.naturalWidth") > 100
    top = page.locator("iframe").bounding_box()
    assert picture.bounding_box()["y"] == top["y"]


@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits_the_window(open_page, four, width):
    page = open_page(four[0], width=width)
    page.get_by_label("side by side").check()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for stack in page.locator(".stack:visible").all():
        box = stack.bounding_box()
        assert box["width"] >= 200
        assert box["width"] / box["height"] == pytest.approx(320 / 240, rel=0.02)
