"""Users' own networks, named as package.module:function."""

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax

from scorecam_jax.models.classifier import Classifier


def is_own(name: str) -> bool:
    """Whether a model's name is that of a user's function."""
    return ":" in name


def own(name: str, *, labels: tuple[str, ...] | None = None, **options: Any) -> Classifier:
    """Call a user's function and check the classifier that it returns.

    Args:
        name: as `package.module:function`.
        labels: class names to use instead of the classifier's own.
        **options: the function's arguments; those that are None are left out.

    Raises:
        ValueError: there is no such function, it does not accept the options, or its classifier
            is inconsistent.
    """
    make = _function(name)
    given = {option: value for option, value in options.items() if value is not None}
    try:
        inspect.signature(make).bind(**given)
    except TypeError as error:
        passed = ", ".join(given) or "no arguments"
        raise ValueError(
            f"{name} cannot be called with {passed}: {error}. Give only those of weights, layer "
            "and dtype that it accepts; its other arguments need defaults"
        ) from None
    classifier = make(**given)
    if not isinstance(classifier, Classifier):
        raise ValueError(
            f"{name} returned a {type(classifier).__name__}; it must return a "
            "scorecam_jax.models.Classifier(model, preprocess, labels, input_size, layer)"
        )
    if labels is not None:
        classifier = classifier._replace(labels=labels)
    inputs = jax.ShapeDtypeStruct((1, *classifier.input_shape), "float32")
    outputs, _ = jax.eval_shape(classifier.model, inputs)
    shape = outputs.shape if isinstance(outputs, jax.ShapeDtypeStruct) else None
    count = len(classifier.labels)
    if shape is None or len(shape) != 2 or shape != (1, count or shape[1]):
        found = f"of type {type(outputs).__name__}" if shape is None else f"of shape {shape}"
        wanted = f"(1, {count}): one logit per label" if count else "(1, features): an embedding"
        raise ValueError(
            f"{name} has {count} labels, but for one image of size {classifier.input_size} its "
            f"model's outputs are {found}, wanted {wanted}"
        )
    return classifier


def _function(name: str) -> Callable[..., Any]:
    module_name, _, function = name.partition(":")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name):
        raise ValueError(f"the model {name!r} is not of the form package.module:function")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Translate the error only if the module itself, or a package around it, is missing.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"no module {module_name!r}, for the model {name!r}: install it, or add its folder "
            "to PYTHONPATH"
        ) from None
    make = getattr(module, function, None)
    if not callable(make):
        raise ValueError(
            f"the module {module_name!r} ({getattr(module, '__file__', None)}) has no function "
            f"{function!r}, for the model {name!r}"
        )
    return make
