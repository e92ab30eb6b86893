import re
import sys

from tests.cli.toy import scorecam


def test_layers_can_be_explained(here, capsys):
    assert scorecam("layers") == 0
    text = capsys.readouterr().out
    assert "efficientnet_lite0" in text
    assert re.search(r"^  blocks/15 +7 x 7 x 320 ", text, re.M)
    assert re.findall(r"^\* (\S+) +(.*?)  ", text, re.M) == [("head", "7 x 7 x 1280")]
    added = re.findall(r"^([23]) (\S+) +(.*?)  ", text, re.M)
    assert added == [
        ("3", "blocks/5/expand", "28 x 28 x 240"),
        ("2", "blocks/11/expand", "14 x 14 x 672"),
    ]


def test_layers_of_a_network_without_weights_are_listed_too(capsys):
    assert scorecam("layers", "--model", "resnet18") == 0
    assert re.search(r"^\* layer4 +7 x 7 x 512 ", capsys.readouterr().out, re.M)


OWN = """
import jax
from scorecam_jax import models

def make():
    function = jax.tree_util.Partial(lambda x: (x.mean((1, 2)), x))
    sizes = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3)
    return models.Classifier(function, sizes, ("a", "b", "c"), (16, 16), "grid")
"""


def test_a_function_of_your_own_is_found_where_the_command_runs(here, capsys, monkeypatch):
    (here / "own_network.py").write_text(OWN)
    elsewhere = [path for path in sys.path if path not in ("", str(here))]
    monkeypatch.setattr(sys, "path", elsewhere)
    assert scorecam("layers", "--model", "own_network:make") == 2
    assert "cannot list the layers of a" in capsys.readouterr().err
    sys.modules.pop("own_network")
