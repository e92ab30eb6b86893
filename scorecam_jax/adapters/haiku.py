"""Models written in Haiku."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax

from scorecam_jax._internal.extras import required
from scorecam_jax._internal.frameworks import check_network
from scorecam_jax._internal.keys import Closure
from scorecam_jax.adapters.adapted import Adapted, check_state, updated
from scorecam_jax.adapters.model import Layers, parse_path, show
from scorecam_jax.adapters.tokens import Grid
from scorecam_jax.contract.per_input import Arguments, count_images
from scorecam_jax.program.marks import Path, mark


def from_haiku(
    transformed: Any,
    params: Any,
    layer: Layers = None,
    *args: Any,
    method: str | int | None = None,
    state: Any = None,
    rng: jax.Array | None = None,
    layers: int | None = None,
    dtype: Any = None,
    grid: Grid | None = None,
    channel_axis: int = -1,
    per_input: Any = (),
    **kwargs: Any,
) -> Adapted:
    """Show one layer of a Haiku model.

    Args:
        transformed: what `hk.transform`, `hk.transform_with_state`, `hk.multi_transform`,
            `hk.multi_transform_with_state` or `hk.without_apply_rng` made.
        params: its parameters.
        layer: the name of a module as it is in `params`, `"res_net/~/block_group_3"`. None picks
            one, see `from_nnx`. A list of names shows several layers.
        *args: passed to `apply` after the inputs.
        method: the name, or index, of the function that is called, for `hk.multi_transform`.
        state: its state, for `hk.transform_with_state`.
        rng: its random key, if it wants one even in evaluation.
        layers: how many layers to show, by rule: `layer` and others before it; see `from_nnx`.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.
        grid: for layers of tokens (N, tokens, K), the `(height, width)` of their grid; see
            `from_nnx`.
        channel_axis: where the inputs, and the activations, have their channels; methods read it
            from the model.
        per_input: a list of further positional arguments, or a dict of further keyword arguments,
            each with one row per image; see `scorecam_jax.per_input`.
        **kwargs: passed to `apply`, for example `is_training=False`.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`. Unlike those of
        other frameworks it does not pickle, as the functions that `hk.transform` makes do not.

    Raises:
        ImportError: Haiku is not installed.
        TypeError: `state` is missing, or is there for a network that keeps none.
        ValueError: `method` is missing or unknown; or, when called, the layer is unknown, runs more
            than once, or runs in a loop.
    """
    hk = required("haiku", "haiku", by="from_haiku")
    check_network(transformed, "from_haiku")
    several = isinstance(transformed, hk.MultiTransformed | hk.MultiTransformedWithState)
    stateful = isinstance(transformed, hk.TransformedWithState | hk.MultiTransformedWithState)
    if stateful and state is None:
        raise TypeError(
            "this network keeps a state, and state= is missing: "
            "params, state = transformed.init(key, inputs); from_haiku(..., state=state)"
        )
    if state is not None and not stateful:
        raise TypeError(
            "state= is for what hk.transform_with_state made; this network keeps none: leave it out"
        )
    apply = _function(transformed.apply, method) if several else transformed.apply
    if method is not None and not several:
        raise TypeError("method= is for what hk.multi_transform made: leave it out")
    wants_rng = "rng" in inspect.signature(apply).parameters
    first = [params, *[state] * stateful, *[rng] * wants_rng]
    weights = (first, Arguments(args, kwargs, per_input))
    return show(
        _Haiku(Closure(apply), stateful),
        weights,
        layer,
        layers=layers,
        dtype=dtype,
        grid=grid,
        channel_axis=channel_axis,
    )


def _function(functions: Any, method: str | int | None) -> Any:
    if hasattr(functions, "_asdict"):
        functions = functions._asdict()
    named = dict(functions if isinstance(functions, Mapping) else enumerate(functions))
    if method not in named:
        raise ValueError(
            f"method is {method!r}, wanted one of the network's functions: {list(named)}"
        )
    return named[method]


@dataclasses.dataclass(frozen=True)
class _Haiku:
    apply: Closure
    stateful: bool

    def __call__(self, weights: Any, inputs: Any) -> Any:
        hk = required("haiku", "haiku", by="from_haiku")
        first, arguments = weights
        args, kwargs = arguments.for_inputs(count_images(inputs))
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
            outputs = self.apply.function(*first, inputs, *args, **kwargs)
        if not self.stateful:
            return outputs
        outputs, state = outputs
        check_state(updated(first[1], state))
        return outputs
