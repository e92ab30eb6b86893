"""What the adapters share: naming a layer, finding it, and editing what it returns."""

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp

from scorecam_jax.trees import is_array

Path: TypeAlias = tuple[str, ...]
Edit: TypeAlias = Callable[[jax.Array], jax.Array]


class Model(Protocol):
    """A network that shows one of its layers.

    Called with `inputs` (N, *spatial, C) it returns `(outputs, activations)`: `outputs` is any
    pytree of arrays with leading axis N, `activations` is (N, *grid, K).

    `edit`, a function from activations to activations, is applied where they arise, and the rest
    of the network runs on what it returns; the returned activations are the edited ones. Laws:

    - without `edit` the outputs are the network's own;
    - `edit=lambda a: a` changes nothing;
    - `edit=lambda a: b` makes the outputs a function of `b` alone, along this layer's path.

    Methods that only mask the input never pass `edit`, so a plain function
    `inputs -> (outputs, activations)` serves them as well.
    """

    def __call__(self, inputs: Any, edit: Edit | None = None) -> tuple[Any, jax.Array]:
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
    layers = getattr(getattr(model, "func", None), "layers", None)
    if layers is None:
        raise TypeError(
            f"cannot list the layers of a {type(model).__name__}: only models made by an adapter "
            "(from_linen, from_nnx, from_equinox, from_haiku, from_keras) know their layers"
        )
    return layers(*model.args, inputs)


def parse_path(layer: "str | Sequence[str | int] | None") -> Path | None:
    """`"a/b"` and `("a", "b")` name the same layer; None leaves the choice to `default_layer`."""
    if layer is None:
        return None
    parts = layer.split("/") if isinstance(layer, str) else layer
    return tuple(str(part) for part in parts)


def default_layer(layers: list[LayerInfo], inputs: Any) -> Path:
    """The last layer, in execution order, whose output still has a spatial grid."""
    for layer in reversed(layers):
        if len(layer.shape) == inputs.ndim and math.prod(layer.shape[1:]) > max(
            layer.shape[1], layer.shape[-1]
        ):
            return tuple(layer.path.split("/"))
    raise ValueError(
        f"no layer returns activations of rank {inputs.ndim} with a spatial grid, like the "
        f"inputs {inputs.shape}; name one with layer=. Layers: {_listing(layers)}"
    )


def unknown_layer(path: Path, layers: list[LayerInfo]) -> ValueError:
    """The error for a layer that the forward pass never runs, naming the nearest ones."""
    name = "/".join(path)
    names = [layer.path for layer in layers]
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.4)
    near += [other for other in names if name in other and other not in near][: 5 - len(near)]
    hint = f"Nearest: {', '.join(map(repr, near))}" if near else f"Layers: {_listing(layers)}"
    return ValueError(
        f"no layer {name!r} runs in this model's forward pass. {hint}. "
        "list_layers(model, inputs) shows them all."
    )


def repeated_layer(path: Path) -> ValueError:
    """The error for a layer called more than once in a forward pass."""
    return ValueError(
        f"layer {'/'.join(path)!r} is called more than once in a forward pass, so which "
        "activations are meant is ambiguous; name a layer around it, or one that runs once"
    )


def _listing(layers: list[LayerInfo]) -> str:
    return ", ".join(f"{layer.path!r} {layer.shape}" for layer in layers[-12:]) or "none"


def first_array(output: Any) -> jax.Array:
    """The activations in what a layer returned: itself, or the first array of a tuple."""
    return jax.tree.leaves(output)[0]


def edit_first(output: Any, edit: Edit | None) -> Any:
    """What a layer returned, with its first array edited."""
    if edit is None:
        return output
    leaves, tree = jax.tree.flatten(output)
    return tree.unflatten([edit(leaves[0]), *leaves[1:]])


def layer_info(path: Path, kind: str, output: Any) -> list[LayerInfo]:
    """The entry of a layer that returned `output`; none if it returned no array."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(output) if hasattr(leaf, "shape")]
    return [LayerInfo("/".join(path), kind, tuple(shapes[0]))] if shapes else []


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating-point array of `tree` in `dtype`; unchanged if `dtype` is None."""
    if dtype is None:
        return tree

    def convert(leaf: Any) -> Any:
        floating = is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if floating else leaf

    return jax.tree.map(convert, tree)
