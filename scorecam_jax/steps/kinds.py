"""Which score functions give probabilities, and which take a softmax: see `scores`."""

import contextvars
import functools
from collections.abc import Callable
from typing import Any

import jax


def is_probability(score: Callable[..., Any]) -> bool:
    """Tell whether a score function gives probabilities.

    `jax.nn.softmax`, `jax.nn.sigmoid`, `sigmoid` and `binary` do, and so does `select` of one of
    these, `segmentation` with one of these as its activation, and `similarity` with a temperature.
    The other scores of this package do not. A function of your own says it with its attribute
    `probability`, or by returning what one of these scores gives. Otherwise it counts as one that
    does.

    >>> from scorecam_jax.steps.scores import select, values
    >>> is_probability(select("logits")), is_probability(values)
    (True, False)
    >>> is_probability(lambda outputs: values(outputs["logits"]))
    False
    """
    return kind_of(score) is not False


def kind_of(score: Callable[..., Any], outputs: Callable[[], Any] | None = None) -> bool | None:
    """Whether a score function gives probabilities; None if that cannot be told.

    Args:
        score: the function.
        outputs: () -> the shapes of a model's outputs, which tell of more functions.
    """
    kernel = _kernel(score)
    if kernel is jax.nn.softmax or kernel is jax.nn.sigmoid:
        return True
    said = getattr(kernel, "probability", None)
    if said is not None:
        return bool(said)
    if kernel in (None, jax.nn.log_softmax) or _is_of_this_package(kernel):
        return False
    carried = _carried(kernel, _Outputs)
    if carried is None and outputs is not None:
        carried = _carried(score, outputs)
    return carried


_GIVEN: contextvars.ContextVar[list[tuple[Any, bool]] | None] = contextvars.ContextVar(
    "what scores of this package gave, and whether that is a probability", default=None
)


def _carried(score: Callable[..., Any], outputs: Callable[[], Any]) -> bool | None:
    """The kind of the score of this package whose result a function returns as it is."""
    given: list[tuple[Any, bool]] = []
    found: list[bool] = []

    def trace(outputs: Any) -> Any:
        result = score(outputs)
        found.extend(kind for value, kind in given if value is result)
        return result

    token = _GIVEN.set(given)
    try:
        shapes = outputs()
        trace(shapes) if isinstance(shapes, _Outputs) else jax.eval_shape(trace, shapes)
    except Exception:
        pass  # what is wrong with it is told where it is called
    finally:
        _GIVEN.reset(token)
    return found[-1] if found else None


class _Outputs:
    """What stands for a model's outputs where they are not known: its parts are of its kind."""

    def __getitem__(self, key: Any) -> "_Outputs":
        return _Outputs()

    def __getattr__(self, name: str) -> "_Outputs":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Outputs()

    def __iter__(self) -> Any:
        raise TypeError("how many outputs there are is not known")


def gives(kind: bool | Callable[[Any], bool]) -> Callable[[Any], Any]:
    """Note what a score of this package gives, for scores that return it as it is.

    Args:
        kind: whether that is a probability, or a function of the score's first argument that says.
    """

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def score(*args: Any) -> Any:
            given = _GIVEN.get()
            if given is None:
                return function(*args)
            unknown = any(isinstance(leaf, _Outputs) for leaf in jax.tree.leaves(args))
            result = _Outputs() if unknown else function(*args)
            given.append((result, kind(args[0]) if callable(kind) else kind))
            return result

        return score

    return decorate


def _is_of_this_package(function: Any) -> bool:
    return getattr(function, "__module__", "").split(".")[0] == "scorecam_jax"


def is_softmax(score: Callable[..., Any]) -> bool:
    """Tell whether a score function is known to take a softmax, or its logarithm, over classes."""
    kernel = _kernel(score)
    return kernel is jax.nn.softmax or kernel is jax.nn.log_softmax


def _kernel(score: Any) -> Any:
    """The function that makes the scores, inside those that prepare its input."""
    while isinstance(score, functools.partial):
        inner = getattr(score.func, "inner", None)
        score = score.func if inner is None else inner(*score.args)
    return score
