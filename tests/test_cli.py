import io
import json
import re
import runpy
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import cli, models
from scorecam_jax.variants import BY_NAME
from scorecam_jax.visualize import COLORMAPS

ANIMALS = Path(__file__).parent / "data" / "animals"
LABELS = (
    "red panda, lesser panda, Ailurus fulgens",
    "green lizard, Lacerta viridis",
    "blue jay",
    "giant panda, panda",
    "crane",
    "crane",
    "tiger, Panthera tigris",
    "tiger cat",
    "catamaran",
)
RED, GREEN, BLUE = 0, 1, 2


def colour_network(traces):
    """A network whose class 0 is redness, 1 greenness, 2 blueness, on a grid of 4 x 4."""

    def model(inputs):
        traces.append(inputs.shape)
        activations = inputs.reshape(-1, 4, 4, 4, 4, 3).mean((2, 4))
        colours = 60 * activations.mean((1, 2))
        others = -jnp.arange(1.0, len(LABELS) - 2)
        others = jnp.broadcast_to(others, (len(colours), len(LABELS) - 3))
        return jnp.concatenate([colours, others], 1), activations

    return jax.tree_util.Partial(model)


@pytest.fixture
def traces(monkeypatch):
    """A colour network in place of the real one, a new one each time; how often it is traced."""
    traces = []
    preprocess = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3, fit="crop")

    def load(name, weights=None, layer=None):
        return models.Classifier(colour_network(traces), preprocess, LABELS, (16, 16))

    monkeypatch.setattr(models, "load", load)
    return traces


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photo(here):
    """Black, 48 x 32, but for a red square left of the middle and a small blue one to the right."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[8:16, 8:16, 0] = 255
    pixels[16:24, 32:36, 2] = 200
    path = here / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def scorecam(*arguments):
    return cli.main([str(argument) for argument in arguments])


def read(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def panels(path, count, size=(48, 32)):
    """The panels of a sheet whose titles are one line each."""
    page = np.asarray(read(path)).astype(int)
    gap, width = 8, 180
    columns = (page.shape[1] - gap) // (width + gap)
    pitch = (page.shape[0] - gap) // -(-count // columns)
    found = []
    for index in range(count):
        row, column = divmod(index, columns)
        left = gap + column * (width + gap) + (width - size[0]) // 2
        bottom = (row + 1) * pitch
        found.append(page[bottom - size[1] : bottom, left : left + size[0]])
    return found


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

    @pytest.mark.parametrize("variant", ["paper", "pytorch-grad-cam"])
    def test_every_variant_runs(self, photo, variant):
        options = ["--variant", variant, "--channels", 2, "--batch-size", 1]
        assert scorecam("explain", photo, *options) == 0

    def test_json_is_the_only_output(self, photo, capsys):
        assert scorecam("explain", photo, "gone.png", "--json", "-o", "maps/") == 1
        printed = capsys.readouterr()
        done, failed = json.loads(printed.out)["photos"]
        assert done["photo"] == str(photo)
        assert done["size"] == [48, 32]
        assert done["seen"] == [8, 0, 40, 32]
        assert done["output"] == "maps/photo-scorecam.png"
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

    def test_photographs_of_one_name_are_told_apart(self, photo, here, capsys):
        (here / "more").mkdir()
        read(photo).save("more/photo.jpg")
        assert scorecam("explain", photo, "more/photo.jpg") == 2
        assert "would both be written to photo-scorecam.png" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-o", "a.xyz"], "a.png, or .jpg"),
            (["--save-map", "a.npz"], "a.npy"),
            (["--channels", "9"], "3"),
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
    assert cli.output_paths([Path("some/photo.jpg")], out, "-scorecam.png") == [Path(written)]


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
    assert cli.find_class(name, LABELS) == index


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
    with pytest.raises(cli.UserError, match=re.escape(repr(name))) as error:
        cli.find_class(name, LABELS)
    assert re.findall(r"^ +(\d+)  ", str(error.value), re.M) == candidates


@pytest.mark.parametrize("name", ["9", "-1", "1000"])
def test_indices_out_of_range_name_the_range(name):
    with pytest.raises(cli.UserError, match=f"class {name} .* 0 to 8"):
        cli.find_class(name, LABELS)


def test_large_memory_gets_advice(photo, traces, capsys, monkeypatch):
    def run(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(cli, "_compile", lambda *arguments: run)
    assert scorecam("explain", photo) == 1
    assert re.search("out of memory\n.*--batch-size", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["", " ", "zzz"])
def test_hopeless_names_get_advice(name):
    with pytest.raises(cli.UserError, match="index from 0 to 8"):
        cli.find_class(name, LABELS)


def test_many_candidates_are_cut_short():
    with pytest.raises(cli.UserError, match="and 28 more"):
        cli.find_class("dog", [f"dog {index}" for index in range(40)])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def wait_for(condition):
    for _ in range(100):
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_progress_is_drawn_on_a_terminal_and_taken_away(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with cli.Progress(3, enabled=True, delay=0) as progress:
        progress.start("first.jpg")
        assert wait_for(lambda: "<==>" in stream.getvalue())
        progress.advance()
        progress.start("second.jpg")
        assert wait_for(lambda: re.search(r"\[=+ *\] 2 of 3 \d+ s  second.jpg", stream.getvalue()))
    lines = stream.getvalue().split("\r")
    assert lines[-1] == ""
    assert lines[-2].strip() == ""
    assert len(lines[-2]) >= len(lines[-3].rstrip())


@pytest.mark.parametrize(
    ("stream", "enabled", "delay"),
    [(io.StringIO, True, 0), (Terminal, False, 0), (Terminal, True, 2)],
)
def test_progress_is_silent_in_a_pipe_when_quiet_and_at_first(monkeypatch, stream, enabled, delay):
    stream = stream()
    monkeypatch.setattr("sys.stderr", stream)
    before = threading.active_count()
    with cli.Progress(1, enabled=enabled, delay=delay) as progress:
        progress.start("first.jpg")
        time.sleep(0.3)
        progress.hide()
    assert stream.getvalue() == ""
    assert threading.active_count() == before


def test_options_name_what_the_library_has():
    assert list(cli.VARIANTS) == list(BY_NAME)
    assert list(cli.COLORMAPS) == list(COLORMAPS)
    for option in ("--model=efficientnet_lite0", "--variant=official", "--colormap=ember"):
        name, value = option.removeprefix("--").split("=")
        assert getattr(cli.parser().parse_args(["explain", "x"]), name) == value
    assert "efficientnet_lite0" in models.names()


@pytest.mark.parametrize("command", [[], ["explain"], ["layers"]])
def test_help_fits_a_terminal(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        scorecam(*command, "--help")
    text = capsys.readouterr().out
    assert text.startswith("usage: scorecam")
    assert max(len(line) for line in text.splitlines()) <= 80


def test_examples_in_the_help_are_valid():
    examples = re.findall(r"^ +scorecam ((?:explain|layers).*)$", cli.EXAMPLES, re.M)
    assert len(examples) >= 5
    for example in examples:
        arguments = re.findall(r'"([^"]*)"|(\S+)', example.partition(" > ")[0])
        cli.parser().parse_args([quoted or plain for quoted, plain in arguments])


def test_module_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["scorecam", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("scorecam_jax", run_name="__main__")
    assert "explain" in capsys.readouterr().out


def test_no_command_shows_the_help(capsys):
    assert scorecam() == 2
    assert "examples:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain"],
        ["frobnicate"],
        ["explain", "x", "--top", "0"],
        ["explain", "x", "--channels", "many"],
        ["explain", "x", "--alpha", "2"],
        ["explain", "x", "--alpha", "nan"],
        ["explain", "x", "--variant", "unheard-of"],
        ["explain", "x", "--colormap", "hot"],
    ],
)
def test_mistyped_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        scorecam(*arguments)
    assert "error" in capsys.readouterr().err


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


def test_layers_can_be_explained(here, capsys):
    assert scorecam("layers") == 0
    text = capsys.readouterr().out
    assert "efficientnet_lite0" in text
    assert re.search(r"^  head +7 x 7 x 1280 ", text, re.M)


def test_unknown_layers_and_models_list_the_known(here, capsys):
    photo = ANIMALS / "jaguar.jpg"
    assert scorecam("explain", photo, "--layer", "haed") == 2
    assert "'head'" in capsys.readouterr().err
    assert scorecam("explain", photo, "--model", "resnet") == 2
    assert "efficientnet_lite0" in capsys.readouterr().err
