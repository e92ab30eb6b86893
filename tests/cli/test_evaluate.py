import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.cli import evaluate
from scorecam_jax.study.pipeline import _Run
from tests.cli.toy import BLUE, scorecam

pytestmark = pytest.mark.usefixtures("traces")

QUICK = ["--methods", "score-cam,uniform", "--metrics", "energy,average-drop"]


@pytest.fixture
def folder(here):
    """Three black photographs with a blue square each, and where it is."""
    folder = here / "photos"
    folder.mkdir()
    images, annotations = [], []
    for number in range(3):
        pixels = np.zeros((32, 32, 3), np.uint8)
        x = 8 * number
        pixels[8:16, x : x + 8, 2] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32})
        box = {"image_id": number, "category_id": BLUE, "bbox": [x, 8, 8, 8]}
        annotations.append({"id": number, **box})
    content = {"images": images, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_prints_the_table_and_writes_the_figures(folder, here, capsys):
    assert scorecam("evaluate", folder, *QUICK) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert re.search("energy ↑ +average-drop ↓", printed.out)
    found = {
        name: float(mean)
        for name, mean in re.findall(r"^(score-cam|uniform) +([\d.]+) \[", printed.out, re.M)
    }
    assert found["uniform"] == pytest.approx(64 / 1024, abs=1e-3)
    assert found["score-cam"] > 2 * found["uniform"]
    written = here / "photos-scorecam"
    with (written / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["method"]) for row in rows] == [
        (f"{number}.png", name) for number in range(3) for name in ("score-cam", "uniform")
    ]
    assert {row["target"] for row in rows} == {str(BLUE)}


def test_json_is_the_only_output(folder, here, capsys):
    assert scorecam("evaluate", folder, *QUICK, "--json", "-o", "out") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((here / "out" / "results.json").read_text())
    assert [row["method"] for row in document["table"]] == ["score-cam", "uniform"]


def test_what_is_left_out_is_told_and_counted(folder, capsys):
    (folder / "broken.png").write_text("no picture")
    Image.new("RGB", (9, 9)).save(folder / "bare.png")
    assert scorecam("evaluate", folder, *QUICK) == 1
    printed = capsys.readouterr()
    assert "scorecam: broken.png: cannot be read" in printed.err
    assert "scorecam: bare.png: has no boxes" in printed.err
    assert re.search("^images +3 +4", printed.out, re.M)


def test_long_lists_of_what_is_left_out_are_cut_short(folder, capsys):
    for number in range(evaluate._MOST_NOTES + 3):
        (folder / f"broken{number}.png").write_text("no picture")
    assert scorecam("evaluate", folder, "--methods", "uniform", "--metrics", "energy") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == evaluate._MOST_NOTES + 2
    counts = [int(re.search(r"\d+", line)[0]) for line in lines[-2:]]
    assert sum(counts[:1]) + evaluate._MOST_NOTES == counts[1]


def test_an_interrupted_run_carries_on(folder, here, monkeypatch, capsys):
    measure, seen = _Run._result, []

    def interrupted(run, method, one, *rest):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append((one.item.name, method))
        return measure(run, method, one, *rest)

    monkeypatch.setattr(_Run, "_result", interrupted)
    assert scorecam("evaluate", folder, *QUICK, "-o", "out") == 130
    assert "kept in out/" in capsys.readouterr().err
    done = list(seen)
    seen[:] = [()] * 4
    assert scorecam("evaluate", folder, *QUICK, "-o", "out") == 0
    assert len(done) == 3
    assert not set(done) & set(seen)
    assert len(seen) == 4 + 3


def test_other_settings_are_not_mixed_in(folder, monkeypatch, capsys):
    assert scorecam("evaluate", folder, *QUICK) == 0
    load = models.load
    changed = lambda *asked, **named: load(*asked, **named)._replace(layer="another")  # noqa: E731
    monkeypatch.setattr(models, "load", changed)
    assert scorecam("evaluate", folder, *QUICK) == 2
    assert "layer was 'grid' and is 'another'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["empty"], "no photographs in"),
        (["bare", "--metrics", "energy"], "energy cannot be measured without boxes"),
        (["bare", "--target", "annotated"], "with --boxes"),
        (["bare", "--boxes", "gone.json"], "gone.json"),
        (["photos", "-o", "photos"], "holds other files than results"),
        (["photos", "-o", "file"], "file is a file"),
    ],
)
def test_questions_at_fault_are_refused(folder, here, capsys, arguments, message):
    (here / "empty").mkdir()
    (here / "bare").mkdir()
    (here / "file").touch()
    Image.new("RGB", (9, 9)).save(here / "bare" / "a.png")
    before = sorted(here.rglob("*"))
    assert scorecam("evaluate", *arguments) == 2
    assert message in capsys.readouterr().err
    assert sorted(here.rglob("*")) == before


def test_annotated_classes_are_explained_on_request(folder, here):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry["category_id"] = 6
    moved = here / "boxes.json"
    moved.write_text(json.dumps(content))
    path.unlink()
    options = ["--boxes", moved, "--target", "annotated", "-o", "out", *QUICK]
    assert scorecam("evaluate", folder, *options) == 0
    rows = json.loads((here / "out" / "results.json").read_text())["rows"]
    assert {row["target"] for row in rows} == {6}


def test_options_reach_the_methods_and_belong_to_the_settings(folder, here, capsys):
    for path in folder.glob("*.png"):  # a second channel, which varies less
        pixels = np.array(Image.open(path))
        pixels[24:, :, 0] = 200
        Image.fromarray(pixels).save(path)
    some = ["--methods", "score-cam,uniform", "--metrics", "energy", "-o"]
    assert scorecam("evaluate", folder, *some, "all") == 0
    assert scorecam("evaluate", folder, *some, "few", "--channels", 1, "--batch-size", 1) == 0
    with (here / "all" / "rows.csv").open() as one, (here / "few" / "rows.csv").open() as other:
        whole, few = (list(csv.DictReader(file)) for file in (one, other))
    assert [row["energy"] for row in whole[1::2]] == [row["energy"] for row in few[1::2]]
    assert [row["energy"] for row in whole[::2]] != [row["energy"] for row in few[::2]]
    assert scorecam("evaluate", folder, *some, "few", "--channels", 1, "--batch-size", 2) == 0
    capsys.readouterr()
    assert scorecam("evaluate", folder, *some, "few", "--channels", 2) == 2
    assert "channels was 1 and is 2" in capsys.readouterr().err


def test_damaged_figures_are_named_and_measured_again(folder, here, capsys):
    assert scorecam("evaluate", folder, *QUICK, "-o", "out") == 0
    path = here / "out" / "rows.jsonl"
    lines = path.read_text().splitlines()
    lines[2] = "{}"
    path.write_text("\n".join(lines) + "\n")
    capsys.readouterr()
    assert scorecam("evaluate", folder, *QUICK, "-o", "out") == 0
    message = capsys.readouterr().err
    assert "out/rows.jsonl, line 3: damaged; the line is now in rows.damaged.jsonl" in message
    assert "measured again" in message
    assert (here / "out" / "rows.damaged.jsonl").read_text() == "{}\n"


def test_a_narrow_output_gets_the_whole_table(folder, monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", output)
    assert scorecam("evaluate", folder, "--methods", "uniform", "--metrics", "energy") == 0
    assert b"energy ^" in output.buffer.getvalue()


def test_all_methods_are_those_that_the_network_can_take(folder, capsys, monkeypatch):
    monkeypatch.setattr(evaluate.options, "METHODS", ("grad-cam", "legrad", "uniform"))
    monkeypatch.setattr(evaluate.options, "PRESETS", ())
    assert scorecam("evaluate", folder, "--methods", "all", "--metrics", "energy") == 0
    printed = capsys.readouterr()
    assert re.findall(r"^([a-z-]+) +[\d.]+ \[", printed.out, re.M) == ["grad-cam", "uniform"]
    assert "legrad: cannot be asked of this network: legrad needs" in printed.err
    assert scorecam("evaluate", folder, "--methods", "grad-cam,legrad", "-o", "two") == 2
