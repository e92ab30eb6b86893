import csv
import errno
import json
import os
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from scorecam_jax.reading import find
from scorecam_jax.study import evaluate_folder
from scorecam_jax.study.pipeline import _Run
from scorecam_jax.study.results import ROW
from tests.cli.toy import UNIX
from tests.study.toy import CHEAP, model, toy


@pytest.fixture
def photos(tmp_path):
    """Four photographs, one of them in a subfolder, with their boxes; the bright part is boxed."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    images, annotations = [], []
    for number, name in enumerate(("a.png", "b.jpg", "c.png", "more/d.png")):
        pixels = np.random.default_rng(number).integers(0, 60, (40, 60, 3), dtype=np.uint8)
        pixels[10:30, 20 : 40 + number] += 150
        Image.fromarray(pixels).save(folder / name)
        images.append({"id": number, "file_name": name, "width": 60, "height": 40})
        box = [20, 10, 20 + number, 20]
        annotations.append({"id": number, "image_id": number, "category_id": 2, "bbox": box})
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder, boxes


def run(photos, **options):
    folder, boxes = photos
    options = {"boxes": boxes, "methods": ["grad-cam", "uniform"], "metrics": CHEAP} | options
    return evaluate_folder(options.pop("classifier", toy(fit="stretch")), folder, **options)


def assert_same(got, expected):
    """Two rows are equal but for the seconds."""
    assert got["findings"] == expected["findings"]
    timeless = {"seconds": 0, "findings": 0}
    assert got | timeless == pytest.approx(expected | timeless)


def test_a_folder_becomes_a_table_and_files(photos, tmp_path):
    steps = []
    found = run(photos, output=tmp_path / "out", progress=lambda *step: steps.append(step))
    assert [row["image"] for row in found.rows[::2]] == ["a.png", "b.jpg", "c.png", "more/d.png"]
    assert not found.left_out
    assert steps == [
        (place, 8, f"{row['image']}: {row['method']}") for place, row in enumerate(found.rows)
    ]
    assert (tmp_path / "out" / "table.txt").read_text("utf-8") == found.as_text() + "\n"
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["rows"] == found.rows
    assert document["table"] == found.as_records()
    with (tmp_path / "out" / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy"]) for row in rows] == [row["energy"] for row in found.rows]
    with (tmp_path / "out" / "table.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["grad-cam", "uniform"]


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_boxes_go_where_the_photograph_goes(photos, fit):
    """The uniform map's energy is the box's share of what the network sees."""
    found = run(photos, classifier=toy(fit=fit), methods=["uniform"], metrics=["energy"])
    across = {"stretch": 20 / 60, "crop": 16 / 40, "pad": 20 / 60}[fit]  # input pixels a pixel
    down = {"stretch": 16 / 40, "crop": 16 / 40, "pad": 13 / 40}[fit]
    expected = [(20 + number) * across * 20 * down / 320 for number in range(4)]
    np.testing.assert_allclose([row["energy"] for row in found.rows], expected, rtol=1e-4)


def test_predicted_and_annotated_targets(photos):
    folder, _ = photos
    predicted = run(photos, metrics=["average-drop"], methods=["uniform"])
    annotated = run(photos, metrics=["average-drop"], methods=["uniform"], target="annotated")
    for row in predicted.rows:
        inputs = toy(fit="stretch").preprocess(Image.open(folder / row["image"]))[None]
        probabilities = np.asarray(jax.nn.softmax(model()(inputs)[0]))[0]
        assert row["target"] == probabilities.argmax()
        np.testing.assert_allclose(row["score"], probabilities.max(), rtol=1e-5)
    assert [row["target"] for row in annotated.rows] == [2] * 4


def test_an_annotated_target_is_the_class_that_covers_most_with_its_boxes(photos):
    _, boxes = photos
    content = json.loads(boxes.read_text())
    add = {"image_id": 0, "id": 9, "category_id": 1, "bbox": [0, 0, 60, 20]}
    wrong = {"image_id": 1, "id": 10, "category_id": 5, "bbox": [0, 0, 60, 20]}
    content["annotations"] += [add, wrong]
    boxes.write_text(json.dumps(content))
    found = run(photos, methods=["uniform"], metrics=["energy"], target="annotated")
    assert [row["target"] for row in found.rows] == [1, 2, 2, 2]
    np.testing.assert_allclose(found.rows[0]["energy"], 0.5, rtol=1e-5)
    (note,) = found.left_out
    assert note.what == "b.jpg"
    assert "5 is not a class" in note.why


def test_what_cannot_be_used_is_named_and_left_out(photos):
    folder, boxes = photos
    (folder / "b.jpg").write_bytes(b"not a photograph")
    whole = (folder / "c.png").read_bytes()
    (folder / "c.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (9, 9)).save(folder / "e.png")
    content = json.loads(boxes.read_text())
    content["images"][3] |= {"width": 40, "height": 60}
    content["annotations"][0]["bbox"] = [1, 2, -3, 4]
    content["images"].append({"id": 8, "file_name": "absent.jpg"})
    boxes.write_text(json.dumps(content))
    found = run(photos)
    assert [row["image"] for row in found.rows[::2]] == ["a.png", "e.png", "more/d.png"]
    assert [row["energy"] for row in found.rows] == [None] * 6
    why = {}
    for note in found.left_out:
        why[Path(note.what).name] = why.get(Path(note.what).name, "") + note.why
    assert "cannot be read" in why["b.jpg"]
    assert "cannot be read" in why["c.png"]
    assert "no boxes" in why["e.png"]
    assert "no boxes" in why["a.png"]
    assert "no area" in why["a.png, annotation 0"]
    assert "40 x 60" in why["d.png"]
    assert "1 of its 5" in why["boxes.json"]


def test_a_box_outside_the_crop_is_named(photos):
    _, boxes = photos
    content = json.loads(boxes.read_text())
    content["annotations"][0]["bbox"] = [0, 0, 4, 40]  # the crop of 60 x 40 is 50 wide
    boxes.write_text(json.dumps(content))
    found = run(photos, classifier=toy(fit="crop"), methods=["uniform"], metrics=["energy"])
    assert found.rows[0]["energy"] is None
    assert [note.what for note in found.left_out] == ["a.png"]


def test_boxes_of_a_turned_photograph_are_those_of_the_upright_one(photos):
    folder, _ = photos
    photo = Image.open(folder / "a.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by a quarter
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "a.png", exif=exif)
    before = [row["energy"] for row in run(photos, metrics=["energy"]).rows]
    photo.save(folder / "a.png")
    np.testing.assert_allclose(
        [row["energy"] for row in run(photos, metrics=["energy"]).rows], before, rtol=1e-5
    )


def test_an_interrupted_run_is_carried_on_and_nothing_is_lost_or_done_twice(photos, tmp_path):
    def interrupt(done, total, what):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(photos, output=tmp_path / "out", progress=interrupt)
    kept = (tmp_path / "out" / "rows.jsonl").read_text()
    assert kept.count("\n") == 1 + 3
    steps = []
    found = run(photos, output=tmp_path / "out", progress=lambda *step: steps.append(step))
    assert (tmp_path / "out" / "rows.jsonl").read_text().startswith(kept)
    assert (tmp_path / "out" / "rows.jsonl").read_text().count("\n") == 1 + 8
    assert next(step[2] for step in steps if step[0] >= 3) == "b.jpg: uniform"
    straight = run(photos)
    for got, expected in zip(found.rows, straight.rows, strict=True):
        assert_same(got, expected)
    again = run(photos, output=tmp_path / "out", progress=lambda *step: pytest.fail("done twice"))
    assert again.rows == found.rows


def test_more_methods_and_metrics_are_added_to_what_there_is(photos, tmp_path):
    run(photos, output=tmp_path / "out", methods=["uniform"], metrics=["energy"])
    steps = []
    found = run(
        photos, output=tmp_path / "out", metrics=["energy"], progress=lambda *s: steps.append(s[2])
    )
    assert found.methods == ["grad-cam", "uniform"]
    lines = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4 + 4
    found = run(photos, output=tmp_path / "out", metrics=["pointing"], methods=["uniform"])
    assert list(found.rows[0])[len(ROW) :] == ["pointing"]
    found = run(
        photos, output=tmp_path / "out", metrics=["pointing", "energy"], methods=["uniform"],
        progress=lambda *step: pytest.fail("done twice"),
    )  # fmt: skip
    assert list(found.rows[0])[len(ROW) :] == ["pointing", "energy"]


def test_results_for_other_settings_are_refused(photos, tmp_path):
    run(photos, output=tmp_path / "out", settings={"model": "one"})
    with pytest.raises(ValueError, match="model was 'one' and is 'two'"):
        run(photos, output=tmp_path / "out", settings={"model": "two"})
    with pytest.raises(ValueError, match="target was 'predicted' and is 'annotated'"):
        run(photos, output=tmp_path / "out", settings={"model": "one"}, target="annotated")


def test_voc_files_name_classes(photos, tmp_path):
    folder, _ = photos
    voc = tmp_path / "voc"
    (voc / "more").mkdir(parents=True)
    for name in ("a", "more/d"):
        (voc / f"{name}.xml").write_text(
            "<annotation><object><name>Tinca_tinca</name><bndbox><xmin>21</xmin><ymin>11</ymin>"
            "<xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>"
        )
    found = run((folder, voc), methods=["uniform"], metrics=["energy"], target="annotated")
    assert [(row["image"], row["target"]) for row in found.rows] == [
        ("a.png", 0),
        ("more/d.png", 0),
    ]
    np.testing.assert_allclose(found.rows[0]["energy"], 400 / 2400, rtol=1e-5)
    assert {note.what for note in found.left_out} == {"b.jpg", "c.png"}


def test_without_boxes_only_faithfulness_is_measured(photos):
    found = run(photos, boxes=None, metrics=None, methods=["uniform"])
    assert list(found.rows[0])[len(ROW) :] == [
        "average-drop", "average-increase", "average-gain", "insertion", "deletion"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="energy cannot be measured without boxes"):
        run(photos, boxes=None, metrics=["energy"])


def test_folders_with_nothing_to_measure_are_refused(photos):
    folder, boxes = photos
    (folder / "none").mkdir()
    with pytest.raises(ValueError, match="no photographs in"):
        run((folder / "none", boxes))
    with pytest.raises(ValueError, match="is not a folder"):
        run((folder / "absent", boxes))
    with pytest.raises(ValueError, match="names none of the photographs"):
        run((folder / "more", boxes))
    with pytest.raises(ValueError, match="no class is called 'best'"):
        run(photos, target="best")
    for photo in folder.rglob("*.*"):
        photo.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 4 photographs.*cannot be read"):
        run(photos)


def test_a_photograph_that_was_changed_is_measured_again(photos, tmp_path):
    folder, _ = photos
    before = run(photos, output=tmp_path / "out").rows
    (folder / "a.png").write_bytes((folder / "c.png").read_bytes())
    steps = []
    found = run(photos, output=tmp_path / "out", progress=lambda *step: steps.append(step[2]))
    assert steps == ["a.png: grad-cam", "a.png: uniform"]
    assert found.rows[2:] == before[2:]
    drops = [row["average-drop"] for row in found.rows]
    assert drops[:2] == pytest.approx(drops[4:6])
    assert drops[0] != pytest.approx(before[0]["average-drop"])


def test_a_damaged_line_is_measured_again(photos, tmp_path):
    before = run(photos, output=tmp_path / "out").rows
    path = tmp_path / "out" / "rows.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | {"score": "high"})
    path.write_text("\n".join(lines) + "\n")
    steps = []
    found = run(photos, output=tmp_path / "out", progress=lambda *step: steps.append(step[2]))
    assert steps == ["b.jpg: grad-cam", "b.jpg: uniform"]
    assert [note.what for note in found.remeasured] == [f"{path}, line 4"]
    assert not found.left_out
    for got, expected in zip(found.rows, before, strict=True):
        assert_same(got, expected)


@pytest.mark.parametrize(
    "error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")]
)
def test_a_photograph_for_which_memory_does_not_suffice_is_left_out(photos, monkeypatch, error):
    measure = _Run._result

    def scarce(run, method, one, *found):
        if one.item.name == "b.jpg" and method == "uniform":
            raise error
        return measure(run, method, one, *found)

    monkeypatch.setattr(_Run, "_result", scarce)
    found = run(photos)
    assert [row["image"] for row in found.rows[::2]] == ["a.png", "c.png", "more/d.png"]
    (note,) = found.left_out
    assert note.what == "b.jpg"
    assert "out of memory during uniform" in note.why


def test_other_errors_of_the_device_come_through(photos, monkeypatch):
    def broken(run, method, one, *found):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")

    monkeypatch.setattr(_Run, "_result", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
        run(photos)


def test_undecodable_names_are_measured_and_written_escaped(photos, tmp_path):
    folder, _ = photos
    strange = os.fsdecode(b"\xffa.png")
    try:
        (folder / "a.png").rename(folder / strange)
    except OSError:
        pytest.skip("this file system takes no such name")
    for _ in range(2):
        found = run(photos, boxes=None, metrics=["average-drop"], output=tmp_path / "out")
        assert strange in [row["image"] for row in found.rows]
    assert "\\udcffa.png" in (tmp_path / "out" / "rows.csv").read_text("utf-8")
    assert (tmp_path / "out" / "rows.jsonl").read_text("utf-8").count("\n") == 1 + 8


def test_folders_that_cannot_be_read_are_named(photos, monkeypatch):
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("more"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = run(photos, boxes=None, metrics=["average-drop"])
    assert [row["image"] for row in found.rows[::2]] == ["a.png", "b.jpg", "c.png"]
    (note,) = found.left_out
    assert note.what.endswith("more")
    assert note.why == "cannot be read: Permission denied"


@UNIX
def test_pipes_are_no_photographs(photos):
    folder, _ = photos
    os.mkfifo(folder / "pipe.png")
    assert "pipe.png" not in [source.name for source in find([folder]).sources]


def test_a_failure_ends_the_thread_that_loads(photos):
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="gave shape") as failure:
        run(photos, metrics={"bad": lambda case: np.zeros(3)})
    assert set(threading.enumerate()) <= before
    assert failure.tb is not None  # until here the traceback keeps what the frames hold
