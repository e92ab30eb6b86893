"""What every adapter shares: naming layers, finding them, and showing some of them."""

import collections
import dataclasses
import difflib
import functools
import importlib
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from scorecam_jax._internal.keys import Static
from scorecam_jax._internal.per_input import split_inputs
from scorecam_jax._internal.trees import cast
from scorecam_jax.adapters.adapted import Adapted, Network
from scorecam_jax.adapters.marks import Edit, Mark, Path, find_marks, replay
from scorecam_jax.adapters.tokens import Grid, TokenView

Layer: TypeAlias = str | tuple[str | int, ...]
Layers: TypeAlias = Layer | list[Layer] | None


class Model(Protocol):
    """A network that shows one of its layers.

    Called with `inputs` (N, *spatial, C) it returns `(outputs, activations)`: `outputs` is any
    pytree of arrays with leading axis N, `activations` is (N, *grid, K).

    `edit`, a function from activations to activations of the same shape, is applied where they
    arise, and the rest of the network runs on what it returns; the returned activations are the
    edited ones. Laws:

    - without `edit` the outputs are the network's own;
    - `edit=lambda a: a` changes nothing;
    - `edit=lambda a: b` makes the outputs a function of `b` alone, along this layer's path.

    A model of several layers (`layer=[...]`) returns a tuple of activations, and `edit` is a tuple
    of one function, or None, for each.

    Methods that only mask the input never pass `edit`, so a plain function
    `inputs -> (outputs, activations)` serves them as well.
    """

    def __call__(self, inputs: Any, edit: Any = None) -> tuple[Any, Any]:
        """Run the network."""


class LayerInfo(NamedTuple):
    """One layer of a model, as `list_layers` reports it.

    Attributes:
        path: what to pass as `layer`, for example `"layer4/block_1"`.
        kind: the name of the layer's class.
        shape: the shape of its output (of the first array, if it returns several).
    """

    path: str
    kind: str
    shape: tuple[int, ...]


def list_layers(model: Any, inputs: Any) -> list[LayerInfo]:
    """The layers of `model` that can be explained, in the order in which they finish.

    Args:
        model: what an adapter such as `from_linen` returned (with any `layer`, or None).
        inputs: an input batch (N, *spatial, C), or its `jax.ShapeDtypeStruct`; nothing is computed.

    Raises:
        TypeError: `model` was not made by an adapter.
    """
    if not isinstance(getattr(model, "func", None), _Shown):
        raise TypeError(
            f"cannot list the layers of a {type(model).__name__}: only models made by an adapter "
            "(from_linen, from_nnx, from_equinox, from_haiku, from_keras) know their layers"
        )
    model, image = split_inputs(model, inputs)
    return model.func.layers(*model.args, image)


def show(
    run: Callable[[Any, Any], Any],
    weights: Any,
    layer: Layers,
    *,
    dtype: Any = None,
    grid: Grid | None = None,
    channel_axis: int = -1,
) -> jax.tree_util.Partial:
    """The Model of a network that marks its layers.

    Args:
        run: `(weights, inputs) -> outputs`; what it holds beside functions is compared by value.
        weights: any pytree of arrays.
        layer: the path of a layer, a list of several, or None.
        dtype: what floating-point weights and inputs are cast to.
        grid: how token activations form a grid.
        channel_axis: where inputs, and that grid, have their channels.
    """
    paths = layer if isinstance(layer, list) else [layer]
    call = _Shown(
        Network(run, channel_axis),
        tuple(None if path is None else parse_path(path) for path in paths),
        isinstance(layer, list),
        dtype,
        None if grid is None else TokenView(tuple(grid), channel_axis),
    )
    return Adapted(call, cast(weights, dtype))


@dataclasses.dataclass(frozen=True)
class _Shown:
    run: Network
    paths: tuple[Path | None, ...]
    several: bool
    dtype: Any
    tokens: TokenView | None

    def __call__(self, weights: Any, inputs: Any, edit: Any = None) -> tuple[Any, Any]:
        if edit is None:
            return _read(Static(self), weights, inputs)
        return self.replay(weights, inputs, edit)

    def replay(self, weights: Any, inputs: Any, edit: Any) -> tuple[Any, Any]:
        traced, shapes = self._trace(weights, inputs)
        marks = find_marks(traced.jaxpr)
        paths = [path or self._default(marks, inputs) for path in self.paths]
        for path in paths:
            _check_layer(path, marks)
        edits = dict(zip(paths, self._edits(edit), strict=True))
        arguments = jax.tree.map(jnp.asarray, jax.tree.leaves((weights, inputs)))
        outputs, seen = replay(traced.jaxpr, traced.consts, arguments, edits)
        view = self.tokens.to_grid if self.tokens else lambda activations: activations
        shown = tuple(view(seen[path]) for path in paths)
        outputs = jax.tree.unflatten(jax.tree.structure(shapes), outputs)
        return outputs, shown if self.several else shown[0]

    def layers(self, weights: Any, inputs: Any) -> list[LayerInfo]:
        return _explainable(find_marks(self._trace(weights, inputs)[0].jaxpr))

    def _trace(self, weights: Any, inputs: Any) -> tuple[Any, Any]:
        def run(weights: Any, inputs: Any) -> Any:
            return self.run(weights, cast(inputs, self.dtype))

        return jax.make_jaxpr(run, return_shape=True)(weights, inputs)

    def _default(self, marks: list[Mark], inputs: Any) -> Path:
        return default_layer(_explainable(marks), inputs, self.tokens)

    def _edits(self, edit: Any) -> list[Edit | None]:
        edits = edit if self.several and edit is not None else [edit] * len(self.paths)
        if callable(edits) or len(edits) != len(self.paths):
            raise TypeError(
                f"this model shows {len(self.paths)} layers, so edit takes a tuple of "
                f"{len(self.paths)} functions, one for each (None leaves a layer as it is)"
            )
        return [None if edit is None else self._checked(edit) for edit in edits]

    def _checked(self, edit: Edit) -> Edit:
        def checked(activations: jax.Array) -> jax.Array:
            seen = self.tokens.to_grid(activations) if self.tokens else activations
            edited = jnp.asarray(edit(seen))
            if edited.shape != seen.shape:
                raise ValueError(
                    f"edit returned shape {edited.shape}, wanted the activations' {seen.shape}"
                )
            edited = edited.astype(seen.dtype)
            return self.tokens.from_grid(edited, activations) if self.tokens else edited

        return checked


# Compiled as a whole, so that reading a layer outside jit is not one program an operation, and
# traced once, however often a method reads.
_read = functools.partial(jax.jit, static_argnums=0)(
    lambda shown, weights, inputs: shown.value.replay(weights, inputs, None)
)


def parse_path(layer: Layer) -> Path:
    """`"a/b"` and `("a", "b")` name the same layer."""
    return tuple(layer.split("/")) if isinstance(layer, str) else tuple(map(str, layer))


def default_layer(layers: list[LayerInfo], inputs: Any, tokens: TokenView | None) -> Path:
    """The last layer, in execution order, whose output still has a spatial grid."""
    for layer in reversed(layers):
        if layer.shape[:1] == inputs.shape[:1] and (
            tokens.accepts(layer.shape) if tokens else _has_grid(layer.shape, inputs.ndim)
        ):
            return parse_path(layer.path)
    wanted = f"tokens for {tokens}" if tokens else f"a spatial grid, like the inputs {inputs.shape}"
    raise ValueError(
        f"no layer returns activations with {wanted}; name one with layer=, and for tokens pass "
        f"grid=(height, width). Layers: {_listing(layers)}"
    )


def _has_grid(shape: tuple[int, ...], rank: int) -> bool:
    return len(shape) == rank and math.prod(shape[1:]) > max(shape[1], shape[-1])


def _explainable(marks: list[Mark]) -> list[LayerInfo]:
    outside = [mark for mark in marks if not mark.inside]
    runs = collections.Counter(mark.path for mark in outside)
    return [
        LayerInfo("/".join(mark.path), mark.kind, mark.shape)
        for mark in outside
        if runs[mark.path] == 1
    ]


def _check_layer(path: Path, marks: list[Mark]) -> None:
    runs = [mark for mark in marks if mark.path == path]
    name = "/".join(path)
    if not runs:
        raise unknown_layer(name, _explainable(marks))
    if runs[0].inside:
        raise ValueError(
            f"layer {name!r} runs inside {runs[0].inside}, which keeps its activations in; name a "
            "layer around it"
        )
    if len(runs) > 1:
        raise ValueError(
            f"layer {name!r} is called more than once in a forward pass, so which activations are "
            "meant is ambiguous; name a layer around it, or one that runs once"
        )


def unknown_layer(name: str, layers: list[LayerInfo]) -> ValueError:
    """The error for a layer that the forward pass never runs, naming the nearest ones."""
    names = [layer.path for layer in layers]
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
    near += [other for other in names if name in other and other not in near][: 5 - len(near)]
    hint = f"Nearest: {', '.join(map(repr, near))}" if near else f"Layers: {_listing(layers)}"
    return ValueError(
        f"no layer {name!r} runs in this model's forward pass. {hint}. "
        "list_layers(model, inputs) shows them all."
    )


def _listing(layers: list[LayerInfo]) -> str:
    return ", ".join(f"{layer.path!r} {layer.shape}" for layer in layers[-12:]) or "none"


def require(package: str, extra: str) -> ModuleType:
    """Import a framework; ImportError that names the extra to install if it is not there."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"from_{extra} needs {package}: pip install 'scorecam_jax[{extra}]'"
        ) from error
