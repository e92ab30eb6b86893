import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import scorecam_jax
from scorecam_jax import metrics, models
from scorecam_jax.study.pipeline import _Run
from scorecam_jax.visualize import grids
from tests.cli.toy import LABELS, scorecam

BOXES = [[8, 8, 8, 8], [40, 20, 5, 5]]


class Scripts(HTMLParser):
    """The JSON documents in a page."""

    def __init__(self, text):
        super().__init__()
        self.found, self._reading = [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._reading = (tag, dict(attrs).get("type")) == ("script", "application/json")

    def handle_data(self, data):
        if self._reading:
            self.found.append(json.loads(data))
            self._reading = False


def parts(path):
    """What a report says of all photographs, and what it has of each."""
    index, *articles = Scripts(path.read_text("utf-8")).found
    return index, articles


@pytest.fixture
def folder(photo):
    """Two photographs, of which one has boxes, and a file that is none."""
    folder = photo.parent / "photos"
    (folder / "more").mkdir(parents=True)
    with Image.open(photo) as image:
        image.save(folder / "b.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "more" / "a.png")
    annotations = {
        "images": [{"id": 1, "file_name": "b.png", "width": 48, "height": 32}],
        "annotations": [{"image_id": 1, "category_id": 0, "bbox": box} for box in BOXES],
    }
    (folder / "annotations.json").write_text(json.dumps(annotations))
    return folder


def test_a_folder_becomes_one_file(traces, folder, capsys):
    status = scorecam("report", "photos", "--methods", "score-cam,grad-cam", "--top", 2)
    assert status == 1  # one photograph has no boxes
    index, articles = parts(folder.parent / "report.html")
    assert index["methods"] == ["score-cam", "grad-cam"]
    assert [one["name"] for one in index["photographs"]] == ["b.png", "more/a.png"]
    assert [name for name, *_ in index["photographs"][0]["classes"]] == list(LABELS[0:3:2])
    assert articles[0]["boxes"] == BOXES
    assert articles[0]["seen"] == [8, 0, 40, 32]
    assert articles[0]["place"] == [0, 0, 16, 16]
    printed = capsys.readouterr()
    assert printed.out.startswith("wrote report.html: 2 photographs, 0.")
    assert "more/a.png: has no boxes" in printed.err
    assert not (folder.parent / "report.html.partial").exists()


def test_the_maps_and_figures_are_the_librarys(traces, folder):
    scorecam("report", "photos", "--target", "blue jay", "--methods", "score-cam,layer-cam")
    _, articles = parts(folder.parent / "report.html")
    index, _ = parts(folder.parent / "report.html")
    classifier = models.load("toy")
    with Image.open(folder / "b.png") as image:
        inputs = classifier.preprocess(image)[None]
        boxes = classifier.preprocess.boxes(np.array(BOXES, float), image.size)
    for name, method in (("score-cam", "score_cam"), ("layer-cam", "layer_cam")):
        heatmap = getattr(scorecam_jax, method)(classifier.model, inputs, 2).heatmap
        stored = grids.draw(grids.Grid(*articles[0]["maps"][name][0]), (16, 16))
        np.testing.assert_allclose(stored, heatmap[0], atol=1.5 / 255)
        found = index["photographs"][0]["metrics"][name]
        seen = np.float32(boxes[(boxes[:, 2:] > 0).all(1)])[None]
        energy = float(metrics.energy_pointing_game(heatmap, seen)[0])
        assert found["energy"] == pytest.approx(energy, abs=1e-4)
        assert found["live channels"] == 2
        assert found["seconds"] >= 0
    assert list(articles[0]["maps"]["score-cam"][0][0]) == [4, 4]


def test_empty_maps_are_a_finding(traces, folder):
    assert (
        scorecam("report", folder / "b.png", "--target", "green lizard", "--methods", "grad-cam")
        == 0
    )
    index, _ = parts(folder.parent / "report.html")
    assert "empty" in index["photographs"][0]["findings"]


def test_names_of_files_are_escaped(traces, photo):
    hostile = photo.rename(photo.with_name("<img src=x onerror=alert(1)>.png"))
    assert scorecam("report", hostile.name) == 0
    assert "<img" not in (photo.parent / "report.html").read_text("utf-8")


def test_the_file_says_how_it_was_made(traces, photo, monkeypatch):
    assert scorecam("report", "photo.png", "--channels", 2, "-o", "a b.html") == 0
    text = (photo.parent / "a b.html").read_text("utf-8")
    assert "scorecam report photo.png --channels 2 -o &#x27;a b.html&#x27;" in text
    facts = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert facts["layer"] == "grid"
    assert facts["channels"] == "2"
    assert {"jax", "Python", "device", "date", "preprocess"} <= set(facts)


def interrupting(monkeypatch, after):
    """Ctrl-C, when so many photographs are explained; how many have been."""
    explained = []
    explain = _Run._result

    def one(run, method, asked, *rest):
        if len(explained) == after:
            raise KeyboardInterrupt
        explained.append(asked.item.name)
        return explain(run, method, asked, *rest)

    monkeypatch.setattr(_Run, "_result", one)
    return explained


def test_an_interrupted_report_continues(traces, folder, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupting(patch, 1)
        assert scorecam("report", "photos") == 130
    assert "1 of 2 photographs are kept in report.html.partial" in capsys.readouterr().err
    assert not (folder.parent / "report.html").exists()
    explained = interrupting(monkeypatch, -1)
    assert scorecam("report", "photos") == 1
    assert explained == ["more/a.png"]
    index, _ = parts(folder.parent / "report.html")
    assert [one["name"] for one in index["photographs"]] == ["b.png", "more/a.png"]


def test_a_changed_photograph_is_explained_again(traces, folder, photo, monkeypatch):
    with monkeypatch.context() as patch:
        interrupting(patch, 1)
        scorecam("report", "photos")
    Image.new("RGB", (48, 32), "blue").save(folder / "b.png")
    explained = interrupting(monkeypatch, -1)
    scorecam("report", "photos")
    assert explained == ["b.png", "more/a.png"]


def test_what_is_kept_for_other_options_is_not_mixed_in(traces, folder, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        interrupting(patch, 1)
        scorecam("report", "photos")
    capsys.readouterr()
    assert scorecam("report", "photos", "--methods", "grad-cam") == 2
    assert "holds results for other settings: methods was ['score-cam']" in capsys.readouterr().err


def test_photographs_that_cannot_be_read_are_left_out_and_told(traces, photo, capsys):
    (photo.parent / "torn.png").write_bytes(photo.read_bytes()[:60])
    assert scorecam("report", "photo.png", "torn.png") == 1
    assert "torn.png: " in capsys.readouterr().err
    text = (photo.parent / "report.html").read_text("utf-8")
    assert "1 left out" in text
    assert "<b>torn.png</b>" in text


def test_json_tells_the_same(traces, folder, capsys):
    scorecam("report", "photos", "--json")
    document = json.loads(capsys.readouterr().out)
    assert [one["photo"] for one in document["photos"]] == ["b.png", "more/a.png"]
    unseen = "the network does not see the box (40.0, 20.0, 5.0, 5.0)"
    assert document["left_out"] == [
        {"what": "more/a.png", "why": "has no boxes"}, {"what": "b.png", "why": unseen},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png", "-o", "report.png"], "a report is an HTML file; name report.html with -o"),
        (["nothing"], "none of the 1 photographs could be explained: nothing: no such file"),
        (["photo.png", "--top", "99"], "the model knows only 9 classes"),
        (["photo.png", "--boxes", "boxes.json"], "neither COCO's JSON nor"),
        (["photo.png", "--methods", "grad-cam", "--channels", "3"], "takes no --channels"),
    ],
)
def test_mistakes_are_told(traces, photo, capsys, arguments, message):
    photo.with_name("boxes.json").write_text("two boxes")
    assert scorecam("report", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (photo.parent / "report.html").exists()


def test_an_existing_file_is_kept_unless_told_otherwise(traces, photo, capsys):
    (photo.parent / "report.html").write_text("mine")
    assert scorecam("report", "photo.png") == 2
    assert (photo.parent / "report.html").read_text() == "mine"
    assert scorecam("report", "photo.png", "--force") == 0
    assert (photo.parent / "report.html").read_text("utf-8").startswith("<!doctype html>")


def test_an_evaluation_leaves_a_report_beside_its_tables(traces, folder, monkeypatch, capsys):
    asked = ("evaluate", "photos", "--methods", "grad-cam,layer-cam", "--metrics", "energy")
    scorecam(*asked)
    path = folder.parent / "photos-scorecam" / "report.html"
    index, articles = parts(path)
    assert index["methods"] == ["grad-cam", "layer-cam"]
    assert [one["name"] for one in index["photographs"]] == ["b.png", "more/a.png"]
    results = json.loads((path.parent / "results.json").read_text("utf-8"))
    for row in results["rows"]:
        place = ["b.png", "more/a.png"].index(row["image"])
        found = index["photographs"][place]["metrics"][row["method"]]
        assert found.get("energy") == row["energy"]
        heatmap = grids.draw(grids.Grid(*articles[place]["maps"][row["method"]][0]), (16, 16))
        classifier = models.load("toy")
        with Image.open(folder / row["image"]) as image:
            inputs = classifier.preprocess(image)[None]
        method = getattr(scorecam_jax, row["method"].replace("-", "_"))
        wanted = method(classifier.model, inputs, row["target"]).heatmap[0]
        np.testing.assert_allclose(heatmap, wanted, atol=1 / 255)
    # A second run measures nothing, and has the maps still.
    before = path.read_text("utf-8")
    scorecam(*asked)
    assert parts(path) == (index, articles)
    assert "scorecam evaluate photos" in before
