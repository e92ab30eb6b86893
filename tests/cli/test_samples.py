import json
import re

import pytest
from PIL import Image

from scorecam_jax import samples
from tests.cli.toy import scorecam


def test_every_photograph_has_boxes_inside_it_and_an_author():
    content = json.loads((samples.FOLDER / "annotations.json").read_text("utf-8"))
    sizes = {entry["file_name"]: (entry["width"], entry["height"]) for entry in content["images"]}
    table = (samples.FOLDER / "ATTRIBUTION.md").read_text("utf-8")
    credited = re.findall(
        r"^\| (\S+\.jpg) \| [^|]+ \| (?:CC0-1.0|Public Domain) \| http", table, re.M
    )
    assert len(samples.paths()) == 17
    assert sorted(credited) == sorted(sizes) == [path.name for path in samples.paths().values()]
    assert list(samples.annotations()) == list(samples.paths())
    for name, path in samples.paths().items():
        width, height = sizes[path.name]
        with Image.open(path) as image:
            assert image.size == (width, height)
        assert samples.annotations()[name].boxes
        for x, y, across, down in samples.annotations()[name].boxes:
            assert 0 <= x < x + across <= width
            assert 0 <= y < y + down <= height


def test_they_are_small_enough_for_a_package():
    assert sum(path.stat().st_size for path in samples.FOLDER.iterdir()) < 1.2e6


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"no sample 'cat'; choose one of bison, .*sheep"):
        samples.path("cat")


@pytest.mark.usefixtures("traces")
def test_the_command_line_finds_them_by_name(here):
    assert (
        scorecam("explain", "sample:jaguar", "sample:owl", "--model", "resnet18", "-o", here) == 0
    )
    assert {path.name for path in here.glob("*.png")} == {
        "jaguar-scorecam.png", "owl-scorecam.png",
    }  # fmt: skip


def test_the_command_line_refuses_names_that_it_does_not_know(capsys):
    with pytest.raises(SystemExit) as stop:
        scorecam("explain", "sample:cat")
    assert stop.value.code == 2
    assert "no sample 'cat'; choose one of bison" in capsys.readouterr().err
