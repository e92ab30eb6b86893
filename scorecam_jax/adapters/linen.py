"""Models written in Flax Linen."""

import dataclasses
from typing import Any

from scorecam_jax._internal.frameworks import check_network
from scorecam_jax.adapters.adapted import TO_PREDICT, Adapted, unbound
from scorecam_jax.adapters.model import Layers, show
from scorecam_jax.adapters.tokens import Grid
from scorecam_jax.contract.per_input import Arguments, count_images
from scorecam_jax.program.marks import Path, mark


def from_linen(
    module: Any,
    variables: Any,
    layer: Layers = None,
    *args: Any,
    layers: int | None = None,
    dtype: Any = None,
    grid: Grid | None = None,
    channel_axis: int = -1,
    per_input: Any = (),
    **kwargs: Any,
) -> Adapted:
    """Show one layer of a Flax Linen model.

    Args:
        module: called as `module.apply(variables, inputs, *args, **kwargs)`.
        variables: its variables, `{"params": ..., "batch_stats": ...}`.
        layer: the path of a submodule, `"layer4/block_1"` or `("layer4", "block_1")`. None picks
            one, see `from_nnx`. A list of paths shows several layers.
        *args: passed to `apply` after the inputs.
        layers: how many layers to show, by rule: `layer` and others before it; see `from_nnx`.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.
        grid: for layers of tokens (N, tokens, K), the `(height, width)` of their grid; see
            `from_nnx`.
        channel_axis: where the inputs, and the activations, have their channels; methods read it
            from the model.
        per_input: a list of further positional arguments, or a dict of further keyword arguments,
            each with one row per image; see `scorecam_jax.per_input`.
        **kwargs: passed to `apply`, for example `train=False`, `rngs=...` or `method=...`.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`.

    Raises:
        TypeError: `mutable` is among the arguments; a model is explained as it predicts.
        ValueError: when called, if the network updates its batch statistics or draws random numbers
            without `rngs`, as in training; if `variables` lacks a collection; or if the layer is
            unknown, runs more than once, or runs in a loop.
    """
    check_network(module, "from_linen")
    if "mutable" in kwargs:
        raise TypeError(
            "from_linen does not take mutable=: a model is explained as it predicts. Pass what "
            "makes yours predict, for example train=False"
        )
    if "method" in kwargs:
        kwargs["method"] = unbound(kwargs["method"])
    weights = (variables, Arguments(args, kwargs, per_input))
    return show(
        _Linen(module), weights, layer,
        layers=layers, dtype=dtype, grid=grid, channel_axis=channel_axis,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Linen:
    module: Any

    def __call__(self, weights: Any, inputs: Any) -> Any:
        from flax import errors
        from flax import linen as nn

        variables, arguments = weights
        args, kwargs = arguments.for_inputs(count_images(inputs))
        running: set[Path] = set()

        def tap(next_call: Any, call_args: Any, call_kwargs: Any, context: Any) -> Any:
            path = context.module.path
            # A call of super().__call__ is a call of the same layer.
            if not path or context.method_name != "__call__" or path in running:
                return next_call(*call_args, **call_kwargs)
            running.add(path)
            output = next_call(*call_args, **call_kwargs)
            running.remove(path)
            return mark(output, path, type(context.module).__name__)

        try:
            with nn.intercept_methods(tap):
                return self.module.apply(variables, inputs, *args, **kwargs)
        except errors.ModifyScopeVariableError as error:
            found = "the call of the network updates its variables, as in training"
            raise ValueError(f"{found} ({_said(error)}). {TO_PREDICT}") from error
        except errors.InvalidRngError as error:
            found = "the network draws random numbers, as in training"
            raise ValueError(
                f"{found} ({_said(error)}). {TO_PREDICT}; or rngs=, if it also draws in prediction"
            ) from error
        except errors.ScopeCollectionNotFound as error:
            raise ValueError(
                f"variables has the collections {list(variables)}, and the network wants another "
                f'({_said(error)}). Pass them all: {{"params": ..., "batch_stats": ...}}'
            ) from error


def _said(error: Exception) -> str:
    """What an error of Flax says, without the link."""
    return str(error).partition(" (http")[0].rstrip(".")
