import functools
from typing import TypedDict, Unpack

import jax
import pytest

from scorecam_jax._internal.signatures import accepts, requires


class Options(TypedDict, total=False):
    score: int


class MoreOptions(Options, total=False):
    batch_size: int


def plain(model, *, score=None): ...


def unpacked(model, **options: Unpack[MoreOptions]): ...


def passed_on(model, **options): ...


def drawn(model, *, key, count=3): ...


@pytest.mark.parametrize(
    ("function", "taken"),
    [
        (plain, {"score"}),
        (unpacked, {"score", "batch_size"}),
        (passed_on, {"score", "batch_size", "key"}),
        (drawn, {"key"}),
        (functools.partial(unpacked, score=3), {"batch_size"}),
        (functools.partial(functools.partial(unpacked, score=3), batch_size=1), set()),
        (jax.jit(functools.partial(plain, score=3)), set()),
        (jax.jit(unpacked), {"score", "batch_size"}),
        (max, set()),
    ],
)
def test_keywords_that_a_function_takes(function, taken):
    assert {name for name in ("score", "batch_size", "key") if accepts(function, name)} == taken


def test_keywords_that_a_function_cannot_do_without():
    assert requires(drawn, "key")
    assert not requires(drawn, "count")
    assert not requires(functools.partial(drawn, key=1), "key")
    assert not requires(passed_on, "key")
