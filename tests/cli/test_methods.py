import re

from scorecam_jax.methods import METHODS
from tests.cli.toy import scorecam


def test_every_method_is_listed_with_its_cost_and_options(capsys):
    assert scorecam("methods") == 0
    text = capsys.readouterr().out
    assert re.findall(r"^(\S+) +\S", text, re.M) == list(METHODS)
    assert text.count("cost: ") == len(METHODS)
    for name, method in METHODS.items():
        assert method.__doc__.strip().split("\n")[0] in text
        assert METHODS.cost(name) in text
    (score_cam,) = re.findall(r"^score-cam .*\n.*\n +options: (.*)$", text, re.M)
    assert "--channels" in score_cam
    assert "--variant" in score_cam
