"""Models written as plain functions."""

import dataclasses
from collections.abc import Callable
from typing import Any

from scorecam_jax._internal.keys import Closure, Static
from scorecam_jax._internal.trees import join_arrays, split_arrays
from scorecam_jax.adapters.adapted import Adapted
from scorecam_jax.adapters.model import Layers, show
from scorecam_jax.adapters.tokens import Grid
from scorecam_jax.contract.per_input import Arguments, count_images


def from_function(
    function: Callable[..., Any],
    params: Any,
    layer: Layers = None,
    *args: Any,
    layers: int | None = None,
    dtype: Any = None,
    grid: Grid | None = None,
    channel_axis: int = -1,
    per_input: Any = (),
    **kwargs: Any,
) -> Adapted:
    """Show one layer of a network that is a function of its parameters.

    Its layers are what it names with `jax.ad_checkpoint.checkpoint_name`: in
    `x = checkpoint_name(jax.nn.relu(x), "blocks/3")` the layer `"blocks/3"`.

    Args:
        function: called as `function(params, inputs, *args, **kwargs)`, in any code that JAX can
            trace.
        params: any pytree of arrays.
        layer: the name of a layer; with the run in brackets, `"block[-1]"` for the last, if the
            name is given several times or within a `jax.lax.scan`. None picks one, see
            `from_nnx`. A list of names shows several layers.
        *args: passed to the function after the inputs.
        layers: how many layers to show, by rule: `layer` and others before it; see `from_nnx`.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.
        grid: for layers of tokens (N, tokens, K), the `(height, width)` of their grid; see
            `from_nnx`.
        channel_axis: where the inputs, and the activations, have their channels; methods read it
            from the model.
        per_input: a list of further positional arguments, or a dict of further keyword arguments,
            each with one row per image; see `scorecam_jax.per_input`.
        **kwargs: passed to the function.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`.

    Raises:
        ValueError: when called, if no layer has that name, or if which run is meant is ambiguous.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from jax.ad_checkpoint import checkpoint_name
    >>> def network(params, x):
    ...     x = checkpoint_name(jax.nn.relu(x @ params["mix"]), "features")
    ...     return x.mean((1, 2)) @ params["head"]
    >>> params = {"mix": jnp.ones((3, 8)), "head": jnp.ones((8, 5))}
    >>> outputs, activations = from_function(network, params)(jnp.ones((2, 6, 6, 3)))
    >>> outputs.shape, activations.shape
    ((2, 5), (2, 6, 6, 8))
    """
    arrays, static = split_arrays(params)
    weights = (arrays, Arguments(args, kwargs, per_input))
    run = _Function(Closure(function), static)
    return show(
        run, weights, layer, layers=layers, dtype=dtype, grid=grid, channel_axis=channel_axis
    )


@dataclasses.dataclass(frozen=True)
class _Function:
    function: Closure
    static: Static

    def __call__(self, weights: Any, inputs: Any) -> Any:
        arrays, arguments = weights
        args, kwargs = arguments.for_inputs(count_images(inputs))
        params = join_arrays(arrays, self.static)
        return self.function.function(params, inputs, *args, **kwargs)
