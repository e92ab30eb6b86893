import re
import runpy
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

from scorecam_jax import models
from scorecam_jax.cli import main as cli
from tests.cli.toy import COMMANDS, scorecam


def test_defaults_are_as_the_help_says():
    for option in ("--method=score-cam", "--colormap=ember"):
        name, value = option.removeprefix("--").split("=")
        assert getattr(cli.parser().parse_args(["explain", "x"]), name) == value
    # Weights may be of another network than the usual one.
    assert cli.parser().parse_args(["explain", "x", "--weights", "folder"]).model is None
    assert cli.DEFAULT_MODEL in models.names()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ([], "efficientnet_lite0"),
        (["--weights", "folder"], None),
        (["--weights", "folder", "--model", "resnet18"], "resnet18"),
    ],
)
def test_the_usual_network_is_that_of_no_name_and_no_weights(monkeypatch, options, name):
    asked = []
    monkeypatch.setattr(cli.layers, "run", lambda options: asked.append(options.model) or 0)
    assert scorecam("layers", *options) == 0
    assert asked == [name]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_fits_a_terminal(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        scorecam(*command, "--help")
    text = capsys.readouterr().out
    assert text.startswith("usage: scorecam")
    assert max(len(line) for line in text.splitlines()) <= 80


def test_examples_in_the_help_are_valid():
    examples = re.findall(rf"^ +scorecam ((?:{'|'.join(COMMANDS)}).*)$", cli.EXAMPLES, re.M)
    assert {example.split()[0] for example in examples} == set(COMMANDS)
    for example in examples:
        arguments = re.findall(r'"([^"]*)"|(\S+)', example.partition(" > ")[0])
        cli.parser().parse_args([quoted or plain for quoted, plain in arguments])


def test_version_is_that_of_the_package(capsys):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert scorecam("--version") == 0
    printed = capsys.readouterr().out
    assert re.match(rf"scorecam ({re.escape(project['version'])}|0\+unknown), JAX ", printed)
    assert jax.__version__ in printed


def test_a_bug_report_has_versions_and_devices(capsys):
    assert scorecam("--version", "--verbose") == 0
    printed = capsys.readouterr().out.splitlines()
    assert f"numpy {np.__version__}" in printed
    devices = [f"{one.platform}:{one.id} {one.device_kind}" for one in jax.devices()]
    assert printed[-len(devices) :] == devices
    with pytest.raises(SystemExit, match="2"):
        scorecam("--verbose", "methods")


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
        ["compare"],
        ["frobnicate"],
        ["explain", "x", "--top", "0"],
        ["explain", "x", "--channels", "many"],
        ["explain", "x", "--alpha", "2"],
        ["explain", "x", "--alpha", "nan"],
        ["explain", "x", "--variant", "unheard-of"],
        ["explain", "x", "--colormap", "hot"],
        ["compare", "x", "--methods", "grad-cam,magic"],
        ["compare", "x", "--variants", ""],
        ["evaluate", "x", "--metrics", "beauty"],
        ["bench", "--batch-size", "1,,2"],
    ],
)
def test_mistyped_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        scorecam(*arguments)
    assert "error" in capsys.readouterr().err
