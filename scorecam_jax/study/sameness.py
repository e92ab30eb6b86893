"""Which of the requested methods are the same on a network."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from scorecam_jax.contract.model import channel_axis_of
from scorecam_jax.methods.score_cam import score_cam
from scorecam_jax.methods.variants import default_for
from scorecam_jax.steps.channels import choice_of, interpolation_of


def same_methods(
    methods: Mapping[str, Callable[..., Any]], model: Callable[..., Any], inputs: Any
) -> dict[str, str]:
    """For each method that repeats an earlier one, that earlier method.

    64 of 64 channels are all channels, and an option at its default is no option.

    Args:
        methods: by name.
        model: the network.
        inputs: its inputs, or their shapes.
    """
    if len(methods) < 2:
        return {}
    _, activations = jax.eval_shape(model, inputs)
    axis = channel_axis_of(model)
    channels = [layer.shape[axis] for layer in jax.tree.leaves(activations)]
    first: dict[Any, str] = {}
    same: dict[str, str] = {}
    for name, method in methods.items():
        other = first.setdefault(_essence(method, channels), name)
        if other != name:
            same[name] = other
    return same


def unwrap(method: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function below a method's partial applications, and the keywords that they set."""
    options: dict[str, Any] = {}
    while isinstance(method, functools.partial):
        options = {**method.keywords, **options}
        method = method.func
    return method, options


def _essence(method: Callable[..., Any], channels: Sequence[int]) -> Any:
    """A method's identity: its function, and the options that are not at their defaults.

    Args:
        method: the method.
        channels: how many each of the network's layers has.
    """
    function, options = unwrap(method)
    parameters = inspect.signature(function).parameters
    if function is score_cam and options.get("variant") is default_for(
        options.get("score") or jax.nn.softmax
    ):
        del options["variant"]
    said = {}
    for name, value in options.items():
        if name == "channels":
            value = _fewer(value, channels, function is score_cam)
        default = parameters[name].default if name in parameters else None
        if not (value is default or _equal(value, default)):
            said[name] = value if _hashable(value) else id(value)
    return function, tuple(sorted(said.items(), key=lambda item: item[0]))


def _fewer(choice: Any, channels: Sequence[int], interpolates: bool) -> Any:
    """A choice of channels, or None if it takes them all.

    Layers share the channels that are interpolated from; each has a choice's number to itself.
    """
    if interpolates:
        interpolated, choice = interpolation_of(choice)
        if interpolated is not None:
            return None if (interpolated.count or 0) >= sum(channels) else interpolated
    choice = choice_of(choice)
    return None if choice is not None and set(channels) == {choice.count} else choice


def _equal(value: Any, other: Any) -> bool:
    return _hashable(value) and _hashable(other) and value == other


def _hashable(value: Any) -> bool:
    if isinstance(value, jax.Array):
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True
