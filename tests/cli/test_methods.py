import re

from scorecam_jax.methods import GROUPS, METHODS
from scorecam_jax.methods.citations import CITATIONS
from tests.cli.toy import scorecam


def test_every_method_is_listed_with_its_cost_and_options(capsys):
    assert scorecam("methods") == 0
    text = capsys.readouterr().out
    assert sorted(re.findall(r"^(\S+[^\s:]) +\S", text, re.M)) == sorted(METHODS)
    assert re.findall(r"^(\S+): ", text, re.M) == list(GROUPS)
    assert text.count("cost: ") == len(METHODS)
    for name, method in METHODS.items():
        assert method.__doc__.strip().split("\n")[0] in text
        assert METHODS.cost(name) in text
    (score_cam,) = re.findall(r"^score-cam .*\n.*\n.*\n +options: (.*)$", text, re.M)
    assert "--channels" in score_cam
    assert "--variant" in score_cam


def test_some_methods_and_what_to_cite_for_them(capsys):
    assert scorecam("methods", "rise", "uniform") == 0
    text = capsys.readouterr().out
    assert "grad-cam" not in text
    assert scorecam("methods", "rise", "grad-cam", "uniform", "--bibtex") == 0
    text = capsys.readouterr().out
    assert re.findall(r"^@misc\{(\w+),$", text, re.M) == ["petsiuk2018rise", "selvaraju2017grad"]
    assert text.count("{") == text.count("}")
    assert "eprint = {1806.07421}," in text
    assert scorecam("methods", "cam") == 2
    assert "no method is called 'cam'" in capsys.readouterr().err


def test_every_source_is_cited_and_known():
    cited = {key for entry in METHODS.entries.values() for key in entry.cites}
    assert cited == set(CITATIONS)
    # A method whose docstring names an arXiv number cites it.
    for name, method in METHODS.items():
        source = (method.__doc__ or "").partition("Source:")[2]
        numbers = re.findall(r"arXiv (\d{4}\.\d{5})", source)
        known = [CITATIONS[key].where[1] for key in METHODS.entries[name].cites]
        assert not numbers or set(numbers) & set(known) or name == "layer-cam", name


def test_groups_are_in_order():
    order = [METHODS.entries[name].group for name in METHODS]
    assert list(dict.fromkeys(order)) == list(GROUPS)
    assert order == sorted(order, key=list(GROUPS).index)
    assert set(METHODS) - set(METHODS.of_any_network()) == {
        "attention-rollout", "generic-attention", "legrad", "grad-eclip", "raw-attention",
        "vit-recipro-cam",
    }  # fmt: skip
