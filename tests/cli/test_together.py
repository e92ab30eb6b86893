"""Several photographs: in one call or one after the other, and drawn beside the network."""

import json
import os
import shutil
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

from scorecam_jax.cli import common
from scorecam_jax.cli.errors import OutputError
from scorecam_jax.engine import tuning
from scorecam_jax.models import Preprocess
from scorecam_jax.study import drawing, pipeline
from scorecam_jax.study.programs import Programs
from tests.cli.toy import BLUE, GREEN, RED, UNIX, read, scorecam


@pytest.fixture
def photos(photo):
    """Photographs of several likeliest classes and sizes; the second cannot be read to its end."""
    image = read(photo)
    channels = image.split()
    turned = Image.merge("RGB", [channels[place] for place in (1, 0, 2)])
    turned.resize((60, 32)).save("green.png")
    Image.merge("RGB", channels[::-1]).resize((40, 50)).save("blue.png")
    Image.new("RGB", (20, 20)).save("black.png")
    image.resize((480, 320)).save("whole.jpg")
    content = (photo.parent / "whole.jpg").read_bytes()
    (photo.parent / "cut.jpg").write_bytes(content[:1500])
    return ["photo.png", "cut.jpg", "green.png", "blue.png", "black.png", "whole.jpg"]


@pytest.fixture
def explain(photos, monkeypatch, capsys):
    """Run a command with so many photographs a call: its status, what it prints, and its files."""

    def run(size, *arguments, command="explain"):
        for room in (common, pipeline):
            monkeypatch.setattr(room, "inputs_together", lambda count: min(count, size))
        status = scorecam(command, *photos, *arguments, "-o", "out", "--save-map", "out")
        files = {}
        for name in sorted(os.listdir("out")):
            load = np.load if name.endswith(".npy") else read
            files[name] = np.asarray(load(f"out/{name}"))
        shutil.rmtree("out")
        return status, *capsys.readouterr(), files

    return run


def assert_same_files(files, expected):
    assert list(files) == list(expected)
    for name, values in files.items():
        atol = 1e-5 if name.endswith(".npy") else 1.0
        np.testing.assert_allclose(values, expected[name], atol=atol, err_msg=name)


OPTIONS = [
    [],
    ["--top", 2],
    pytest.param(
        ["--target", "blue", "--target", RED, "--top", 1, "--channels", 2], marks=pytest.mark.slow
    ),
    pytest.param(["--tolerance", 0.05, "--top", 3], marks=pytest.mark.slow),
    ["--only", "overlay", "--top", 2],
    ["--pixels", "--scale", "shared", "--target", GREEN],
    pytest.param(["--method", "rise", "--target", BLUE, "--quiet"], marks=pytest.mark.slow),
    ["--signed", "--batch-size", 2],
]


@pytest.mark.usefixtures("traces")
class TestTogether:
    @pytest.mark.parametrize("options", OPTIONS, ids=lambda words: " ".join(map(str, words)))
    def test_gives_the_same_as_one_at_a_time(self, explain, options):
        *printed, files = explain(3, *options)
        *expected, wanted = explain(1, *options)
        assert printed == expected
        assert printed[0] == 1
        assert_same_files(files, wanted)

    def test_gives_the_same_json(self, explain):
        options = ["--top", 2, "--json"]
        told, expected = (json.loads(explain(size, *options)[1]) for size in (3, 1))

        def close(value, other):
            if isinstance(value, dict):
                assert list(value) == list(other)
                return all(close(value[name], other[name]) for name in value)
            if isinstance(value, list):
                return len(value) == len(other) and all(map(close, value, other))
            return value == (pytest.approx(other, abs=1e-6) if isinstance(other, float) else other)

        assert close(told, expected)
        best = [one["targets"][0]["index"] for one in told["photos"] if "targets" in one]
        assert best == [RED, GREEN, BLUE, RED, RED]

    def test_methods_side_by_side_are_the_same(self, explain):
        *printed, files = explain(3, "--methods", "score-cam,grad-cam", command="compare")
        *expected, wanted = explain(1, "--methods", "score-cam,grad-cam", command="compare")
        assert printed == expected
        assert_same_files(files, wanted)

    def test_all_take_one_program(self, explain, monkeypatch):
        sizes, rows = [], []
        run, prepare = Programs.explain_each, Programs.prepare

        def prepared(*arguments):
            sizes.append(arguments[-1])
            return prepare(*arguments)

        def counted(self, method, model, inputs, *rest):
            rows.append(len(inputs))
            return run(self, method, model, inputs, *rest)

        monkeypatch.setattr(Programs, "prepare", prepared)
        monkeypatch.setattr(Programs, "explain_each", counted)
        explain(4)
        assert sizes == [4]
        assert rows == [3, 2]

    def test_too_little_memory_for_several_is_enough_for_one(self, explain, monkeypatch):
        *expected, wanted = explain(1)
        run, tried = Programs.explain_each, []

        def scarce(self, method, model, inputs, classes, size):
            tried.append(len(inputs))
            if size > 1:
                raise MemoryError
            return run(self, method, model, inputs, classes, size)

        monkeypatch.setattr(Programs, "explain_each", scarce)
        *printed, files = explain(3)
        assert tried == [2, 1, 1, 1, 1, 1]
        assert printed == expected
        assert_same_files(files, wanted)


@pytest.mark.usefixtures("traces")
def test_memory_that_does_not_suffice_for_one_costs_that_one(explain, monkeypatch):
    run, count = Programs.explain_each, [0]

    def scarce(self, method, model, inputs, classes, size):
        count[0] += 1
        if size > 1 or count[0] == 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return run(self, method, model, inputs, classes, size)

    monkeypatch.setattr(Programs, "explain_each", scarce)
    status, _, err, files = explain(3)
    assert status == 1
    assert "green.png: out of memory" in err
    assert [name.split("-")[0] for name in files if name.endswith(".npy")] == [
        "black", "blue", "photo", "whole"
    ]  # fmt: skip
    assert err.index("cut.jpg") < err.index("green.png")


@UNIX
@pytest.mark.usefixtures("traces", "interruptible")
def test_an_interruption_leaves_whole_files_and_no_threads(photos, here, monkeypatch, capsys):
    before = threading.active_count()
    sheet = drawing.sheet

    def interrupted(*arguments, **options):
        time.sleep(0.5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(1)
        return sheet(*arguments, **options)

    monkeypatch.setattr(drawing, "sheet", interrupted)
    assert scorecam("explain", *photos, "-o", "out") == 130
    assert capsys.readouterr().err.endswith("scorecam: interrupted\n")
    assert os.listdir("out") == ["photo-scorecam.png"]
    assert read("out/photo-scorecam.png").height > 32
    assert threading.active_count() == before


@pytest.mark.usefixtures("traces")
def test_an_output_that_is_full_ends_the_command(photos, here, monkeypatch, capsys):
    explain, calls = Programs.explain_each, []

    def counted(*arguments):
        calls.append(arguments)
        return explain(*arguments)

    def full(text):
        raise OutputError("cannot print: no space left")

    monkeypatch.setattr(Programs, "explain_each", counted)
    monkeypatch.setattr(common, "say", full)
    many = [f"{number}.png" for number in range(6)]
    for name in many:
        shutil.copy(photos[0], name)
    assert scorecam("explain", *many) == 1
    assert capsys.readouterr().err == "scorecam: cannot print: no space left\n"
    assert len(calls) <= 3


@pytest.mark.usefixtures("traces")
def test_photographs_are_read_and_drawn_beside_the_network(photos, monkeypatch):
    threads = {}
    explain, sheet, fit = Programs.explain_each, drawing.sheet, Preprocess.pixels

    def noted(name, function):
        def call(*arguments, **options):
            threads.setdefault(name, set()).add(threading.current_thread())
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(Programs, "explain_each", noted("explain", explain))
    monkeypatch.setattr(drawing, "sheet", noted("draw", sheet))
    monkeypatch.setattr(Preprocess, "pixels", noted("read", fit))
    assert scorecam("explain", *photos, "--channels", 2) == 1
    assert threads["explain"] == {threading.main_thread()}
    assert len(threads["read"] | threads["draw"] | threads["explain"]) == 3


class Accelerator:
    platform = "gpu"


def test_inputs_share_a_call_where_that_fills_its_passes(monkeypatch):
    assert [tuning.inputs_together(count) for count in (1, 2, 100)] == [1, 1, 1]
    monkeypatch.setattr(tuning, "device_of", lambda mesh=None: Accelerator())
    sizes = [tuning.inputs_together(count) for count in (1, 2, 3, 4, 5, 8, 9, 1000)]
    assert sizes == [1, 2, 4, 4, 8, 8, 8, 8]
