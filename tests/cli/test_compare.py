import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import Deviation, eigen_cam, grad_cam, models, score_cam
from scorecam_jax.cli import main as cli
from scorecam_jax.methods import METHODS, variants
from tests.cli.toy import BLUE, LABELS, RED, panels, read, scorecam

pytestmark = pytest.mark.usefixtures("traces")


def own_maps(photo, method, targets):
    """Heatmaps of the photograph, without the command line."""
    classifier = models.load("")
    inputs = classifier.preprocess(read(photo))[None]
    heatmap = method(classifier.model, inputs, np.array([targets])).heatmap[0]
    return inputs, np.asarray(heatmap), classifier.preprocess.restore(heatmap, (48, 32))


def test_methods_and_variants_stand_in_columns_and_targets_in_rows(photo, here, capsys):
    options = ["--methods", "grad-cam,eigen-cam", "--variants", "official,paper"]
    options += ["--target", RED, "--target", "blue", "--save-map", "maps.npy", "--json"]
    assert scorecam("compare", photo, *options) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["methods"] == ["official", "paper", "grad-cam", "eigen-cam"]
    assert document["layer"] == "grid"
    saved = np.load("maps.npy")
    assert saved.shape == (4, 2, 32, 48)
    by_hand = [
        score_cam,
        lambda *asked: score_cam(*asked, variant=variants.PAPER),
        grad_cam,
        eigen_cam,
    ]
    raw = []
    for maps, method in zip(saved, by_hand, strict=True):
        _, before, restored = own_maps(photo, method, [RED, BLUE])
        np.testing.assert_allclose(maps, restored, atol=1e-5)
        raw.append(before)
    (record,) = document["photos"]
    for row, target in enumerate(record["targets"]):
        assert target["index"] == (RED, BLUE)[row]
        assert [one["method"] for one in target["maps"]] == document["methods"]
        for heatmaps, one in zip(raw, target["maps"], strict=True):
            expected = np.corrcoef(heatmaps[row].ravel(), raw[0][row].ravel())[0, 1]
            assert one["correlation"] == pytest.approx(expected, abs=1e-4)


def test_sheet_has_a_row_for_each_target(photo, here):
    assert scorecam("compare", photo, "--methods", "score-cam,uniform", "--top", 1) == 0
    one = read("photo-compared.png")
    options = ["--methods", "score-cam,uniform", "--top", 2, "--force"]
    assert scorecam("compare", photo, *options) == 0
    two = read("photo-compared.png")
    assert two.width == one.width
    assert one.height < two.height < 2 * one.height  # the methods' names once


def test_the_photograph_is_drawn_once_and_likeness_told_below(photo, here):
    pixels = np.array(read(photo))
    pixels[..., 1] = 255  # of a colour that no heatmap on grey has
    Image.fromarray(pixels).save("green.png")
    options = ["--methods", "score-cam,grad-cam", "--top", 3, "--no-fade", "--alpha", 0]
    assert scorecam("compare", "green.png", *options) == 0
    page = np.asarray(read("green-compared.png"))
    green = (page == (0, 255, 0)).all(-1)
    whole = (np.asarray(read("green.png")) == (0, 255, 0)).all(-1).sum()
    seen = (np.asarray(read("green.png"))[:, 9:39] == (0, 255, 0)).all(-1).sum()
    assert 25 * (whole + 6 * seen) <= green.sum() < 25 * (2 * whole + 6 * seen)


def test_a_single_target_heads_the_photograph(photo, here):
    assert scorecam("compare", photo, "--methods", "score-cam,uniform", "--alpha", "1") == 0
    plain, score, uniform = panels("photo-compared.png", 3)
    np.testing.assert_array_equal(plain, np.asarray(read(photo)))
    seen = np.s_[:, 8:40]
    assert np.ptp(uniform[seen].reshape(-1, 3), axis=0).max() == 0
    assert score[12, 12].sum() > 300 > score[28, 28].sum()


@pytest.mark.slow
def test_many_columns_are_wrapped(photo, here):
    assert scorecam("compare", photo, "--variants", "all") == 0
    assert read("photo-compared.png").width < 6 * 188


def test_usual_methods_are_those_of_the_paper(photo, capsys):
    assert scorecam("compare", photo) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^ +-?[\d.]+  (\S+)$", printed, re.M) == ["grad-cam", "grad-cam++"]
    assert f"{LABELS[RED]} ({RED})" in printed


def test_an_empty_map_is_told(photo, here, capsys):
    assert scorecam("compare", photo, "--target", "tiger", "--methods", "uniform,grad-cam") == 0
    assert re.search(r"^ +empty  grad-cam$", capsys.readouterr().out, re.M)


def test_a_preset_of_more_channels_than_there_are_is_exact(photo, here):
    for name in ("score-cam", "score-cam-64"):
        options = ["--methods", name, "--save-map", f"{name}.npy", "--force"]
        assert scorecam("compare", photo, *options) == 0
    exact, preset = (np.load(f"{name}.npy") for name in ("score-cam", "score-cam-64"))
    np.testing.assert_allclose(preset, exact, atol=1e-6)


def test_every_method_and_variant_can_be_asked_for():
    options = cli.parser().parse_args(["compare", "x", "--methods", "all", "--variants", "all"])
    assert options.methods == list(METHODS.of_any_network())
    assert options.variants == list(variants.BY_NAME)


def test_channels_are_score_cams_alone(photo, here, capsys):
    few = ["--channels", 1, "--choose", "deviation"]
    options = ["--methods", "score-cam,grad-cam", *few, "--save-map", "maps.npy"]
    assert scorecam("compare", photo, *options, "--target", "blue") == 0
    few, gradients = np.load("maps.npy")
    _, _, expected = own_maps(
        photo, lambda *asked: score_cam(*asked, channels=Deviation(1)), [BLUE]
    )
    np.testing.assert_allclose(few, expected, atol=1e-6)
    _, _, expected = own_maps(photo, jax.jit(grad_cam), [BLUE])
    np.testing.assert_allclose(gradients, expected, atol=1e-6)
