"""Models written in Keras 3 on its JAX backend."""

import contextlib
import dataclasses
import functools
import inspect
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from scorecam_jax._internal.extras import required
from scorecam_jax._internal.frameworks import check_network
from scorecam_jax.adapters.adapted import Adapted, check_state, updated
from scorecam_jax.adapters.model import Layers, parse_path, show
from scorecam_jax.adapters.tokens import Grid
from scorecam_jax.contract.per_input import Arguments, count_images
from scorecam_jax.program.marks import Path, mark

# Held while a model is traced, so that two threads do not mark its layers at once.
_TRACING = threading.RLock()


def from_keras(
    model: Any,
    layer: Layers = None,
    *args: Any,
    layers: int | None = None,
    dtype: Any = None,
    grid: Grid | None = None,
    channel_axis: int = -1,
    per_input: Any = (),
    **kwargs: Any,
) -> Adapted:
    """Show one layer of a Keras model: sequential, functional or subclassed.

    Args:
        model: called as `model(inputs, *args, training=False, **kwargs)`; built, and itself left as
            it is. Its weights are read whenever it is explained, so after `fit` they are the new
            ones.
        layer: the name of a layer, or of an operation of a functional model, `"add_17"`; or for one
            inside a nested model or layer the path of names, `"backbone/conv5_block3_out"`. None
            picks one, see `from_nnx`. A list of paths shows several layers.
        *args: passed to the model after the inputs.
        layers: how many layers to show, by rule: `layer` and others before it; see `from_nnx`.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.
        grid: for layers of tokens (N, tokens, K), the `(height, width)` of their grid; see
            `from_nnx`.
        channel_axis: where the inputs, and the activations, have their channels; methods read it
            from the model.
        per_input: a list of further positional arguments, or a dict of further keyword arguments,
            each with one row per image; see `scorecam_jax.per_input`.
        **kwargs: passed to the model.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`.

    Raises:
        ImportError: Keras is not installed.
        RuntimeError: Keras runs on another backend.
        ValueError: several layers have that name; or, when called, the layer is unknown, runs more
            than once, or runs in a loop.
    """
    keras = required("keras", "keras", by="from_keras")
    check_network(model, "from_keras")
    backend = keras.backend.backend()
    if backend != "jax":
        raise RuntimeError(
            f"Keras runs on {backend!r}, wanted 'jax': set the environment variable "
            "KERAS_BACKEND=jax before keras is imported"
        )
    name = None if dtype is None else jnp.dtype(dtype).name
    for path in layer if isinstance(layer, list) else [layer]:
        _check_unambiguous(model, path, keras)
    weights = (_Variables(model), Arguments(args, kwargs, per_input))
    # The layers themselves cast to the type that they compute in.
    return show(
        _Keras(model, name), weights, layer, layers=layers, grid=grid, channel_axis=channel_axis
    )


@jax.tree_util.register_pytree_node_class
class _Variables:
    """A model's trainable and other variables, as a pytree of their values at the time."""

    def __init__(self, model: Any, values: Any = None) -> None:
        self.model = model
        self.values = values

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        if self.values is not None:
            return (self.values,), None
        both = (self.model.trainable_variables, self.model.non_trainable_variables)
        return ([[variable.value for variable in variables] for variables in both],), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> "_Variables":
        return cls(None, *children)


@dataclasses.dataclass(frozen=True)
class _Keras:
    model: Any
    dtype: str | None

    def __call__(self, weights: Any, inputs: Any) -> Any:
        variables, arguments = weights
        args, kwargs = arguments.for_inputs(count_images(inputs))
        with _TRACING, self._marked():
            mode = {"training": False} if _takes_training(self.model) else {}
            kwargs = {**mode, **kwargs}
            outputs, after = self.model.stateless_call(*variables.values, inputs, *args, **kwargs)
        names = [variable.path for variable in self.model.non_trainable_variables]
        check_state([names[int(place)] for place in updated(variables.values, after)])
        return outputs

    @contextlib.contextmanager
    def _marked(self) -> Iterator[None]:
        # Keras has no hooks: for the time of a trace the layers are of classes that mark.
        found = _layers(self.model, (), required("keras", "keras", by="from_keras"))
        layers = {path: layer for path, _, layer in found}
        kinds: dict[Path, Any] = {path: type(layer) for path, layer in layers.items()}
        try:
            for path, layer in layers.items():
                kind = _marked_class(kinds[path], path, self.dtype)
                object.__setattr__(layer, "__class__", kind)
            yield
        finally:
            for path, layer in layers.items():
                object.__setattr__(layer, "__class__", kinds[path])


def _takes_training(model: Any) -> bool:
    return "training" in inspect.signature(model.call).parameters


class _Named(NamedTuple):
    path: Path
    called: Path
    layer: Any


def _layers(parent: Any, path: Path, keras: Any) -> Iterator[_Named]:
    for name, alike in _children(parent, keras).items():
        for number, layer in enumerate(alike, 1):
            # Siblings may have one name. Their numbers keep their activations apart.
            which = f" ({number} of {len(alike)})" if len(alike) > 1 else ""
            inner = (*path, *f"{name}{which}".split("/"))
            yield _Named(inner, (*path, *name.split("/")), layer)
            if isinstance(layer, keras.Layer):
                yield from _layers(layer, inner, keras)


def _children(parent: Any, keras: Any) -> dict[str, list[Any]]:
    children = {id(each): each for each in parent._flatten_layers(False, recursive=False)}
    if isinstance(parent, keras.Function):
        children |= {id(each): each for each in parent.operations}
    named: dict[str, list[Any]] = {}
    for child in children.values():
        named.setdefault(child.name, []).append(child)
    return named


def _check_unambiguous(model: Any, layer: Any, keras: Any) -> None:
    if layer is None:
        return
    path = parse_path(layer)
    layers = list(_layers(model, (), keras))
    for end in range(1, len(path) + 1):
        alike = [each.path for each in layers if each.called == path[:end] != each.path]
        if alike:
            raise ValueError(
                f"{len(alike)} layers are called {'/'.join(path[:end])!r}, so which is meant is "
                "ambiguous: give each a name of its own, or take one of "
                f"{['/'.join(path) for path in alike]}"
            )


@functools.cache
def _marked_class(kind: Any, path: Path, dtype: str | None) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = kind.__call__(self, *args, **kwargs)
        marked = mark(output, path, kind.__name__)
        mask = getattr(output, "_keras_mask", None)
        if mask is not None:
            marked._keras_mask = mask
        return marked

    casts = dtype is not None and hasattr(kind, "compute_dtype")
    body = {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind)(kind.__name__, (kind,), body | ({"compute_dtype": dtype} if casts else {}))
