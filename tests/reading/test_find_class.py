import re

import pytest

from scorecam_jax.reading.labels import find_class
from tests.cli.toy import LABELS


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
    assert find_class(name, LABELS) == index


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("crane", ["4", "5"]),
        ("tig", ["6", "7"]),
        ("gren lizard", ["1"]),
        ("lizrad", ["1"]),
        ("tigre", ["6", "7"]),
    ],
)
def test_ambiguous_and_unknown_classes_list_candidates(name, candidates):
    with pytest.raises(ValueError, match=re.escape(repr(name))) as error:
        find_class(name, LABELS)
    assert re.findall(r"^ +(\d+)  ", str(error.value), re.M) == candidates


@pytest.mark.parametrize("name", ["9", "-1", "1000"])
def test_indices_out_of_range_name_the_range(name):
    with pytest.raises(ValueError, match=f"class {name} .* 0 to 8"):
        find_class(name, LABELS)


@pytest.mark.parametrize("name", ["", " ", "zzz"])
def test_hopeless_names_get_advice(name):
    with pytest.raises(ValueError, match="index from 0 to 8"):
        find_class(name, LABELS)


def test_many_candidates_are_cut_short():
    with pytest.raises(ValueError, match="and 28 more"):
        find_class("dog", [f"dog {index}" for index in range(40)])
