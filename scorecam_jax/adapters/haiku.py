"""Models written in Haiku."""

import dataclasses
import inspect
from typing import Any

import jax

from scorecam_jax._internal.trees import Static, join_arrays, split_arrays
from scorecam_jax.adapters.marks import Path, mark
from scorecam_jax.adapters.model import Layers, parse_path, require, show
from scorecam_jax.adapters.tokens import Grid


def from_haiku(
    transformed: Any,
    params: Any,
    layer: Layers = None,
    *args: Any,
    state: Any = None,
    rng: jax.Array | None = None,
    dtype: Any = None,
    grid: Grid | None = None,
    **kwargs: Any,
) -> jax.tree_util.Partial:
    """Show one layer of a Haiku model.

    Args:
        transformed: what `hk.transform`, `hk.transform_with_state` or `hk.without_apply_rng` made.
        params: its parameters.
        layer: the name of a module as it is in `params`, `"res_net/~/block_group_3"`. None picks
            the last one, in execution order, whose output still has a spatial grid. A list of
            names shows several layers.
        *args: passed to `apply` after the inputs.
        state: its state, for `hk.transform_with_state`.
        rng: its random key, if it wants one even in evaluation.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.
        grid: for layers of tokens (N, tokens, K), the `(height, width)` of their grid; see
            `from_nnx`.
        **kwargs: passed to `apply`, for example `is_training=False`.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`.

    Raises:
        ImportError: Haiku is not installed.
        ValueError: when called, if the layer is unknown, runs more than once, or runs in a loop.
    """
    hk = require("haiku", "haiku")
    stateful = isinstance(transformed, hk.TransformedWithState)
    wants_rng = "rng" in inspect.signature(transformed.apply).parameters
    first = [params, *[state] * stateful, *[rng] * wants_rng]
    arrays, static = split_arrays((args, kwargs))
    run = _Haiku(transformed.apply, stateful, static)
    return show(run, (first, arrays), layer, dtype=dtype, grid=grid)


@dataclasses.dataclass(frozen=True)
class _Haiku:
    apply: Any
    stateful: bool
    static: Static

    def __call__(self, weights: Any, inputs: jax.Array) -> Any:
        hk = require("haiku", "haiku")
        first, arrays = weights
        args, kwargs = join_arrays(arrays, self.static)
        running: set[Path] = set()

        def tap(next_call: Any, call_args: Any, call_kwargs: Any, context: Any) -> Any:
            if context.method_name != "__call__":
                return next_call(*call_args, **call_kwargs)
            path = parse_path(context.module.module_name)
            # A call of super().__call__ is a call of the same layer.
            if path in running:
                return next_call(*call_args, **call_kwargs)
            running.add(path)
            output = next_call(*call_args, **call_kwargs)
            running.remove(path)
            return mark(output, path, type(context.module).__name__)

        with hk.intercept_methods(tap):
            outputs = self.apply(*first, inputs, *args, **kwargs)
        return outputs[0] if self.stateful else outputs
