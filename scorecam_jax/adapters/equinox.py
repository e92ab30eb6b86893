"""Models written in Equinox."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from scorecam_jax._internal.extras import required
from scorecam_jax._internal.frameworks import check_network
from scorecam_jax._internal.keys import Static
from scorecam_jax._internal.trees import join_arrays, split_arrays
from scorecam_jax.adapters.adapted import Adapted, call, check_state, unbound, updated
from scorecam_jax.adapters.model import show
from scorecam_jax.adapters.tokens import Grid
from scorecam_jax.contract.per_input import Arguments, count_images
from scorecam_jax.program.marks import Path, marked_class


def from_equinox(
    model: Any,
    layer: Any = None,
    *args: Any,
    method: str | Callable[..., Any] | None = None,
    state: Any = None,
    layers: int | None = None,
    dtype: Any = None,
    grid: Grid | None = None,
    channel_axis: int = 1,
    per_input: Any = (),
    **kwargs: Any,
) -> Adapted:
    """Show one layer of an Equinox model.

    Equinox's convolutions take one channels-first example, so the model is vmapped over a batch
    (N, C, *spatial), its activations are (N, K, *grid), and methods take `channel_axis=1`.

    Args:
        model: called on one example, as `model(x, *args, **kwargs)`, or with `state` as
            `model(x, state, *args, **kwargs)`, returning `(outputs, state)`. It is copied by
            `eqx.nn.inference_mode` and is itself left as it is.
        layer: the path of a submodule, `"layers/3/conv"` or `("layers", 3, "conv")`, or a function
            that picks it, `lambda model: model.layers[3].conv`. None picks one, see
            `from_nnx`. A list shows several layers.
        *args: passed to the model after the example, and after `state`.
        method: what is called instead of the model: the name of one of its methods, or a function
            `method(model, x, ...)`.
        state: the `eqx.nn.State` of a model with BatchNorm, from `eqx.nn.make_with_state`.
        layers: how many layers to show, by rule: `layer` and others before it; see `from_nnx`.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.
        grid: for layers of tokens (tokens, K), the `(height, width)` of their grid; see `from_nnx`.
        channel_axis: where the inputs, and the activations, have their channels; methods read it
            from the model.
        per_input: a list of further positional arguments, or a dict of further keyword arguments,
            each with one row per image, of which the model takes its example's; see
            `scorecam_jax.per_input`.
        **kwargs: passed to the model, for example `key=None`.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`.

    Raises:
        ImportError: Equinox is not installed.
        ValueError: `layer` picks no submodule; or, when called, the layer is unknown, runs more
            than once, or runs in a loop.
    """
    eqx = required("equinox", "equinox", by="from_equinox")
    check_network(model, "from_equinox")
    paths = {id(node): path for path, node in reversed(list(_modules(model, (), eqx)))}

    def find(layer: Any) -> Any:
        if isinstance(layer, list):
            return [find(each) for each in layer]
        if not callable(layer):
            return layer
        picked = layer(model)
        if id(picked) not in paths:
            raise ValueError(
                f"layer picked {type(picked).__name__}, wanted a callable submodule of the model, "
                "such as lambda model: model.layers[3]"
            )
        return paths[id(picked)]

    marked = _marked(eqx.nn.inference_mode(model), (), eqx)
    arrays, static = split_arrays((marked, state))
    weights = (arrays, Arguments(args, kwargs, per_input))
    run = _Equinox(static, state is not None, unbound(method))
    return show(
        run, weights, find(layer), layers=layers, dtype=dtype, grid=grid, channel_axis=channel_axis
    )


@dataclasses.dataclass(frozen=True)
class _Equinox:
    static: Static
    stateful: bool
    method: str | Callable[..., Any] | None

    def __call__(self, weights: Any, inputs: Any) -> Any:
        arrays, arguments = weights
        model, state = join_arrays(arrays, self.static)
        first = (state,) if self.stateful else ()

        def single(x: Any, rows: Any) -> Any:
            args, kwargs = arguments.fill(rows)
            outputs = call(model, self.method, x, *first, *args, **kwargs)
            if not self.stateful:
                return outputs
            outputs, after = outputs
            check_state(updated(arrays, after))
            return outputs

        return jax.vmap(single)(inputs, arguments.rows(count_images(inputs)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Equinox's modules pickle, but what JAX keeps of their structure does not.
        treedef, settings = self.static.value
        holes = [_Hole if setting is None else setting for setting in settings]
        return _rebuild, (jax.tree.unflatten(treedef, holes), self.stateful, self.method)


class _Hole:
    """Where a pickled model has an array."""


def _rebuild(tree: Any, stateful: bool, method: Any) -> _Equinox:
    leaves, treedef = jax.tree.flatten(tree)
    settings = tuple(None if leaf is _Hole else leaf for leaf in leaves)
    return _Equinox(Static((treedef, settings)), stateful, method)


def _children(node: Any, eqx: Any) -> dict[str, Any]:
    if isinstance(node, eqx.Module):
        fields = [f.name for f in dataclasses.fields(node) if not f.metadata.get("static")]
        return {name: getattr(node, name) for name in fields if hasattr(node, name)}
    if isinstance(node, list | tuple):
        return {str(i): child for i, child in enumerate(node)}
    if isinstance(node, dict):
        return {str(key): child for key, child in node.items()}
    return {}


def _modules(node: Any, path: Path, eqx: Any) -> Iterator[tuple[Path, Any]]:
    if path and isinstance(node, eqx.Module) and callable(node):
        yield path, node
    for name, child in _children(node, eqx).items():
        yield from _modules(child, (*path, name), eqx)


def _marked(node: Any, path: Path, eqx: Any) -> Any:
    children = {
        name: _marked(child, (*path, name), eqx) for name, child in _children(node, eqx).items()
    }
    if isinstance(node, eqx.Module):
        # A subclass, unlike a wrapper, keeps a layer's attributes and what isinstance says of it.
        kind: Any = type(node)
        copy: Any = object.__new__(marked_class(kind, path) if path and callable(node) else kind)
        for field in dataclasses.fields(node):
            if hasattr(node, field.name):
                value = children.get(field.name, getattr(node, field.name))
                object.__setattr__(copy, field.name, value)
        return copy
    if isinstance(node, dict):
        return type(node)({key: children[str(key)] for key in node})
    if isinstance(node, list | tuple):
        values = children.values()
        return type(node)(*values) if hasattr(node, "_fields") else type(node)(values)
    return node
