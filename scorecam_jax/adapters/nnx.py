"""Models written in Flax NNX."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from scorecam_jax.adapters import layers as _layers
from scorecam_jax.adapters.layers import Edit, LayerInfo, Path

# Where a tapped layer keeps its tap, and what it returned.
_TAP, _SEEN = "_scorecam_tap", "_scorecam_activations"


def from_nnx(
    model: nnx.Module, layer: str | Sequence[str | int] | None = None, *, dtype: Any = None
) -> jax.tree_util.Partial:
    """Show one layer of a Flax NNX model.

    Args:
        model: called as `model(inputs)`. It is copied as after `model.eval()` (BatchNorm uses its
            running statistics, Dropout does nothing) and is itself left as it is.
        layer: the path of a submodule, `"blocks/3/conv"` or `("blocks", 3, "conv")`. None picks
            the last one, in execution order, whose output still has a spatial grid.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`.

    Raises:
        ValueError: when called, if the layer is unknown or runs more than once.
    """
    copy = nnx.merge(*nnx.split(model))
    copy.eval()
    graphdef, state = nnx.split(copy)
    call = _NnxCall(graphdef, _layers.parse_path(layer), dtype)
    return jax.tree_util.Partial(call, _layers.cast(state, dtype))


@dataclasses.dataclass(frozen=True)
class _NnxCall:
    graphdef: nnx.GraphDef
    layer: Path | None
    dtype: Any

    def __call__(
        self, state: nnx.State, inputs: jax.Array, edit: Edit | None = None
    ) -> tuple[Any, jax.Array]:
        path = self.layer or _layers.default_layer(self.layers(state, inputs), inputs)
        model, modules = self._rebuild(state)
        if path not in modules:
            raise _layers.unknown_layer(path, self.layers(state, inputs))
        layer = modules[path]

        def tap(module: nnx.Module, output: Any) -> Any:
            if hasattr(module, _SEEN):
                raise _layers.repeated_layer(path)
            output = _layers.edit_first(output, edit)
            # A Variable of the module that runs: that is what leaves nnx.remat and nnx.jit.
            setattr(module, _SEEN, nnx.Intermediate(_layers.first_array(output)))
            return output

        _tap(layer, tap)
        outputs = model(_layers.cast(inputs, self.dtype))
        if not hasattr(layer, _SEEN):
            raise _layers.unknown_layer(path, self.layers(state, inputs))
        return outputs, getattr(layer, _SEEN).get_value()

    def layers(self, state: nnx.State, inputs: jax.Array) -> list[LayerInfo]:
        found: list[LayerInfo] = []

        def run(state: nnx.State, inputs: jax.Array) -> Any:
            model, modules = self._rebuild(state)
            for path, module in modules.items():

                def tap(module: nnx.Module, output: Any, path: Path = path) -> Any:
                    found.extend(_layers.layer_info(path, type(module).__name__, output))
                    return output

                _tap(module, tap)
            return model(_layers.cast(inputs, self.dtype))

        jax.eval_shape(run, state, inputs)
        return found

    def _rebuild(self, state: nnx.State) -> tuple[nnx.Module, dict[Path, nnx.Module]]:
        # The mapped state has Variables of the present trace, which transforms inside may update.
        model = nnx.merge(self.graphdef, jax.tree.map(lambda leaf: leaf, state))
        modules = {
            tuple(map(str, path)): module
            for path, module in nnx.iter_modules(model)
            if path and callable(module)
        }
        return model, modules


def _tap(module: nnx.Module, tap: Callable[[nnx.Module, Any], Any]) -> None:
    # A subclass, unlike a wrapper, keeps the layer's attributes and its place among its siblings.
    object.__setattr__(module, "__class__", _tapped(type(module)))
    object.__setattr__(module, _TAP, tap)


@functools.cache
def _tapped(kind: type) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, _TAP)(self, kind.__call__(self, *args, **kwargs))

    return type(kind)(kind.__name__, (kind,), {"__call__": call})
