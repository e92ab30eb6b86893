"""The keywords that a function takes."""

import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any


def accepts(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes a keyword that no `functools.partial` has set already.

    `**options: Unpack[Options]` names its keywords; `**options` alone takes every keyword.

    >>> accepts(lambda model, *, score=None: ..., "score")
    True
    >>> accepts(functools.partial(lambda model, *, score=None: ..., score=max), "score")
    False
    """
    if any(name in layer.keywords for layer in _partials(function)):
        return False
    return any(
        (
            parameter.kind is parameter.VAR_KEYWORD
            and name in _unpacked(parameter.annotation, default=(name,))
        )
        or (
            parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            and parameter.name == name
        )
        for parameter in _parameters(function)
    )


@functools.cache
def options_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the keywords that a function takes, those of `Unpack[Options]` last.

    >>> from scorecam_jax import score_cam
    >>> options_of(score_cam)[:3]
    ('variant', 'channels', 'score')
    """
    names: list[str] = []
    for parameter in _parameters(function):
        if parameter.kind is parameter.KEYWORD_ONLY:
            names.append(parameter.name)
        elif parameter.kind is parameter.VAR_KEYWORD:
            names.extend(_unpacked(parameter.annotation, default=()))
    return tuple(names)


def requires(function: Callable[..., Any], name: str) -> bool:
    """Whether a function cannot be called without a keyword.

    >>> requires(lambda model, *, key: ..., "key")
    True
    """
    return any(
        parameter.name == name and parameter.default is parameter.empty
        for parameter in _parameters(function)
    )


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a built-in function may have none
        return []


def _partials(function: Any) -> Iterator[functools.partial[Any]]:
    while function is not None:
        if isinstance(function, functools.partial):
            yield function
            function = function.func
        else:
            function = getattr(function, "__wrapped__", None)


def _unpacked(annotation: Any, *, default: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of the TypedDict in `Unpack[...]`; `default` for another annotation."""
    for inner in typing.get_args(annotation):
        if typing.is_typeddict(inner):
            return tuple(inner.__annotations__)
    return default
