import re
from pathlib import Path

import pytest

from scorecam_jax.cli import common
from tests.cli.toy import LABELS, scorecam

ANIMALS = Path(__file__).parents[1] / "data" / "animals"


@pytest.mark.parametrize(
    ("out", "written"),
    [
        ("why.png", "why.png"),
        ("new/deep/why.jpg", "new/deep/why.jpg"),
        ("maps/", "maps/photo-scorecam.png"),
        ("maps", "maps/photo-scorecam.png"),
        ("maps.old/", "maps.old/photo-scorecam.png"),
        ("there.is", "there.is/photo-scorecam.png"),
        (".", "photo-scorecam.png"),
    ],
)
def test_output_goes_where_it_is_wanted(here, out, written):
    (here / "there.is").mkdir()
    assert common.output_paths([Path("some/photo.jpg")], out, "-scorecam.png") == [Path(written)]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("blue jay", 2),
        ("BLUE Jay", 2),
        ("jay", 2),
        ("lizard", 1),
        ("izar", 1),
        ("lacerta", 1),
        ("tiger", 6),
        ("tiger cat", 7),
        ("panda", 3),
        ("cat", 7),
        ("catam", 8),
        (" giant panda ", 3),
        ("Panthera tigris", 6),
        ("tiger, Panthera tigris", 6),
        ("0", 0),
        ("8", 8),
    ],
)
def test_classes_are_found_by_index_name_or_part(name, index):
    assert common.find_class(name, LABELS) == index


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("crane", ["4", "5"]),
        ("tig", ["6", "7"]),
        ("gren lizard", ["1"]),
        ("tigre", ["6"]),
    ],
)
def test_ambiguous_and_unknown_classes_list_candidates(name, candidates):
    with pytest.raises(common.UserError, match=re.escape(repr(name))) as error:
        common.find_class(name, LABELS)
    assert re.findall(r"^ +(\d+)  ", str(error.value), re.M) == candidates


@pytest.mark.parametrize("name", ["9", "-1", "1000"])
def test_indices_out_of_range_name_the_range(name):
    with pytest.raises(common.UserError, match=f"class {name} .* 0 to 8"):
        common.find_class(name, LABELS)


@pytest.mark.parametrize("name", ["", " ", "zzz"])
def test_hopeless_names_get_advice(name):
    with pytest.raises(common.UserError, match="index from 0 to 8"):
        common.find_class(name, LABELS)


def test_many_candidates_are_cut_short():
    with pytest.raises(common.UserError, match="and 28 more"):
        common.find_class("dog", [f"dog {index}" for index in range(40)])


def test_unknown_layers_and_models_list_the_known(here, capsys):
    photo = ANIMALS / "jaguar.jpg"
    assert scorecam("explain", photo, "--layer", "haed") == 2
    message = capsys.readouterr().err
    assert "'head'" in message
    assert message.endswith("`scorecam layers` shows them all.\n")
    assert scorecam("explain", photo, "--model", "resnet") == 2
    assert "efficientnet_lite0" in capsys.readouterr().err


def test_missing_weights_are_asked_for_by_their_option(here, capsys):
    assert scorecam("explain", ANIMALS / "jaguar.jpg", "--model", "resnet18") == 2
    message = capsys.readouterr().err
    assert "pass a file, --weights resnet18.pth. " in message
    assert "load(" not in message


def test_a_layer_without_a_grid_is_refused_in_terminal_words(here, capsys):
    assert scorecam("explain", ANIMALS / "jaguar.jpg", "--layer", "classifier") == 2
    message = capsys.readouterr().err
    assert "before the spatial axes are pooled away" in message
    assert "grid=" not in message
