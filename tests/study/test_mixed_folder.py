"""One folder of everything: each command and the Python function say the same of it."""

import json

import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.cli import common
from scorecam_jax.study import study
from tests.cli.test_report import parts
from tests.cli.toy import BLUE, LABELS, RED, colour_network, scorecam
from tests.reading.test_dicom import write

pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")

BOX = [8, 8, 8, 8]
NAMES = ["a.jpg", "ct.dcm", "more/IM0001", "more/b.png", "pages.tif", "scan.nii.gz"]


@pytest.fixture
def folder(here):
    """Photographs, one of them damaged, DICOM with and without suffix, pages, a volume, boxes."""
    folder = here / "photos"
    (folder / "more").mkdir(parents=True)
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[8:16, 8:16, 0] = 255
    red = Image.fromarray(pixels)
    blue = Image.fromarray(pixels[..., ::-1].copy())
    red.save(folder / "pages.tif", save_all=True, append_images=[blue])
    red.save(folder / "a.jpg", quality=100)
    blue.save(folder / "more" / "b.png")
    (folder / "damaged.png").write_bytes((folder / "more" / "b.png").read_bytes()[:60])
    scan = np.zeros((32, 48), np.int16)
    scan[8:16, 8:16] = 300
    write(folder / "ct.dcm", scan, WindowCenter=40, WindowWidth=400)
    write(folder / "more" / "IM0001", scan)
    volume = nibabel.Nifti1Image(np.stack([scan] * 3, -1).astype("f4"), np.eye(4))
    nibabel.save(volume, folder / "scan.nii.gz")
    (folder / "notes.txt").write_text("no picture")
    images = [{"id": row, "file_name": name} for row, name in enumerate(["a.jpg", "b.png"])]
    boxes = [
        {"image_id": row, "category_id": kind, "bbox": BOX} for row, kind in enumerate([RED, BLUE])
    ]
    content = {"images": images, "annotations": boxes}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def classifier(monkeypatch):
    preprocess = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3)
    made = models.Classifier(colour_network([]), preprocess, LABELS, (16, 16), "grid")
    monkeypatch.setattr(models, "load", lambda *given, **named: made)
    monkeypatch.setattr(common, "announcing", lambda *given: None)
    return made


def test_every_way_says_the_same(folder, classifier, capsys):
    found = study(classifier, folder, methods=["score-cam"], heatmaps=False)
    rows = found.evaluation().rows
    expected = {
        one.name: (
            one.targets[0].index,
            [list(map(float, box)) for box in one.boxes],
            {name: row[name] for name in ("energy", "pointing", "box-iou")},
        )
        for one, row in zip(found.records, rows, strict=True)
    }
    assert list(expected) == NAMES
    assert expected["a.jpg"][:2] == (RED, [BOX])
    assert expected["more/b.png"][:2] == (BLUE, [BOX])
    assert expected["a.jpg"][2]["pointing"] == 1
    assert expected["ct.dcm"][2]["energy"] is None
    damaged = found.left_out[-1]
    assert damaged.what == "damaged.png"
    assert "cannot be read" in damaged.why
    assert ("notes.txt", "no picture") in [tuple(note) for note in found.remarks]

    def close(figures, wanted):
        assert figures == {
            name: value if value is None else pytest.approx(value, abs=1e-6)
            for name, value in wanted.items()
        }

    quiet = ["--json", "--quiet"]
    assert scorecam("explain", folder, "-o", "out", *quiet) == 1
    document = json.loads(capsys.readouterr().out)
    done = [one for one in document["photos"] if "error" not in one]
    assert [one["photo"] for one in done] == NAMES
    for one in done:
        target, boxes, figures = expected[one["photo"]]
        assert one["targets"][0]["index"] == target
        assert one["boxes"] == boxes
        close(one["metrics"]["score-cam"], figures)
    (failed,) = [one for one in document["photos"] if "error" in one]
    assert failed == {"photo": "damaged.png", "error": damaged.why}

    assert scorecam("report", folder, *quiet) == 1
    document = json.loads(capsys.readouterr().out)
    assert [one["photo"] for one in document["photos"]] == NAMES
    for one in document["photos"]:
        target, boxes, figures = expected[one["photo"]]
        assert one["targets"][0]["name"] == LABELS[target]
        assert one["boxes"] == boxes
        close(one["metrics"]["score-cam"], figures)
    assert document["left_out"] == [note._asdict() for note in found.left_out]
    assert document["remarks"] == [note._asdict() for note in found.remarks]

    asked = ["--methods", "score-cam", "--metrics", "energy,pointing,box-iou", "-o", "table"]
    assert scorecam("evaluate", folder, *asked, *quiet) == 1
    document = json.loads(capsys.readouterr().out)
    assert [row["image"] for row in document["rows"]] == NAMES
    for row in document["rows"]:
        target, _, figures = expected[row["image"]]
        assert row["target"] == target
        close({name: row[name] for name in figures}, figures)
    assert document["left_out"] == [note._asdict() for note in found.left_out]
    index, articles = parts(folder.parent / "table" / "report.html")
    assert [one["name"] for one in index["photographs"]] == NAMES
    assert [one["boxes"] for one in articles] == [boxes for _, boxes, _ in expected.values()]
