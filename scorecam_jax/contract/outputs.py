"""A model whose outputs are passed on to a function."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from scorecam_jax.contract.model import AnyModel, channel_axis_of


def then(model: AnyModel, function: Callable[..., Any], *arrays: Any) -> AnyModel:
    """Pass a model's outputs on to a function, such as a head on embeddings.

    The layer stays the same.

    Args:
        model: a `Model` or a plain function.
        function: `(*arrays, outputs) -> outputs`. Equal functions share a compiled program, so use
            a module-level function or a frozen dataclass rather than a new lambda.
        arrays: the function's arrays, passed as arguments of compiled programs.

    >>> import jax.numpy as jnp
    >>> def model(x):
    ...     return x.mean((1, 2)), x
    >>> doubled = then(model, jnp.multiply, jnp.float32(2))
    >>> doubled(jnp.ones((1, 4, 4, 3)))[0].tolist()
    [[2.0, 2.0, 2.0]]
    """
    following = getattr(model, "then", None)
    if following is not None:
        return following(function, arrays)
    return jax.tree_util.Partial(_Then(function, channel_axis_of(model)), model, arrays)


@dataclasses.dataclass(frozen=True)
class _Then:
    function: Callable[..., Any]
    channel_axis: int

    def __call__(self, model: AnyModel, arrays: Any, inputs: Any, edit: Any = None) -> Any:
        outputs, activations = model(inputs) if edit is None else model(inputs, edit=edit)
        return self.function(*arrays, outputs), activations
