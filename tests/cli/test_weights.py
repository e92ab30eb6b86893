"""Weights in folders, and labels in files, at the command line."""

import json

import numpy as np
import pytest

from scorecam_jax.models.checkpoints.fill import wanted
from scorecam_jax.models.registry import entry
from tests.cli.toy import scorecam
from tests.models.checkpoints.files import write_tensors


@pytest.fixture
def folder(here):
    """A network of timm's of three classes, as a folder."""
    found = entry("mobilenetv3_small_100")
    shapes = wanted(lambda rngs: found.network(rngs, classes=3), found.layouts[0].names)
    tensors = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    write_tensors(here / "model.safetensors", tensors)
    config = {"architecture": "mobilenetv3_small_100.lamb_in1k", "num_classes": 3}
    (here / "config.json").write_text(json.dumps(config))
    (here / "labels.txt").write_text("cat\ndog\nowl\n")
    return here


def test_a_folder_of_weights_names_the_model(folder, capsys):
    assert scorecam("layers", "--weights", folder, "--labels", "labels.txt") == 0
    text = capsys.readouterr().out
    assert "layers of mobilenetv3_small_100 that can be explained" in text
    assert "\n* head " in text


def test_labels_of_another_number_are_refused(folder, capsys):
    (folder / "labels.txt").write_text("cat\ndog\n")
    assert scorecam("layers", "--weights", folder, "--labels", "labels.txt") == 2
    assert "has 3 classes, but 2 labels were given" in capsys.readouterr().err


def test_a_model_that_contradicts_its_folder_is_told_in_terminal_words(folder, capsys):
    assert scorecam("layers", "--weights", folder, "--model", "resnet18") == 2
    message = capsys.readouterr().err
    assert "describes mobilenetv3_small_100.lamb_in1k, but resnet18 was requested" in message
    assert "leave out --model" in message


def test_networks_that_nothing_tells_apart_are_told_in_terminal_words(folder, capsys):
    (folder / "config.json").unlink()
    assert scorecam("layers", "--weights", folder) == 2
    assert "such as --model mobilenetv3_small_100" in capsys.readouterr().err


def test_an_address_of_another_form_is_refused(here, capsys):
    assert scorecam("layers", "--weights", "hf://resnet50") == 2
    assert "wanted hf://OWNER/NAME or" in capsys.readouterr().err
