"""`jax.jit` for functions that take models, functions and settings as well as arrays."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from scorecam_jax._internal.trees import Static, join_arrays, split_arrays


class filter_jit:  # noqa: N801  used as a decorator, as jax.jit is
    """Compile a function whose arguments are pytrees of arrays and of settings of any type.

    Arrays are traced, wherever they are in the arguments; the rest is static. A keyword argument
    that is a float is traced too, so that another learning rate or noise level does not cause a
    recompilation. Floats inside a pytree are static settings.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)

        def run(arrays: Any, floats: dict[str, Any], *, static: Static) -> Any:
            args, kwargs = join_arrays(arrays, static)
            return function(*args, **kwargs, **floats)

        run.__name__ = function.__name__  # the program's name in profiles and logs
        self._run = jax.jit(run, static_argnames="static")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the compiled function."""
        arrays, floats, static = self._split(args, kwargs)
        return self._run(arrays, floats, static=static)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The shapes and types of the result. A call with these arguments does not trace again."""
        arrays, floats, static = self._split(args, kwargs)
        return jax.eval_shape(functools.partial(self._run, static=static), arrays, floats)

    @staticmethod
    def _split(args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], Static]:
        floats = {name: value for name, value in kwargs.items() if isinstance(value, float)}
        rest = {name: value for name, value in kwargs.items() if name not in floats}
        arrays, static = split_arrays((args, rest))
        return arrays, floats, static
