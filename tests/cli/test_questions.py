"""What is asked, how it is drawn, and how an image file is read."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models, score_cam, scores, variants
from scorecam_jax.cli import common
from scorecam_jax.study import cost
from scorecam_jax.study.programs import Programs
from tests.cli.toy import BLUE, RED, colour_network, panels, read, scorecam
from tests.reading.test_dicom import write

PREPROCESS = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3, fit="crop")
MODEL = colour_network([])

pytestmark = pytest.mark.usefixtures("traces")


def asked(path, targets=RED, **options):
    """What the library itself answers, at the photograph's size."""
    picture = read(path)
    inputs = jnp.asarray(PREPROCESS(picture))[None]
    targets = jnp.atleast_2d(jnp.asarray(targets))
    found = score_cam(MODEL, inputs, targets, **options)
    maps = np.stack([PREPROCESS.restore(one, picture.size) for one in found.heatmap[0]])
    return maps, np.asarray(found.peak[0])


def saved(path, *options):
    arguments = ["--save-map", "map.npy", "--force", "--json"]
    assert scorecam("explain", path, *options, *arguments) == 0
    return np.load("map.npy")


def test_rather_than_explains_the_difference(photo, capsys):
    found = saved(photo, "--target", RED, "--rather-than", "blue jay")
    expected, _ = asked(photo, score=scores.contrast(BLUE))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    plain, _ = asked(photo)
    assert np.abs(plain - expected).max() > 0.05
    document = json.loads(capsys.readouterr().out)
    assert document["rather-than"] == "blue jay"
    assert scorecam("explain", photo, "--target", RED, "--rather-than", "red panda", "--force") == 2
    assert "nothing tells a class from itself" in capsys.readouterr().err


def test_signed_maps_tell_what_speaks_against(photo):
    found = saved(photo, "--target", BLUE, "--signed")
    expected, _ = asked(photo, BLUE, variant=variants.SIGNED)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    squares = np.s_[8:16, 8:16], np.s_[16:24, 32:36]
    assert found[0][squares[0]].max() < -0.1
    assert found[0][squares[1]].min() > 0.1
    _, panel = panels("photo-scorecam.png", 2)
    red, blue = (panel[square].mean((0, 1)) for square in squares)
    # Orange speaks for the class, blue against it.
    assert blue[0] - blue[2] > 20
    assert red[2] - red[0] > 20


def test_a_shared_scale_keeps_the_ratio_of_the_peaks(photo, capsys):
    options = ["--target", RED, "--target", BLUE]
    own = saved(photo, *options)
    (record,) = json.loads(capsys.readouterr().out)["photos"]
    shared = saved(photo, *options, "--scale", "shared")
    expected, peaks = asked(photo, [RED, BLUE])
    np.testing.assert_allclose(own, expected, atol=1e-5)
    relative = peaks / peaks.max()
    assert relative.min() < 0.9
    np.testing.assert_allclose(shared, expected * relative[:, None, None], atol=1e-5)
    told = [target["peaks"][0] for target in record["targets"]]
    np.testing.assert_allclose(told, relative, rtol=1e-5)


def test_a_shared_scale_reaches_over_photographs(photo, here):
    pixels = np.asarray(read(photo)) // 2
    Image.fromarray(pixels).save("dim.png")
    arguments = ["--target", RED, "--scale", "shared", "--save-map", "maps/", "--json"]
    assert scorecam("explain", photo, "dim.png", *arguments) == 0
    peaks = [asked(path)[1][0] for path in (photo, "dim.png")]
    for name, peak in zip(("photo", "dim"), peaks, strict=True):
        found = np.load(f"maps/{name}-scorecam.npy")
        np.testing.assert_allclose(found.max(), peak / max(peaks), rtol=1e-4)


def test_a_window_names_black_and_white(here, capsys):
    deep = np.zeros((32, 48), np.uint16)
    deep[8:16, 8:16] = 3000
    deep[16:24, 32:36] = 1500
    Image.fromarray(deep).save("deep.png")
    found = saved("deep.png", "--window", "1000,2000")
    (record,) = json.loads(capsys.readouterr().out)["photos"]
    assert record["notes"] == ["black is 1000, white is 2000"]
    grey = np.rint(255 * np.clip((deep.astype(float) - 1000) / 1000, 0, 1)).astype(np.uint8)
    Image.fromarray(grey).convert("RGB").save("grey.png")
    np.testing.assert_array_equal(found, saved("grey.png"))
    capsys.readouterr()
    whole = saved("deep.png")
    (record,) = json.loads(capsys.readouterr().out)["photos"]
    assert record["notes"] == ["black is 0, white is 4095; change with --window LOW,HIGH"]
    assert np.abs(whole - found).max() > 1e-3
    with pytest.raises(SystemExit):
        scorecam("explain", "deep.png", "--window", "5,1")
    assert "'5,1' is not LOW,HIGH" in capsys.readouterr().err


def test_pages_are_explained_by_number_or_all(photo, capsys):
    first = read(photo)
    second = first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    first.save("two.tif", save_all=True, append_images=[second])
    second.save("second.png")
    found = saved("two.tif", "--target", RED, "--page", 2)
    (record,) = json.loads(capsys.readouterr().out)["photos"]
    assert record["notes"] == ["page 2 of 2 (--page N, --page all)"]
    np.testing.assert_array_equal(found, saved("second.png", "--target", RED))
    arguments = ["--target", RED, "--page", "all", "--save-map", "maps/", "-o", "out/"]
    assert scorecam("explain", "two.tif", photo, *arguments) == 0
    out = capsys.readouterr().out
    assert "two.tif, page 1\n" in out
    np.testing.assert_array_equal(np.load("maps/two-page2-scorecam.npy"), found)
    np.testing.assert_array_equal(
        np.load("maps/two-page1-scorecam.npy"), np.load("maps/photo-scorecam.npy")
    )
    assert scorecam("explain", "two.tif", "--page", 3) == 1
    assert "has 2 pages, and no page 3" in capsys.readouterr().err
    assert scorecam("explain", "two.tif", "--page", "all", "-o", "one.png") == 2
    assert "is one file for 2 photographs" in capsys.readouterr().err


def test_a_dicom_file_is_shown_through_its_window(here, capsys):
    pytest.importorskip("pydicom")
    values = np.zeros((32, 48), np.int16)
    values[8:16, 8:16] = 300
    path = write(here / "ct.dcm", values, WindowCenter=40, WindowWidth=400)
    found = saved(path)
    (record,) = json.loads(capsys.readouterr().out)["photos"]
    assert record["notes"] == ["black is -160, white is 239; change with --window LOW,HIGH"]
    grey = np.rint(255 * np.clip((values + 160) / 399, 0, 1)).astype(np.uint8)
    Image.fromarray(grey).convert("RGB").save("grey.png")
    np.testing.assert_array_equal(found, saved("grey.png"))


@jax.tree_util.Partial
def wide_network(x):
    """160 channels, all live but for the first ninety."""
    gains = jnp.where(jnp.arange(160) < 90, 0.0, 1.0)
    return x.mean((1, 2)), x[..., :1] * gains[None, None, None]


def test_a_long_wait_is_told_with_what_to_write(photo, monkeypatch, capsys):
    assert scorecam("explain", photo, "--force") == 0
    assert "--channels 64" not in capsys.readouterr().err
    inputs = jnp.asarray(PREPROCESS(read(photo)))[None]
    wide = models.Classifier(wide_network, PREPROCESS, ("a", "b", "c"), (16, 16), "grid")
    live = int(Programs({}).predict(wide.model, inputs).live.sum())
    known = {"live": live, "seconds": 0.1, "targets": 1, "photographs": 1}
    assert cost.advice({"score-cam": score_cam}, **known) is None
    monkeypatch.setattr(cost, "PATIENCE", 0.0)
    assert "takes 70 passes" in cost.advice({"score-cam": score_cam}, **known)

    def only_exact(methods, **known):
        return "it takes long" if list(methods.values()) == [score_cam] else None

    monkeypatch.setattr(common, "advice", only_exact)
    assert scorecam("explain", photo, "--force") == 0
    assert capsys.readouterr().err == "scorecam: it takes long\n"
    for less in (["--channels", 2], ["--method", "grad-cam"], ["--quiet"]):
        assert scorecam("explain", photo, "-o", "few.png", "--force", *less) == 0
        assert capsys.readouterr().err == ""
