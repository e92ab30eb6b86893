"""Models written in Flax Linen."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from scorecam_jax.adapters import layers as _layers
from scorecam_jax.adapters.layers import Edit, LayerInfo, Path
from scorecam_jax.trees import Static, join_arrays, split_arrays

_COLLECTION = "scorecam_jax"


def from_linen(
    module: nn.Module,
    variables: Any,
    layer: str | Sequence[str | int] | None = None,
    *args: Any,
    dtype: Any = None,
    **kwargs: Any,
) -> jax.tree_util.Partial:
    """Show one layer of a Flax Linen model.

    Args:
        module: called as `module.apply(variables, inputs, *args, **kwargs)`.
        variables: its variables, `{"params": ..., "batch_stats": ...}`.
        layer: the path of a submodule, `"layer4/block_1"` or `("layer4", "block_1")`. None picks
            the last one, in execution order, whose output still has a spatial grid.
        *args: passed to `apply` after the inputs.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.
        **kwargs: passed to `apply`, for example `train=False` or `rngs=...`.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`.

    Raises:
        TypeError: `mutable` is among the arguments; a model is explained as it predicts.
        ValueError: when called, if the layer is unknown or runs more than once.
    """
    if "mutable" in kwargs:
        raise TypeError(
            "from_linen does not take mutable=: a model is explained as it predicts. Pass what "
            "makes yours predict, for example train=False"
        )
    arrays, static = split_arrays((args, kwargs))
    call = _LinenCall(module, static, _layers.parse_path(layer), dtype)
    return jax.tree_util.Partial(call, _layers.cast(variables, dtype), arrays)


@dataclasses.dataclass(frozen=True)
class _LinenCall:
    module: nn.Module
    static: Static
    layer: Path | None
    dtype: Any

    def __call__(
        self, variables: Any, arrays: list[Any], inputs: jax.Array, edit: Edit | None = None
    ) -> tuple[Any, jax.Array]:
        path = self.layer or _layers.default_layer(self.layers(variables, arrays, inputs), inputs)

        def tap(next_call: Any, call_args: Any, call_kwargs: Any, context: Any) -> Any:
            output = next_call(*call_args, **call_kwargs)
            if context.module.path == path and context.method_name == "__call__":
                output = _layers.edit_first(output, edit)
                context.module.sow(_COLLECTION, "activations", _layers.first_array(output))
            return output

        with nn.intercept_methods(tap):
            outputs, sown = self._apply(variables, arrays, inputs, mutable=[_COLLECTION])
        seen = jax.tree.leaves(sown)
        if not seen:
            found = self.layers(variables, arrays, inputs)
            if "/".join(path) in [layer.path for layer in found]:
                raise ValueError(
                    f"layer {'/'.join(path)!r} runs inside nn.scan or nn.vmap, which keeps its "
                    "activations in; name a layer around it"
                )
            raise _layers.unknown_layer(path, found)
        if len(seen) > 1:
            raise _layers.repeated_layer(path)
        return outputs, seen[0]

    def layers(self, variables: Any, arrays: list[Any], inputs: jax.Array) -> list[LayerInfo]:
        found: list[LayerInfo] = []

        def tap(next_call: Any, call_args: Any, call_kwargs: Any, context: Any) -> Any:
            output = next_call(*call_args, **call_kwargs)
            if context.module.path and context.method_name == "__call__":
                kind = type(context.module).__name__
                found.extend(_layers.layer_info(context.module.path, kind, output))
            return output

        with nn.intercept_methods(tap):
            jax.eval_shape(self._apply, variables, arrays, inputs)
        return list(dict.fromkeys(found))

    def _apply(self, variables: Any, arrays: list[Any], inputs: jax.Array, **mutable: Any) -> Any:
        args, kwargs = join_arrays(arrays, self.static)
        inputs = _layers.cast(inputs, self.dtype)
        return self.module.apply(variables, inputs, *args, **kwargs, **mutable)
