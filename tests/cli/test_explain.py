import errno
import json
import os
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from scorecam_jax import models, samples, score_cam
from scorecam_jax.study import drawing, material
from scorecam_jax.study.programs import Programs
from scorecam_jax.visualize import colorize
from scorecam_jax.visualize.series import WIDTH, plot_area
from tests.cli.toy import BLUE, LABELS, RED, UNIX, panels, read, scorecam

ANIMALS = samples.FOLDER


@pytest.mark.usefixtures("traces")
class TestExplain:
    def test_prints_the_five_likeliest_and_writes_a_sheet(self, photo, capsys):
        assert scorecam("explain", photo) == 0
        seen = read(photo).resize((16, 16), Image.Resampling.BICUBIC, box=(8, 0, 40, 32))
        logits = [*(60 * (np.asarray(seen) / 255).mean((0, 1))), *range(-1, -7, -1)]
        expected = np.exp(logits) / np.exp(logits).sum()
        order = np.argsort(-expected)[:5]
        printed = capsys.readouterr()
        found = re.findall(r"([\d.]+)%  (.*) \((\d+)\)$", printed.out, re.M)
        assert [int(index) for _, _, index in found] == order.tolist()
        assert [name for _, name, _ in found] == [LABELS[index] for index in order]
        np.testing.assert_allclose(
            [float(p) for p, _, _ in found], 100 * expected[order], atol=0.06
        )
        assert printed.err == ""
        assert read("photo-scorecam.png").height > 32

    def test_sheet_shows_the_photograph_and_then_each_target(self, photo, here):
        assert scorecam("explain", photo, "--target", "blue jay", "--target", RED) == 0
        plain, blue, red = panels("photo-scorecam.png", 3)
        np.testing.assert_array_equal(plain, np.asarray(read(photo)))
        squares = np.s_[8:16, 8:16], np.s_[16:24, 32:36]
        in_blue, in_red = (
            [np.ptp(panel[square], axis=-1).mean() for square in squares] for panel in (blue, red)
        )
        assert in_red[0] > 2 * in_red[1]
        assert in_blue[1] > 2 * in_blue[0]

    def test_top_explains_the_likeliest(self, photo, capsys):
        assert scorecam("explain", photo, "--top", 2, "--json") == 0
        (record,) = json.loads(capsys.readouterr().out)["photos"]
        assert [target["index"] for target in record["targets"]] == [RED, BLUE]

    def test_a_class_both_named_and_likely_is_drawn_once(self, photo, capsys):
        arguments = ["--top", 2, "--target", "blue", "--target", BLUE, "--json"]
        assert scorecam("explain", photo, *arguments) == 0
        (record,) = json.loads(capsys.readouterr().out)["photos"]
        assert [target["index"] for target in record["targets"]] == [BLUE, RED]

    def test_map_lies_where_it_belongs_on_the_photograph(self, photo, here):
        assert scorecam("explain", photo, "--save-map", "map.npy") == 0
        heatmap = np.load(here / "map.npy")
        assert heatmap.shape == (1, 32, 48)
        assert heatmap.dtype == np.float32
        y, x = np.unravel_index(heatmap[0].argmax(), (32, 48))
        assert 8 <= x < 16
        assert 8 <= y < 16
        assert not heatmap[0, :, :8].any()
        assert not heatmap[0, :, 40:].any()

    def test_what_the_network_did_not_see_is_bleached(self, photo, here):
        assert scorecam("explain", photo, "--target", "blue") == 0
        plain, drawn = panels("photo-scorecam.png", 2)
        assert (plain[:, :7] == 0).all()
        assert (drawn[:, :7] > 100).all()
        assert (drawn[:, 41:] > 100).all()
        assert (drawn[24:, 8:24] < 20).all()

    def test_nothing_found_is_said(self, here, capsys):
        Image.new("RGB", (20, 20)).save("black.png")
        assert scorecam("explain", "black.png", "--target", "tiger") == 0
        assert "tiger: that heatmap is empty" in capsys.readouterr().out

    def test_colours_and_opacity_are_as_asked(self, photo, here):
        look = ["--colormap", "jet", "--alpha", "1", "--no-fade"]
        assert scorecam("explain", photo, *look) == 0
        drawn = panels("photo-scorecam.png", 2)[1]
        np.testing.assert_allclose(drawn[30, 20], (0, 0, 127.5), atol=1)

    def test_how_many_channels_were_scored_is_told(self, photo, here, capsys):
        assert scorecam("explain", photo, "--tolerance", "0.05", "--save-map", "some.npy") == 0
        told = capsys.readouterr().out
        assert (
            "score-cam scored 2 of 3 channels: standard deviation of the heatmap at most 0.00"
            in told
        )
        assert scorecam("explain", photo, "--save-map", "all.npy", "--force") == 0
        assert "scored" not in capsys.readouterr().out.replace(str(photo), "")
        np.testing.assert_allclose(np.load("some.npy"), np.load("all.npy"), atol=1e-6)

    @pytest.mark.slow
    @pytest.mark.parametrize("variant", ["paper", "pytorch-grad-cam"])
    def test_every_variant_runs(self, photo, variant):
        options = ["--variant", variant, "--channels", 2, "--batch-size", 1]
        assert scorecam("explain", photo, *options) == 0

    def test_json_is_the_only_output(self, photo, capsys):
        assert scorecam("explain", photo, "gone.png", "--json", "-o", "maps/") == 1
        printed = capsys.readouterr()
        document = json.loads(printed.out)
        layer, (done, failed) = document["layer"], document["photos"]
        assert done["photo"] == str(photo)
        assert layer == "grid"
        assert done["size"] == [48, 32]
        assert done["seen"] == [8, 0, 40, 32]
        assert done["outputs"] == ["maps/photo-scorecam.png"]
        assert done["map"] is None
        assert done["targets"][0]["name"] == LABELS[RED]
        assert 0 < done["targets"][0]["probability"] == done["top"][0]["probability"] < 1
        assert failed == {"photo": "gone.png", "error": "no such file"}
        assert "gone.png: no such file" in printed.err

    def test_bad_files_are_reported_and_the_others_done(self, photo, here, capsys):
        (here / "notes.jpg").write_text("not a picture")
        read(photo).resize((480, 320)).save("whole.jpg")
        (here / "cut.jpg").write_bytes((here / "whole.jpg").read_bytes()[:1500])
        (here / "folder").mkdir()
        files = ["gone.jpg", "notes.jpg", "cut.jpg", "folder", "whole.jpg", photo]
        assert scorecam("explain", *files, "-o", "maps") == 1
        printed = capsys.readouterr()
        assert re.findall(r"^scorecam: (\S+): ", printed.err, re.M) == [
            "gone.jpg", "notes.jpg", "folder", "cut.jpg"
        ]  # fmt: skip
        assert "truncated" in printed.err
        assert sorted(path.name for path in (here / "maps").iterdir()) == [
            "photo-scorecam.png",
            "whole-scorecam.png",
        ]

    def test_several_photographs_are_compiled_once(self, photo, here, traces):
        assert scorecam("explain", photo) == 0
        once = len(traces)
        del traces[:]
        for index in range(4):
            read(photo).resize((30 + index, 40)).save(f"{index}.png")
        assert scorecam("explain", *(f"{index}.png" for index in range(4))) == 0
        assert len(traces) == once > 0

    def test_nothing_is_overwritten_without_force(self, photo, here, capsys):
        assert scorecam("explain", photo, "--save-map", "map.npy") == 0
        (here / "photo-scorecam.png").write_text("precious")
        assert scorecam("explain", photo) == 1
        assert "photo-scorecam.png exists already; overwrite it with --force" in (
            capsys.readouterr().err
        )
        assert scorecam("explain", photo, "-o", "new.png", "--save-map", "map.npy") == 1
        assert "map.npy exists already" in capsys.readouterr().err
        assert not (here / "new.png").exists()
        assert (here / "photo-scorecam.png").read_text() == "precious"
        assert scorecam("explain", photo, "--save-map", "map.npy", "--force") == 0
        assert read("photo-scorecam.png").width > 2 * 48

    def test_the_photograph_itself_is_never_overwritten(self, photo, capsys):
        before = photo.read_bytes()
        assert scorecam("explain", photo, "-o", "photo.png", "--force") == 1
        assert "the photograph itself" in capsys.readouterr().err
        assert photo.read_bytes() == before

    @pytest.mark.parametrize("out", ["new/deep/why.JPG", "why.webp", "why.tif"])
    def test_pictures_are_written_as_their_suffix_says(self, photo, here, out):
        assert scorecam("explain", photo, "-o", out) == 0
        with Image.open(here / out) as page:
            assert page.format == Image.registered_extensions()[Path(out).suffix.lower()]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-o", "a.png"], "one file for 2 photographs; name a folder, such as a/"),
            (["-o", "a.xyz"], "one file for 2 photographs"),
            (["--save-map", "a.npy"], "one file for 2 photographs"),
        ],
    )
    def test_several_photographs_do_not_go_into_one_file(self, photo, capsys, arguments, message):
        assert scorecam("explain", photo, "other.png", *arguments) == 2
        assert message in capsys.readouterr().err

    def test_photographs_of_one_name_are_told_apart(self, photo, here):
        (here / "more").mkdir()
        read(photo).save("more/photo.jpg")
        read(photo).save("more/photo.png")
        assert scorecam("explain", "photo.png", "more/photo.jpg", "more", "-o", "out") == 0
        assert sorted(path.name for path in (here / "out").iterdir()) == [
            "more-photo-jpg-scorecam.png", "more-photo-png-scorecam.png", "photo-scorecam.png",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-o", "a.xyz"], "a.png, or .jpg"),
            (["--save-map", "a.npz"], "a.npy"),
            (
                ["--channels", "9", "--choose", "deviation"],
                "--channels 9, but the layer has 3: wanted 1 to 3\n",
            ),
            (["--channels", "2", "--tolerance", ".1"], "give one of the two"),
            (["--choose", "gradient"], "--choose gradient chooses among channels"),
            (["--top", "10"], "only 9 classes"),
            (["--target", "panda bear"], "no class is called 'panda bear'"),
        ],
    )
    def test_questions_at_fault_are_refused(self, photo, here, capsys, arguments, message):
        assert scorecam("explain", photo, *arguments) == 2
        assert message in capsys.readouterr().err
        assert [path.name for path in here.iterdir()] == ["photo.png"]

    def test_a_file_in_place_of_a_folder_is_reported(self, photo, capsys):
        assert scorecam("explain", photo, "-o", "photo.png/why.png") == 1
        assert "is a file, not a folder" in capsys.readouterr().err

    def test_model_errors_are_told_without_a_traceback(self, photo, capsys, monkeypatch):
        def load(*args, **kwargs):
            raise ImportError("pip install 'scorecam_jax[demo]'")

        monkeypatch.setattr(models, "load", load)
        assert scorecam("explain", photo) == 2
        assert capsys.readouterr().err == "scorecam: pip install 'scorecam_jax[demo]'\n"

    def test_interruption_has_its_own_status(self, photo, monkeypatch):
        def load(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(models, "load", load)
        assert scorecam("explain", photo) == 130


def rgba(path):
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        return np.asarray(image).astype(int)


def cells_of(photo, target):
    """The rectified sum on the toy's grid of 4 x 4, scaled as the heatmap is, with NumPy."""
    classifier = models.load("")
    found = score_cam(
        classifier.model, classifier.preprocess(read(photo))[None], np.array([target])
    )
    activations, weights = np.asarray(found.activations[0]), np.asarray(found.weights[0])
    sums = sum(weights[k] * activations[..., k] for k in range(3)).clip(0)
    enlarged = jax.image.resize(sums, (16, 16), "linear", antialias=False)
    return (sums / float(enlarged.max())).clip(0, 1)


@pytest.mark.usefixtures("traces")
class TestOnly:
    def test_each_class_gets_a_heatmap_of_the_photographs_size(self, photo, here, capsys):
        options = ["--only", "heatmap", "--top", 2, "--save-map", "maps.npy", "--json"]
        assert scorecam("explain", photo, *options) == 0
        names = ["photo-scorecam-red-panda.png", "photo-scorecam-blue-jay.png"]
        (record,) = json.loads(capsys.readouterr().out)["photos"]
        assert record["outputs"] == names
        assert sorted(path.name for path in here.glob("*.png")) == sorted(["photo.png", *names])
        for name, heatmap in zip(names, np.load("maps.npy"), strict=True):
            found = rgba(name)
            assert found.shape == (32, 48, 4)
            np.testing.assert_array_equal(found[..., :3], colorize(heatmap))
            np.testing.assert_allclose(found[..., 3], 255 * 0.7 * np.sqrt(heatmap), atol=0.51)
            assert not found[:, :8, 3].any()

    def test_the_heatmap_on_the_grey_photograph_is_the_overlay(self, photo, here):
        for only in ("heatmap", "overlay"):
            assert scorecam("explain", photo, "--only", only, "-o", f"{only}.png") == 0
        heatmap, seen = rgba("heatmap.png"), np.s_[:, 9:39]
        opacity = heatmap[..., 3:] / 255
        grey = np.asarray(read(photo).convert("L").convert("RGB"))
        wanted = opacity * heatmap[..., :3] + (1 - opacity) * grey
        drawn = np.asarray(read("overlay.png"))
        assert drawn.shape == (32, 48, 3)
        np.testing.assert_allclose(drawn[seen], wanted[seen], atol=1.1)

    def test_the_overlay_is_the_panel_of_the_sheet(self, photo, here):
        assert scorecam("explain", photo) == 0
        assert scorecam("explain", photo, "--only", "overlay") == 0
        drawn = np.asarray(read("photo-scorecam-red-panda.png"))
        np.testing.assert_array_equal(drawn, panels("photo-scorecam.png", 2)[1])

    def test_a_signed_heatmap_keeps_its_colours(self, photo, here):
        options = ["--signed", "--rather-than", "blue", "--target", "red", "--save-map", "map.npy"]
        assert scorecam("explain", photo, "--only", "heatmap", *options) == 0
        (heatmap,) = np.load("map.npy")
        found = rgba("photo-scorecam-red-panda.png")
        assert heatmap.min() < 0 < heatmap.max()
        hues = np.where(heatmap[..., None] < 0, (0, 105, 255), (255, 120, 0))
        np.testing.assert_array_equal(found[..., :3], hues)
        np.testing.assert_allclose(found[..., 3], 255 * 0.7 * np.sqrt(abs(heatmap)), atol=0.51)

    def test_classes_of_one_name_are_told_apart(self, photo, here):
        options = ["--target", 4, "--target", 5, "--method", "grad-cam", "-o", "out"]
        assert scorecam("explain", photo, "--only", "overlay", *options) == 0
        assert sorted(path.name for path in (here / "out").iterdir()) == [
            "photo-gradcam-crane-4.png",
            "photo-gradcam-crane-5.png",
        ]

    def test_nothing_is_overwritten_without_force(self, photo, here, capsys):
        (here / "photo-scorecam-blue-jay.png").write_text("precious")
        options = ["--only", "heatmap", "--top", 2]
        assert scorecam("explain", photo, *options) == 1
        assert "photo-scorecam-blue-jay.png exists already" in capsys.readouterr().err
        assert (here / "photo-scorecam-blue-jay.png").read_text() == "precious"
        assert not (here / "photo-scorecam-red-panda.png").exists()
        assert scorecam("explain", photo, *options, "--force") == 0
        assert rgba("photo-scorecam-blue-jay.png").shape == (32, 48, 4)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["heatmap", "--top", 3, "-o", "a.png"],
                "'a.png' is one file for the pictures of 3 classes; name a folder, such as a/",
            ),
            (["heatmap", "-o", "a.jpg"], "cannot be written as .jpg; name a.png, or .webp or .tif"),
            (["heatmap", "--no-fade"], "leave out --no-fade, or ask for --only overlay"),
        ],
    )
    def test_what_does_not_go_with_it_is_refused(self, photo, here, capsys, arguments, message):
        assert scorecam("explain", photo, "--only", *arguments) == 2
        assert message in capsys.readouterr().err
        assert [path.name for path in here.iterdir()] == ["photo.png"]


@pytest.mark.usefixtures("traces")
class TestWhatAPictureTells:
    def text_of(self, path):
        with Image.open(path) as picture:
            return picture.text

    def test_a_file_tells_its_class_network_layer_method_and_command(self, photo, here):
        options = ["--target", "red", "--rather-than", "blue", "--method", "grad-cam"]
        assert scorecam("explain", photo, *options, "-o", "a.png") == 0
        text = self.text_of("a.png")
        assert re.fullmatch(r"red panda [\d.]+% rather than blue jay", text["Title"])
        assert text["Network"] == "efficientnet_lite0"
        assert text["Layer"] == "grid"
        assert text["Method"] == "grad-cam"
        assert shlex.split(text["Command"])[:2] == ["scorecam", "explain"]

    def test_each_of_several_files_tells_its_own_class(self, photo, here):
        assert scorecam("explain", photo, "--only", "overlay", "--top", 2) == 0
        titles = [self.text_of(path)["Title"] for path in sorted(here.glob("photo-*.png"))]
        assert [title.split()[0] for title in titles] == ["blue", "red"]

    def test_a_picture_is_repeated(self, photo, here):
        options = ["--target", "blue jay", "--method", "grad-cam", "--colormap", "jet"]
        assert scorecam("explain", photo, *options, "-o", "a.png") == 0
        assert scorecam("explain", "--from", "a.png", "-o", "b.png") == 0
        np.testing.assert_array_equal(np.asarray(read("b.png")), np.asarray(read("a.png")))
        assert scorecam("explain", "--from", "a.png", "--target", "red", "-o", "c.png") == 0
        assert scorecam("explain", photo, *options[2:], "--target", "red", "-o", "d.png") == 0
        np.testing.assert_array_equal(np.asarray(read("c.png")), np.asarray(read("d.png")))

    def test_what_cannot_be_repeated_is_refused(self, photo, here, capsys):
        assert scorecam("explain", "--from", photo) == 2
        assert "photo.png does not tell what made it" in capsys.readouterr().err
        assert scorecam("explain") == 2
        assert "name a photograph" in capsys.readouterr().err
        (here / "text.png").write_text("no picture")
        assert scorecam("explain", "--from", "text.png") == 2
        assert "text.png cannot be read" in capsys.readouterr().err
        assert scorecam("compare", photo, "-o", "c.png") == 0
        assert scorecam("explain", "--from", "c.png") == 2
        assert "'scorecam compare'" in capsys.readouterr().err

    def test_a_function_that_a_picture_names_is_not_run(self, photo, here, capsys, traces):
        assert scorecam("explain", photo, "--model", "a:b", "-o", "a.png") == 0
        traces.clear()
        assert scorecam("explain", "--from", "a.png", "-o", "b.png") == 2
        assert "with --model a:b, which runs a function" in capsys.readouterr().err
        assert not traces
        assert scorecam("explain", "--from", "a.png", "-o", "b.png", "--model", "a:b") == 0

    def test_weights_that_a_picture_names_are_not_downloaded(self, here, capsys):
        text = PngImagePlugin.PngInfo()
        text.add_itxt("Command", "scorecam explain a.jpg --weights hf://somebody/something")
        Image.new("RGB", (8, 8)).save("a.png", pnginfo=text)
        assert scorecam("explain", "--from", "a.png") == 2
        assert "which downloads them: name it again with --weights" in capsys.readouterr().err

    def test_a_contrast_is_told(self, photo, here, capsys):
        assert scorecam("explain", photo, "--target", "red", "--rather-than", "blue") == 0
        assert "explained: why * rather than blue jay" in capsys.readouterr().out
        assert scorecam("explain", photo, "--rather-than", "blue", "--json", "--force") == 0
        (record,) = json.loads(capsys.readouterr().out)["photos"]
        assert record["targets"][0]["rather_than"] == "blue jay"

    @pytest.mark.parametrize(
        ("options", "colour"),
        [
            (["--colorbar", "--colormap", "jet"], (128, 0, 0)),
            (["--scale", "shared", "--colormap", "jet"], (128, 0, 0)),
            (["--signed"], (0, 105, 255)),
        ],
    )
    def test_the_scale_is_drawn(self, photo, here, options, colour):
        assert scorecam("explain", photo, *options, "--alpha", 1, "-o", "with.png") == 0
        assert scorecam("explain", photo, "--colormap", "jet", "-o", "plain.png") == 0
        shown, plain = np.asarray(read("with.png")).astype(int), read("plain.png")
        assert shown.shape[0] > plain.height
        bar = shown[shown.shape[0] - 80 :]
        assert (np.abs(bar - colour).max(-1) <= 12).any()  # the bar's frame covers its ends

    def test_a_colour_bar_needs_a_sheet(self, photo, capsys):
        assert scorecam("explain", photo, "--only", "overlay", "--colorbar") == 2
        assert "--colorbar belongs to a sheet" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["npy", "nii.gz"])
def test_a_volume_is_drawn_in_three_planes_and_its_slices(here, monkeypatch, capsys, kind):
    volume = np.zeros((4, 8, 8), np.float32)
    volume[3, 4:, 4:] = 100.0
    path = here / f"scan.{kind}"
    if kind == "npy":
        np.save(path, volume)
    else:
        nibabel = pytest.importorskip("nibabel")
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([3.0, 1.0, 1.0, 1.0])), path)

    def network(x, edit=lambda a: a):
        halves = x.reshape(-1, 2, 2, 4, 2, 4, 2).mean((2, 4, 6))[..., None]
        activations = edit(np.float32([[[[[1, -1]]]]]) * halves + 1e-3)
        return activations.mean((1, 2, 3)), activations

    preprocess = models.VolumePreprocess((4, 8, 8), std=100.0)
    classifier = models.Classifier(network, preprocess, ("bright", "dark"), (4, 8, 8), "grid")
    monkeypatch.setattr(models, "load", lambda *args, **kwargs: classifier)
    assert scorecam("explain", path, "--method", "grad-cam", "--target", "bright") == 0
    page = read(here / "scan-gradcam.png")
    assert page.width > 3 * 180  # three planes beside one another
    assert page.height > 2 * 256  # above the slices
    with Image.open(here / "scan-gradcam.png") as picture:
        assert picture.text["Layer"] == "grid"


@pytest.fixture
def of_series(here, monkeypatch):
    """A network of series in the place of the real one, and a series of two channels."""

    def network(x, edit=lambda a: a):
        activations = edit(x.reshape(-1, 8, 4, 2).mean(2) + 1e-3)
        return activations.mean(1), activations

    preprocess = models.SeriesPreprocess(32, channels=2, rate=10)
    classifier = models.Classifier(network, preprocess, ("first", "second"), (32,), "grid")
    monkeypatch.setattr(models, "load", lambda *args, **kwargs: classifier)
    steps = np.arange(48)
    series = np.stack([(steps >= 24) * 1.0, (steps < 16) * 1.0], -1)
    rows = [
        f"{step / 10},{','.join(map(str, row))}" for step, row in zip(steps, series, strict=True)
    ]
    (here / "signal.csv").write_text("\n".join(["time,first lead,second lead", *rows]))
    return series


def test_a_series_is_drawn_as_lines(of_series, here, capsys):
    options = ["--method", "grad-cam", "--target", "first", "--save-map", "map.npy"]
    assert scorecam("explain", "signal.csv", *options) == 0
    page = np.asarray(read("signal-gradcam.png")).astype(int)
    assert page.shape[1] == WIDTH + 2 * 26
    saved = np.load("map.npy")
    assert saved.shape == (1, 48)
    assert saved[0, 26:38].min() > 0.9
    assert saved[0, :20].max() < 0.1
    assert not saved[0, :8].any()  # not seen
    hottest = (page == colorize(np.ones((1, 1)))[0, 0]).all(-1)
    where = (np.flatnonzero(hottest.any(0)) - 26 - plot_area(2)[0]) / (WIDTH - 80) * 48
    assert 24 < where.min() < where.max() < 41


def test_several_methods_and_classes_of_a_series_stand_below_one_another(of_series, here, capsys):
    options = ["--methods", "grad-cam,uniform", "--top", 2]
    assert scorecam("compare", "signal.csv", *options) == 0
    height = read("signal-compared.png").height
    panel = plot_area(2)[3]
    assert 5 * panel < height < 7.5 * panel
    assert scorecam("explain", "signal.csv", "--only", "overlay") == 1
    assert "this is a series: leave it out" in capsys.readouterr().err
    assert scorecam("report", "signal.csv", "--methods", "grad-cam") == 0
    assert "wrote report.html: 1 series" in capsys.readouterr().out


def test_pictures_and_series_are_told_from_one_another(of_series, photo, here, capsys):
    assert scorecam("explain", photo, "signal.csv", "--method", "uniform") == 1
    assert "photo.png: not a series; wanted .csv" in capsys.readouterr().err


@pytest.mark.usefixtures("traces")
class TestPixels:
    @pytest.mark.parametrize("target", [RED, BLUE])
    def test_shows_the_layers_cells(self, photo, here, target):
        options = ["--pixels", "--only", "heatmap", "--target", target, "--alpha", 1]
        assert scorecam("explain", photo, *options, "-o", "cells.png") == 0
        found = rgba("cells.png")[:, 8:40]
        cells = np.kron(cells_of(photo, target), np.ones((8, 8)))
        np.testing.assert_allclose(found[..., 3], 255 * np.sqrt(cells), atol=0.6)

    def test_a_sheet_shows_them_too_and_the_saved_map_stays_smooth(self, photo, here):
        assert scorecam("explain", photo, "--save-map", "smooth.npy") == 0
        options = ["--pixels", "--save-map", "map.npy", "--force"]
        assert scorecam("explain", photo, *options) == 0
        drawn = panels("photo-scorecam.png", 2)[1]
        grey = np.asarray(read(photo).convert("L"))
        black = drawn[:, 8:40][grey[:, 8:40] == 0].reshape(-1, 3)
        assert 1 < len(np.unique(black, axis=0)) <= 16
        np.testing.assert_array_equal(np.load("map.npy"), np.load("smooth.npy"))

    def test_compare_shows_them_for_each_method(self, photo, here):
        options = ["--methods", "score-cam,grad-cam", "--pixels"]
        assert scorecam("compare", photo, *options) == 0
        for drawn in panels("photo-compared.png", 3)[1:]:
            assert len(np.unique(drawn[24:, 8:40].reshape(-1, 3), axis=0)) <= 4

    def test_methods_without_cells_are_refused(self, photo, here, capsys):
        assert scorecam("compare", photo, "--methods", "score-cam,occlusion", "--pixels") == 2
        message = capsys.readouterr().err
        assert "--pixels: occlusion does not make its map by weighting the layer's maps" in message

    def test_variants_that_sum_masks_are_refused(self, photo, here, capsys):
        assert scorecam("explain", photo, "--variant", "tf-keras-vis", "--pixels") == 1
        message = capsys.readouterr().err
        assert "--pixels: score-cam: the heatmap" in message
        assert "has no cells of the layer; leave out --pixels" in message


def save_all_kinds(image, folder):
    """The same picture in every kind of file."""
    exif = Image.Exif()
    exif[0x0112] = 6  # as a camera held upright writes: to be turned clockwise when shown
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.save(folder / "turned.jpg", exif=exif, quality=100)
    image.convert("CMYK").save(folder / "cmyk.jpg", quality=100)
    image.quantize(8).save(folder / "palette.png")
    image.convert("RGBA").save(folder / "rgba.png")
    image.save(folder / "web.webp", lossless=True)
    image.save(folder / "moving.gif", save_all=True, append_images=[image.rotate(180)])
    image.save(folder / "a.b.bmp")
    grey = np.asarray(image.convert("RGB"))[..., 0]
    for mode in ("L", "LA", "1"):
        Image.fromarray(grey).convert(mode).save(folder / f"grey-{mode}.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "grey-16.png")


@pytest.mark.usefixtures("traces")
def test_photographs_of_every_kind_are_explained(photo, here):
    (here / "in").mkdir()
    image = read(photo)
    save_all_kinds(image, here / "in")
    files = sorted((here / "in").iterdir())
    assert len(files) == 11
    assert scorecam("explain", *files, "-o", "out", "--save-map", "out", "--target", "red") == 0
    square = np.s_[9:15, 9:15]
    for file in files:
        plain, _ = panels(f"out/{file.stem}-scorecam.png", 2)
        expected = np.asarray(image)[square]
        if "grey" in file.name:
            expected = np.repeat(expected[..., :1], 3, -1)
        np.testing.assert_allclose(plain[square], expected, atol=30, err_msg=file.name)
        (heatmap,) = np.load(f"out/{file.stem}-scorecam.npy")
        assert heatmap.shape == (32, 48)
        assert heatmap[square].mean() > 4 * heatmap.mean(), file.name


@pytest.mark.usefixtures("traces")
def test_photographs_of_every_size_are_explained(here):
    sizes = [(1, 1), (1, 300), (64, 64), (2000, 9)]
    for size in sizes:
        Image.effect_noise(size, 50).save(f"{size[0]}.png" if size != (1, 1) else "tiny.png")
    files = ["tiny.png", "1.png", "64.png", "2000.png"]
    assert scorecam("explain", *files, "--save-map", ".") == 0
    for size, file in zip(sizes, files, strict=True):
        heatmap = np.load(file.replace(".png", "-scorecam.npy"))
        assert heatmap.shape == (1, size[1], size[0])


def test_large_memory_gets_advice(photo, traces, capsys, monkeypatch):
    def run(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(Programs, "predict", run)
    assert scorecam("explain", photo) == 1
    assert re.search("out of memory\n.*--batch-size", capsys.readouterr().err)


@pytest.mark.slow
def test_both_jaguars_are_found_by_the_real_network(here, capsys):
    photo = ANIMALS / "jaguar.jpg"
    options = ["--channels", 64, "--save-map", "map.npy", "--json"]
    assert scorecam("explain", photo, *options) == 0
    (record,) = json.loads(capsys.readouterr().out)["photos"]
    assert record["top"][0]["index"] == 290
    (heatmap,) = np.load("map.npy")
    annotations = json.loads((ANIMALS / "annotations.json").read_text())
    (image_id,) = [i["id"] for i in annotations["images"] if i["file_name"] == "jaguar.jpg"]
    boxes = [a["bbox"] for a in annotations["annotations"] if a["image_id"] == image_id]
    assert len(boxes) == 2
    for x, y, width, height in np.round(boxes).astype(int):
        assert heatmap[y : y + height, x : x + width].mean() > 1.5 * heatmap.mean()
        assert heatmap[y : y + height, x : x + width].max() > 0.7


@pytest.mark.usefixtures("traces")
class TestEdges:
    def test_force_spares_the_other_photographs_of_the_call(self, photo, here, capsys):
        other = here / "photo-scorecam.png"
        read(photo).save(other)
        before = other.read_bytes()
        assert scorecam("explain", photo, other, "-o", ".", "--force") == 1
        assert "photo-scorecam.png is read by this call too" in capsys.readouterr().err
        assert other.read_bytes() == before
        assert (here / "photo-scorecam-scorecam.png").exists()

    def test_large_photographs_are_drawn_smaller_and_mapped_whole(
        self, photo, here, capsys, monkeypatch
    ):
        assert scorecam("explain", photo, "--save-map", "whole.npy") == 0
        monkeypatch.setattr(drawing, "MOST_PIXELS", 2 * 24 * 16)
        options = ["--save-map", "small.npy", "--force"]
        assert scorecam("explain", photo, *options) == 0
        assert "drawn at 24 x 16 instead of 48 x 32 pixels" in capsys.readouterr().out
        np.testing.assert_array_equal(np.load("small.npy"), np.load("whole.npy"))
        plain, drawn = panels("photo-scorecam.png", 2, (24, 16))
        assert plain[5, 5, 0] > 200 > drawn[14, 12].max()

    def test_photographs_of_too_many_pixels_are_refused_with_advice(
        self, photo, monkeypatch, capsys
    ):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
        assert scorecam("explain", photo) == 1
        assert "reduce it first: the network sees only" in capsys.readouterr().err

    @UNIX
    def test_pipes_are_refused_instead_of_waited_for(self, here, capsys):
        os.mkfifo(here / "pipe.png")
        assert scorecam("explain", "pipe.png") == 1
        assert "pipe.png: not a file, but a pipe" in capsys.readouterr().err

    def test_names_that_become_too_long_are_told_and_the_others_done(self, photo, here, capsys):
        long = here / ("y" * 251 + ".png")
        read(photo).save(long)
        assert scorecam("explain", long, photo, "-o", "out/") == 1
        assert "File name too long" in capsys.readouterr().err
        assert [path.name for path in (here / "out").iterdir()] == ["photo-scorecam.png"]

    def test_numbers_of_any_length_are_refused(self, photo, capsys):
        assert scorecam("explain", photo, "--target", "9" * 5000) == 2
        message = capsys.readouterr().err
        assert "does not exist; the model knows 0 to 8" in message
        assert len(message) < 200

    def test_memory_that_does_not_suffice_costs_one_photograph(
        self, photo, here, monkeypatch, capsys
    ):
        read(photo).save("other.png")
        read_picture = material.read_picture

        def scarce(source, **options):
            if source.name == "other.png":
                raise MemoryError
            return read_picture(source, **options)

        monkeypatch.setattr(material, "read_picture", scarce)
        assert scorecam("explain", "other.png", photo) == 1
        assert "other.png: out of memory" in capsys.readouterr().err
        assert (here / "photo-scorecam.png").exists()

    def test_a_picture_that_cannot_be_written_leaves_the_old_one(
        self, photo, here, monkeypatch, capsys
    ):
        assert scorecam("explain", photo) == 0
        before = (here / "photo-scorecam.png").read_bytes()

        def full(number):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        assert scorecam("explain", photo, "--force", "--target", "blue") == 1
        assert "cannot write photo-scorecam.png: [Errno 28]" in capsys.readouterr().err
        assert (here / "photo-scorecam.png").read_bytes() == before
        assert sorted(os.listdir(here)) == ["photo-scorecam.png", "photo.png"]

    def test_the_picture_is_named_after_the_method(self, photo, here):
        assert scorecam("explain", photo, "--method", "grad-cam++") == 0
        assert (here / "photo-gradcam++.png").exists()
