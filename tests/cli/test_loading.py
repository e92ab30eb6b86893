import jax
import numpy as np

from scorecam_jax import models, samples
from tests.cli.toy import scorecam

ANIMALS = samples.FOLDER


def test_unknown_layers_and_models_list_the_known(here, capsys):
    photo = ANIMALS / "jaguar.jpg"
    assert scorecam("explain", photo, "--layer", "haed") == 2
    message = capsys.readouterr().err
    assert "'head'" in message
    assert message.endswith("`scorecam layers` shows them all.\n")
    assert scorecam("explain", photo, "--model", "resnet") == 2
    assert "efficientnet_lite0" in capsys.readouterr().err


def test_missing_weights_are_asked_for_by_their_option(here, capsys):
    assert scorecam("explain", ANIMALS / "jaguar.jpg", "--model", "resnet18") == 2
    message = capsys.readouterr().err
    assert "pass a file or folder, --weights resnet18.pth. " in message
    assert "load(" not in message


def test_a_layer_without_a_grid_is_refused_in_terminal_words(here, capsys):
    assert scorecam("explain", ANIMALS / "jaguar.jpg", "--layer", "classifier") == 2
    message = capsys.readouterr().err
    assert "before the spatial axes are pooled away" in message
    assert "grid=" not in message


def test_weights_that_are_not_finite_are_named(here, photo, monkeypatch, capsys):
    values = np.array([1, np.nan, np.inf], np.float32)
    model = jax.tree_util.Partial(lambda weights, x: (x.mean((1, 2)), x), {"stem": values})
    preprocess = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3)
    broken = models.Classifier(model, preprocess, ("a", "b", "c"), (16, 16), "grid")
    monkeypatch.setattr(models, "load", lambda *arguments, **named: broken)
    assert scorecam("explain", photo, "--weights", "diverged.pth") == 2
    message = capsys.readouterr().err
    assert "weights of diverged.pth are not finite: 2 of 3 values of" in message
    assert "stem" in message
