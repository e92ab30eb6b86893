import socket
import sys
from types import SimpleNamespace

import pytest

from scorecam_jax.app import engine, page
from tests.cli.toy import scorecam


def test_without_gradio_the_extra_is_named_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(engine, "Networks", None)
    assert scorecam("app") == 2
    assert capsys.readouterr().err == (
        "scorecam: the app is a page made with Gradio: pip install 'scorecam_jax[app]'\n"
    )


@pytest.fixture
def served(monkeypatch):
    """What the page is launched with, where a port in use is the only trouble."""
    launched = []

    def launch(networks, *, host, port, inbrowser):
        launched.append((networks, host, port))
        if port:
            raise OSError(f"port {port} is in use")
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "installed", SimpleNamespace)
    monkeypatch.setattr(page, "launch", launch)
    return launched


def test_it_listens_on_this_machine_only_and_takes_a_network_of_ones_own(served, capsys):
    assert scorecam("app", "--model", "tests.app.toy:classifier", "--quiet") == 130
    ((networks, host, port),) = served
    assert socket.gethostbyname(host).startswith("127.")
    assert port is None
    assert networks.source["name"] == "tests.app.toy:classifier"
    assert networks.usual.labels[4] == "blue jay"


def test_a_port_in_use_is_told(served, capsys):
    assert scorecam("app", "--model", "tests.app.toy:classifier", "--port", 7999, "--quiet") == 2
    assert "127.0.0.1 at port 7999, which may be in use" in capsys.readouterr().err
