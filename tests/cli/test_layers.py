import re

from tests.cli.toy import scorecam


def test_layers_can_be_explained(here, capsys):
    assert scorecam("layers") == 0
    text = capsys.readouterr().out
    assert "efficientnet_lite0" in text
    assert re.search(r"^  blocks/15 +7 x 7 x 320 ", text, re.M)
    assert re.findall(r"^\* (\S+) +(.*?)  ", text, re.M) == [("head", "7 x 7 x 1280")]


def test_layers_of_a_network_without_weights_are_listed_too(capsys):
    assert scorecam("layers", "--model", "resnet18") == 0
    assert re.search(r"^\* layer4 +7 x 7 x 512 ", capsys.readouterr().out, re.M)
