import sys

import pytest

from scorecam_jax.adapters import from_equinox, from_haiku, from_keras


@pytest.mark.parametrize(
    ("adapt", "package", "extra"),
    [
        (lambda: from_equinox(None), "equinox", "equinox"),
        (lambda: from_haiku(None, None), "haiku", "haiku"),
        (lambda: from_keras(None), "keras", "keras"),
    ],
)
def test_a_missing_framework_is_an_error_that_names_the_extra(monkeypatch, adapt, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"pip install 'scorecam_jax\[{extra}\]'"):
        adapt()
