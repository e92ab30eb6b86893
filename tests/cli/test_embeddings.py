"""Questions without classes: likeness to a photograph, and classes of a few examples."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from tests.cli.toy import read, scorecam

PREPROCESS = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3, fit="stretch")
COLOURS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200)}


def embedding(inputs, edit=lambda activations: activations):
    """How much there is of each colour, on a grid of 4 x 4."""
    activations = edit(inputs.reshape(-1, 4, 4, 4, 4, 3).mean((2, 4)))
    return activations.mean((1, 2)) + 0.01, activations


@pytest.fixture(autouse=True)
def network(monkeypatch):
    asked = []

    def load(name, weights=None, layer=None, dtype=None, embedding=False):
        asked.append(embedding)
        model = jax.tree_util.Partial(globals()["embedding"])
        return models.Classifier(model, PREPROCESS, (), (16, 16), "grid")

    monkeypatch.setattr(models, "load", load)
    return asked


def coloured(path, *squares):
    """Black, but for squares of one colour each: (x, y, colour)."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    for x, y, colour in squares:
        pixels[y : y + 8, x : x + 8] = COLOURS[colour]
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def pictures(here):
    """One with a red and a blue square, others of one colour alone."""
    both = coloured(here / "both.png", (0, 0, "red"), (40, 24, "blue"))
    return both, *(coloured(here / "plain" / f"{name}.png", (20, 8, name)) for name in COLOURS)


def where(path):
    """The row and column of the largest value of a saved map."""
    heatmap = np.load(path)[0]
    return np.unravel_index(heatmap.argmax(), heatmap.shape)


def test_both_photographs_are_explained_by_their_likeness(pictures, network, capsys):
    both, red, _, blue = pictures
    others = red.parent
    for one, (row, column) in ((red, (0, 0)), (blue, (31, 47))):
        options = ("--like", one, "--others", others, "--save-map", "maps/", "--force", "--json")
        assert scorecam("explain", both, *options, "-o", "out/") == 0
        found = json.loads(capsys.readouterr().out)["photos"]
        assert [document["photo"] for document in found] == [str(both), str(one)]
        (target,) = found[0]["targets"]
        assert target["name"] == f"like {one.stem}"
        places = [where(f"maps/{path.stem}-scorecam.npy") for path in (both, one)]
        assert np.abs(np.subtract(places, [(row, column), (12, 24)])).max() < 12, places
        assert {name.name for name in both.parent.glob("out/*")} >= {
            f"{path.stem}-scorecam.png" for path in (both, one)
        }
    assert all(network)


def test_a_likeness_is_told_as_the_share_among_the_others(pictures, capsys):
    both, red, *_ = pictures
    scorecam("explain", both, "--like", red, "--others", red.parent, "--json", "-o", "a.png")
    found = json.loads(capsys.readouterr().out)["photos"][0]
    inputs = np.stack([PREPROCESS(read(path)) for path in (both, *pictures[1:])])
    rows = inputs.mean((1, 2)) + 0.01
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    logits = rows[1:] @ rows[0] / 0.05
    shares = np.exp(logits) / np.exp(logits).sum()
    assert found["targets"][0]["probability"] == pytest.approx(shares[0], rel=1e-4)


def folder(here, count=3):
    for name in COLOURS:
        for number in range(count):
            path = here / "classes" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            coloured(path, (8 * number, 8, name))
    return here / "classes"


def test_classes_of_a_few_examples_are_explained_and_kept(pictures, here, capsys):
    both = pictures[0]
    (folder(here) / "red" / "broken.png").write_bytes(b"no picture")
    options = ("--target", "blue", "--save-map", "map.npy", "--force")
    assert (
        scorecam("explain", both, "--classes", "classes", *options, "--save-classes", "c.npz") == 0
    )
    told = capsys.readouterr()
    assert "3 classes of 9 photographs, of which 100% are recognised" in told.err
    assert "broken.png" in told.err
    row, column = where("map.npy")
    assert min(row - 16, column - 28) > 0
    before = np.load("map.npy")
    assert scorecam("explain", both, "--classes", "c.npz", *options) == 0
    np.testing.assert_array_equal(np.load("map.npy"), before)
    assert (
        scorecam("explain", both, "--classes", "classes", "-o", "b.png", "--save-classes", "c.npz")
        == 2
    )
    assert "c.npz" in capsys.readouterr().err


def test_evaluate_takes_them_and_results_depend_on_them(pictures, here, capsys):
    classes, methods = folder(here, 2), ("--methods", "grad-cam", "-o", "found")
    assert scorecam("evaluate", classes, "--classes", classes, "--target", "folder", *methods) == 0
    coloured(classes / "red" / "0.png", (40, 24, "red"))
    assert scorecam("evaluate", classes, "--classes", classes, "--target", "folder", *methods) == 2
    assert "question" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "its outputs are an embedding. Ask what makes a photograph like another"),
        (("--like", "plain/red.png", "--classes", "plain"), "give one of the two"),
        (("--others", "plain"), "give it too"),
        (("--save-classes", "c.npz"), "give them too"),
        (("--classes", "plain"), "holds no folders"),
        (("--classes", "plain/red.png"), "holds no saved classes"),
        (("--classes", "none"), "none"),
        (("--like", "none.png"), "none.png: no such file"),
        (("--like", "plain"), "plain is a folder"),
        (("--like", "plain/red.png", "--others", "empty"), "no other photograph"),
    ],
)
def test_what_cannot_be_asked_is_refused(pictures, here, capsys, options, told):
    (here / "empty").mkdir()
    assert scorecam("explain", pictures[0], "--model", "mine", *options) == 2
    assert told in capsys.readouterr().err
