"""The report as text: what is in it, what is escaped, what it takes."""

import base64
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from scorecam_jax.study import tables
from scorecam_jax.visualize import grids
from scorecam_jax.visualize.report import Photograph, percent, photograph, report
from scorecam_jax.visualize.transparent import transparent

HOSTILE = "<img src=x onerror=alert(1)>\"'&.jpg"


def picture(seed=0, size=(60, 40)):
    values = np.random.default_rng(seed).integers(0, 256, (size[1] // 10, size[0] // 10, 3))
    return Image.fromarray(values.astype(np.uint8)).resize(size)


def heatmaps(seed=0, classes=1, shape=(32, 32)):
    sums = np.random.default_rng(seed).uniform(-0.5, 1, (classes, 4, 4))
    drawn = np.stack([grids.enlarge(one, shape).clip(0) for one in sums])
    return drawn / drawn.max((1, 2), keepdims=True), sums


def one(name="a.jpg", methods=("score-cam", "grad-cam"), **options):
    maps = {method: heatmaps(place)[0] for place, method in enumerate(methods)}
    return photograph(name, picture(), [("tabby, tabby cat", 0.5)], maps, **options)


class Elements(HTMLParser):
    """The elements of a page, each with its attributes and the text directly in it."""

    def __init__(self, text):
        super().__init__()
        self.found, self._open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])
        self._open.append(self.found[-1])

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self._open:
            self._open[-1][2] += data

    def named(self, tag):
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


def test_names_are_text_wherever_they_are_written():
    hostile = photograph(
        HOSTILE,
        picture(),
        [(HOSTILE, 0.5), ("</script><!-- <script>", 1e-9)],
        {HOSTILE: heatmaps(classes=2)[0]},
        findings={HOSTILE: [[(HOSTILE, HOSTILE)], []]},
        metrics={HOSTILE: {HOSTILE: 1.0}},
    )
    figures = {HOSTILE: tables.figure(np.array([1.0]))}
    text = report(
        [hostile],
        title=HOSTILE,
        columns=[tables.Column(HOSTILE, HOSTILE, figures, 2)],
        left_out=[(HOSTILE, HOSTILE)],
        manifest={HOSTILE: HOSTILE},
        command=HOSTILE,
    )
    page = Elements(text)
    assert not page.named("img")
    assert all("onerror" not in attributes for _, attributes, _ in page.found)
    assert page.named("h1")[0][1] == page.named("h2")[-1][1] == page.named("code")[0][1] == HOSTILE
    kinds = [attributes.get("type", "") for attributes, _ in page.named("script")]
    assert kinds == ["application/json", "application/json", ""]
    index = json.loads(page.named("script")[0][1])
    assert index["photographs"][0]["classes"][1][0] == "</script><!-- <script>"
    assert index["photographs"][0]["name"] == HOSTILE


def test_nothing_comes_from_elsewhere():
    page = Elements(report([one(), one("b.jpg")]))
    policy = next(a["content"] for a, _ in page.named("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    addresses = [
        attributes[name]
        for _, attributes, _ in page.found
        for name in ("src", "href")
        if name in attributes
    ]
    assert addresses
    assert all(address.startswith(("data:image/", "#picture-")) for address in addresses)
    assert not page.named("link")


def test_the_pictures_are_those_given():
    page = Elements(report([one()]))
    address = next(a["href"] for a, _ in page.named("image") if "jpeg" in a["href"])
    with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as found:
        difference = np.asarray(found, float) - np.asarray(picture(), float)
    assert np.abs(difference).mean() < 8


def test_the_sheet_shows_each_methods_map_of_the_first_class_where_it_was_seen():
    maps, _ = heatmaps()
    seen = photograph("a.jpg", picture(), [("x", None)], {"m": maps}, seen=(10, 0, 50, 40))
    page = Elements(report([seen]))
    heat = next(a for a, _ in page.named("image") if "png" in a["href"])
    assert [float(heat[side]) for side in ("x", "y", "width", "height")] == [10, 0, 40, 40]
    with Image.open(io.BytesIO(base64.b64decode(heat["href"].split(",")[1]))) as found:
        opacity = np.asarray(found)[..., 3] / 255
    wanted = np.sqrt(grids.enlarge(grids.coarse(maps[0]), opacity.shape).clip(0, 1))
    np.testing.assert_allclose(opacity, wanted, atol=0.02)


def test_a_photograph_goes_through_json_unchanged():
    _, sums = heatmaps()
    before = one(
        boxes=[(1.0, 2.0, 3.0, 4.0)],
        findings={"score-cam": [[("empty", "it is empty")]]},
        metrics={"score-cam": {"energy": 0.5, "pointing": None}},
        sums={"score-cam": sums},
    )
    record = json.loads(json.dumps(before._asdict()))
    after = Photograph.from_json(record)
    assert report([after]) == report([before])


@pytest.mark.parametrize(("methods", "classes"), [(1, 1), (6, 5), (12, 10)])
def test_a_photograph_takes_60_kb_beside_its_picture(methods, classes):
    noise = np.random.default_rng(0).uniform(0, 1, (methods, classes, 224, 224))
    labels = [(f"class number {index}", 0.1) for index in range(classes)]
    maps = {f"method-{index}": values for index, values in enumerate(noise)}
    metrics = {name: dict.fromkeys("abcdefgh", 0.123) for name in maps}
    packed = photograph("a.jpg", picture(), labels, maps, metrics=metrics)
    several = len(report([packed, packed])) - len(report([packed]))
    assert several - len(packed.frames[0]) < 60_000


def test_large_photographs_are_stored_smaller_and_measured_in_their_own_pixels():
    large = photograph("a.jpg", Image.new("RGB", (3000, 1500)), [("x", 1.0)], {"m": heatmaps()[0]})
    with Image.open(io.BytesIO(base64.b64decode(large.frames[0]))) as stored:
        assert stored.size == (800, 400)
    assert list(large.size) == [3000, 1500]
    assert list(large.seen) == [0, 0, 3000, 1500]


def test_the_table_shows_means_and_counts_of_photographs():
    values = [0.0, 0.0, 1.0]
    shown = [one(f"{value}.jpg", ["m"], metrics={"m": {"energy": value}}) for value in values]
    column = tables.Column("energy", "energy ↑", {"m": tables.figure(np.array(values))}, 2)
    page = Elements(report(shown, columns=[column]))
    assert ("0.33") in [text for _, text in page.named("b")]
    label = next(a["aria-label"] for a, _ in page.named("svg") if a.get("class") == "bars")
    assert label == "energy of m: from 0 to 1, quartiles 0, 0, 0.5, 3 photographs"
    bars = [a for a, _ in page.named("rect") if "class" not in a]
    assert [float(bar["height"]) for bar in bars] == [24, 12]


def test_a_constant_figures_bar_stands_in_the_middle():
    shown = [one(f"{number}.jpg", ["m"], metrics={"m": {"pointing": 1.0}}) for number in range(3)]
    column = tables.Column("pointing", "pointing ↑", {"m": tables.figure(np.ones(3))}, 2)
    page = Elements(report(shown, columns=[column]))
    (bar,) = [a for a, _ in page.named("rect") if "class" not in a]
    (plot,) = [a for a, _ in page.named("svg") if a.get("class") == "bars"]
    width = float(plot["viewbox"].split()[2])
    assert abs(float(bar["x"]) + float(bar["width"]) / 2 - width / 2) < 4


def test_meanings_and_figures_aside_are_told_with_the_means_only():
    shown = [
        one(f"{value}.jpg", ["m"], metrics={"m": {"energy": value}}, aside={"m": {"seconds": 7.5}})
        for value in (0.25, 0.5)
    ]
    columns = [
        tables.Column(name, name, {"m": tables.figure(np.array([0.5, 1.0]))}, 2)
        for name in ("energy", "seconds")
    ]
    text = report(shown, columns=columns, meanings={"energy": "a share, 0 to 1"})
    page = Elements(text)
    assert ({}, "a share, 0 to 1") in page.named("dd")
    heads = [(text, attributes.get("title")) for attributes, text in page.named("th")]
    assert ("energy", "a share, 0 to 1") in heads
    cards = text[text.index("<article") :]
    assert "7.5" not in cards
    index = json.loads(page.named("script")[0][1])
    assert index["photographs"][0]["metrics"]["m"] == {"energy": 0.25, "seconds": 7.5}


def test_the_legend_lists_what_is_there():
    def keys(page):
        return {
            attributes["class"].split()[1]: "hidden" not in attributes
            for attributes, _ in page.named("span")
            if attributes.get("class", "").startswith("key")
        }

    assert keys(Elements(report([one()]))) == {
        "unsigned": True, "signed": False, "of-implied": False
    }  # fmt: skip
    signed = photograph(
        "a", picture(), [("x", 1.0)], {"m": heatmaps()[0] - 0.5}, boxes=[(1, 1, 9, 9)]
    )
    assert keys(Elements(report([signed]))) == {
        "unsigned": False, "signed": True, "of-box": True, "of-implied": False
    }  # fmt: skip


def test_volumes_are_called_volumes():
    frames = [picture(seed) for seed in range(3)]
    volume = photograph("a", frames, [("x", 1.0)], {"m": np.ones((1, 3, 8, 8))})
    assert "<p>1 volume, m</p>" in report([volume])
    assert "<p>2 volumes, m</p>" in report([volume, volume._replace(name="b")])
    assert "<p>2 photographs, m</p>" in report([one(methods=["m"]), volume])


def test_what_surprises_is_a_finding_energy_outside_and_disagreement():
    left, right = np.zeros((1, 32, 32)), np.zeros((1, 32, 32))
    left[:, :, :16], right[:, :, 16:] = 1, 1

    def surprise(maps, **options):
        found = photograph("a", picture(), [("x", 1.0)], maps, **options)
        (shown,) = json.loads(Elements(report([found])).named("script")[0][1])["photographs"]
        return shown["surprise"]

    assert surprise({"m": left}) == 0
    assert surprise({"m": left, "n": left}) == pytest.approx(0, abs=1e-3)
    assert surprise({"m": left, "n": right}) == pytest.approx(0.5, abs=0.02)
    finding = {"m": [[("flat", "it is flat")]]}
    assert surprise({"m": left}, findings=finding) == 1
    assert surprise({"m": left}, metrics={"m": {"energy": 0.2}}) == pytest.approx(0.4)


def test_what_was_left_out_and_how_it_was_made_are_told():
    text = report(
        [one()], left_out=[("b.jpg", "cannot be read")], manifest={"model": "net"}, command="make"
    )
    page = Elements(text)
    assert ({}, "b.jpg") in page.named("b")
    assert ({}, "net") in page.named("dd")
    assert ({}, "make") in page.named("code")


def test_signed_maps_have_no_colour_at_zero_and_two_hues():
    drawn = np.asarray(transparent(np.array([[-1.0, 0.0, 1.0]])))
    assert drawn[0, :, 3].tolist() == [255, 0, 255]
    against, for_it = drawn[0, 0, :3].astype(int), drawn[0, 2, :3].astype(int)
    assert against[2] > against[0]
    assert for_it[0] > for_it[2]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100.0 %"),
        (0.863, "86.3 %"),
        (0.00042, "0.04 %"),
        (0.0, "0.0 %"),
        (1e-9, "under 0.001 %"),
    ],
)
def test_percentages(share, text):
    assert percent(share) == text


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="at least one photograph"):
        report([])
    with pytest.raises(ValueError, match=r"b.jpg has maps by \['m'\], and others by"):
        report([one(), one("b.jpg", ["m"])])
    with pytest.raises(ValueError, match=r"heatmaps of shape \(2, 32, 32\) for 1 classes"):
        photograph("a", picture(), [("x", 1.0)], {"m": heatmaps(classes=2)[0]})
