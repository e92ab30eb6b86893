import json
import re
import sys
import types
from pathlib import Path

import pytest

from benchmarks import compilers, peers
from scorecam_jax import models
from scorecam_jax.cli import bench
from tests.cli.toy import scorecam

pytestmark = pytest.mark.usefixtures("traces")

QUICK = ["--model", "resnet18", "--weights", "unread.pth", "--repeats", 1, "--batch-size", "1,3"]


def test_prints_a_table(photo, capsys):
    assert scorecam("bench", *QUICK, "--photo", photo) == 0
    text = capsys.readouterr().out
    assert re.search(r"batches of 3 +[\d.]+", text)
    assert re.search(r"live channels +2  of 3$", text, re.M)  # no pixel is green
    assert re.search(r"masked passes +3  ", text)
    assert str(photo) in text


def test_json_is_the_only_output(capsys):
    assert scorecam("bench", *QUICK, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["photo"] is None
    assert document["layer"] == "grid"
    assert list(document["forward_images_per_second"]) == ["1", "3"]
    assert "peers" not in document


def test_peers_are_told_beside_those_that_could_not_run(capsys, monkeypatch):
    rows = {
        "scorecam_jax": {"all_seconds": [2.0], "seconds": 2.0, "bytes": 10**8, "times": 1.0},
        "slow": {"all_seconds": [9.0], "seconds": 9.0, "bytes": 3 * 10**8, "times": 4.5},
        "absent": {"error": "ImportError: there is no such package"},
    }
    monkeypatch.setattr(peers, "race", lambda *asked, **named: rows)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    assert scorecam("bench", *QUICK, "--peers") == 1
    text = capsys.readouterr().out
    assert re.search(r"^ +slow +9.00 +4.5 +300 MB$", text, re.M)
    assert re.search(r"^ +absent +did not run: ImportError: there is no such package$", text, re.M)


@pytest.mark.slow
def test_shortcuts_are_compared_with_the_exact_map(photo, capsys, monkeypatch):
    loaded = []
    load = models.load
    monkeypatch.setattr(
        models, "load", lambda *a, **named: loaded.append(named) or load(*a, **named)
    )
    assert scorecam("bench", *QUICK, "--shortcuts", photo, photo) == 0
    text = capsys.readouterr().out
    # This network has too few channels to leave out any, and takes no notice of the type.
    same = r"( +1.000 +1.000 +0.000){2}$"
    assert re.search(rf"^  all channels +[\d.]+{same}", text, re.M)
    assert re.search(rf"^  bfloat16 +[\d.]+{same}", text, re.M)
    assert " by gradient" not in text
    assert " interpolated" not in text
    assert [named["dtype"] for named in loaded] == [None, "bfloat16"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shortcuts", "gone.jpg"], "gone.jpg: no such file"),
        (["--photo", "gone.jpg"], "gone.jpg: no such file"),
        (["--channels", 4], "--channels 4, but the layer has 3"),
    ],
)
def test_questions_at_fault_are_refused(here, capsys, arguments, message):
    assert scorecam("bench", *QUICK, *arguments) == 2
    assert message in capsys.readouterr().err


def test_shortcuts_of_a_network_without_classes_are_refused(photo, capsys, monkeypatch):
    load = models.load
    monkeypatch.setattr(models, "load", lambda *a, **named: load(*a, **named)._replace(labels=()))
    assert scorecam("bench", *QUICK, "--shortcuts", photo) == 2
    assert "tells no classes apart" in capsys.readouterr().err


def test_unknown_models_list_the_known(capsys):
    assert scorecam("bench", "--model", "resnet") == 2
    message = capsys.readouterr().err
    assert all(name in message for name in models.names())


def test_a_batch_that_memory_does_not_hold_costs_that_size_alone(capsys):
    arguments = ["--model", "resnet18", "--weights", "unread.pth", "--repeats", 1]
    assert scorecam("bench", *arguments, "--batch-size", "1,999999999") == 0
    text = capsys.readouterr().out
    assert re.search(r"batches of 1 +[\d.]+  the best$", text, re.M)
    assert re.search(r"batches of 999999999 +-  need more memory than there is$", text, re.M)


@pytest.fixture
def same_environment(monkeypatch):
    for name, value in compilers.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("same_environment")
@pytest.mark.parametrize(
    ("chips", "compiler", "extra"),
    [("v5e:2x2", "libtpu", "tpu"), ("h100", "jax_cuda12_plugin", "cuda")],
)
def test_compiling_names_the_extra_that_it_needs(chips, compiler, extra, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, compiler, None)
    assert scorecam("bench", *QUICK[:4], "--compile-for", chips) == 2
    assert f"pip install 'scorecam_jax[{extra}]'" in capsys.readouterr().err


@pytest.mark.usefixtures("same_environment")
def test_compiling_needs_no_weights(monkeypatch, capsys):
    monkeypatch.setattr(compilers, "chips", lambda topology: [])
    monkeypatch.setattr(models, "packaged_weights", lambda name: pytest.fail("asked for weights"))

    def forecast(classifier, topology, **options):
        raise ValueError(f"compiled {classifier.layer}")

    monkeypatch.setattr(compilers, "forecast", forecast)
    assert scorecam("bench", "--model", "dinov2_vits14", "--compile-for", "h100") == 2
    assert "compiled blocks/11/norm1" in capsys.readouterr().err


@pytest.mark.usefixtures("same_environment")
def test_the_floor_follows_from_operations_and_bytes(monkeypatch, capsys):
    """The compiler's part is made up; tests/compilers has the real one."""
    devices = [types.SimpleNamespace(device_kind="TPU v5 lite", platform="tpu")] * 2
    monkeypatch.setattr(compilers, "chips", lambda topology: devices)
    monkeypatch.setattr(compilers, "Mesh", lambda devices, names: None)
    program = types.SimpleNamespace(
        cost_analysis=lambda: {"flops": 197e9, "bytes accessed": 819e7},
        memory_analysis=lambda: types.SimpleNamespace(temp_size_in_bytes=5_000_000),
        as_text=lambda: "a = f32[2] all-reduce-start(b)\nc = f32[2] all-reduce-done(a)",
    )
    monkeypatch.setattr(compilers, "compile_for", lambda *asked: program)
    arguments = ["bench", *QUICK[:4], "--compile-for", "v5e:1x2", "--batch-size", 1]
    assert scorecam(*arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    # Three channels and an empty mask, one at a time on two chips: two chunks.
    assert (found["passes"], found["chunks"], found["collectives"]) == (4, 2, {"all-reduce": 1})
    assert found["arithmetic_seconds"] == pytest.approx(2 * 197e9 / 197e12)
    assert found["floor_seconds"] == found["memory_seconds"] == pytest.approx(2 * 8.19 / 819)
    assert scorecam(*arguments) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  a map takes at least +20.00 ms", text, re.M)
    assert re.search(r"^  collectives +1 all-reduce$", text, re.M)


@pytest.mark.parametrize("also", [["--batch-size", "1,2"], ["--peers"], ["--photo", "a.jpg"]])
def test_what_runs_the_network_is_refused_beside_compiling(also, capsys):
    assert scorecam("bench", "--compile-for", "v5e:2x2", *also) == 2
    assert also[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "module"), [(["--peers"], "peers"), (["--compile-for", "h100"], "compilers")]
)
def test_what_the_installed_package_leaves_out_is_named(asked, module, monkeypatch, capsys):
    installed = Path("site-packages/scorecam_jax/cli/bench.py").absolute()
    monkeypatch.setattr(bench, "__file__", str(installed))
    assert scorecam("bench", *QUICK[:4], *asked) == 2
    message = capsys.readouterr().err
    assert f"{asked[0]} needs benchmarks/{module}.py" in message
    assert "checkout" in message
