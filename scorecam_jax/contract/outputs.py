"""A model whose outputs are passed on to a function."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from scorecam_jax.contract.model import AnyModel, channel_axis_of


def then(model: AnyModel, function: Callable[..., Any], *arrays: Any) -> AnyModel:
    """The model with its outputs passed on to a function, such as a head on embeddings.

    It shows the same layer as before.

    Args:
        model: a `Model` or a plain function.
        function: `(*arrays, outputs) -> outputs`. Equal functions share a compiled program: let it
            be a function of a module or a frozen dataclass, not a lambda made anew.
        arrays: what the function needs, passed as arguments of compiled programs.

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
