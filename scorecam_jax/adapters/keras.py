"""Models written in Keras 3 on its JAX backend."""

import contextlib
import dataclasses
import functools
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from scorecam_jax.adapters.marks import Path, mark
from scorecam_jax.adapters.model import Layers, require, show
from scorecam_jax.adapters.tokens import Grid

# Held while a model is traced, so that two threads do not mark its layers at once.
_TRACING = threading.RLock()


def from_keras(
    model: Any, layer: Layers = None, *, dtype: Any = None, grid: Grid | None = None
) -> jax.tree_util.Partial:
    """Show one layer of a Keras model: sequential, functional or subclassed.

    Args:
        model: called as `model(inputs, training=False)`; built, and itself left as it is.
        layer: the name of a layer, `"block_16_project"`, or for one inside a nested model or layer
            the path of names, `"backbone/conv5_block3_out"`. None picks the last one, in execution
            order, whose output still has a spatial grid. A list of paths shows several layers.
        dtype: run the network in this floating-point type, for example `jnp.bfloat16`.
        grid: for layers of tokens (N, tokens, K), the `(height, width)` of their grid; see
            `from_nnx`.

    Returns:
        A `Model` whose weights are arguments: it can be passed through `jax.jit`.

    Raises:
        ImportError: Keras is not installed.
        RuntimeError: Keras runs on another backend.
        ValueError: when called, if the layer is unknown, runs more than once, or runs in a loop.
    """
    keras = require("keras", "keras")
    backend = keras.backend.backend()
    if backend != "jax":
        raise RuntimeError(
            f"Keras runs on {backend!r}, wanted 'jax': set the environment variable "
            "KERAS_BACKEND=jax before keras is imported"
        )
    name = None if dtype is None else jnp.dtype(dtype).name
    weights = tuple(
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    )
    # The layers themselves cast to the type that they compute in.
    return show(_Keras(model, name), weights, layer, grid=grid)


@dataclasses.dataclass(frozen=True)
class _Keras:
    model: Any
    dtype: str | None

    def __call__(self, weights: Any, inputs: jax.Array) -> Any:
        with _TRACING, self._marked():
            mode = {"training": False} if _takes_training(self.model) else {}
            return self.model.stateless_call(*weights, inputs, **mode)[0]

    @contextlib.contextmanager
    def _marked(self) -> Iterator[None]:
        # Keras has no hooks: for the time of a trace the layers are of classes that mark.
        layers = dict(_layers(self.model, ()))
        kinds: dict[Path, Any] = {path: type(layer) for path, layer in layers.items()}
        try:
            for path, layer in layers.items():
                object.__setattr__(layer, "__class__", _marked_class(kinds[path], path, self.dtype))
            yield
        finally:
            for path, layer in layers.items():
                object.__setattr__(layer, "__class__", kinds[path])


def _takes_training(model: Any) -> bool:
    return "training" in inspect.signature(model.call).parameters


def _layers(parent: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    for layer in parent._flatten_layers(include_self=False, recursive=False):
        inner = (*path, *layer.name.split("/"))
        yield inner, layer
        yield from _layers(layer, inner)


@functools.cache
def _marked_class(kind: Any, path: Path, dtype: str | None) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = kind.__call__(self, *args, **kwargs)
        marked = mark(output, path, kind.__name__)
        mask = getattr(output, "_keras_mask", None)
        if mask is not None:
            marked._keras_mask = mask
        return marked

    body = {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind)(kind.__name__, (kind,), body | ({"compute_dtype": dtype} if dtype else {}))
