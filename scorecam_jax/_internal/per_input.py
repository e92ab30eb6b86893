"""Inputs beside the image: arrays of one row per image, which follow it through every pass."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from scorecam_jax._internal.axes import channel_axis_of
from scorecam_jax._internal.notes import noting
from scorecam_jax._internal.trees import is_array, join_arrays, split_arrays


@jax.tree_util.register_pytree_node_class
class PerInput:
    """What `per_input` returns."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        """The arrays."""
        return (self.values,), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> "PerInput":
        """The inverse."""
        return cls(*children)

    def __repr__(self) -> str:
        return f"per_input({jax.tree.map(np.shape, self.values)})"


def per_input(values: Any) -> PerInput:
    """Declare a network's further input that has one row per image.

    Pass it to an adapter among the network's arguments. Each row then goes with its image through
    every masked pass, and is itself never masked. The model is called with as many images as there
    are rows.

    Args:
        values: an array (N, ...), or a pytree of such arrays.

    Raises:
        TypeError: there is no array in `values`.
        ValueError: an array has no axis for the images.

    >>> per_input(np.zeros((8, 4)))
    per_input((8, 4))
    """
    if isinstance(values, PerInput):
        return values
    leaves, tree = jax.tree.flatten(values)
    arrays = [leaf if hasattr(leaf, "shape") else np.asarray(leaf) for leaf in leaves]
    if not arrays or any(np.dtype(array.dtype).kind in "OSU" for array in arrays):
        raise TypeError(
            f"per_input takes an array with one row per image, found {type(values).__name__}"
        )
    for array in arrays:
        if not array.ndim:
            raise ValueError(
                "per_input takes an array with one row per image, found a scalar: pass a value "
                "that all images share as it is, without per_input"
            )
    return PerInput(jax.tree.unflatten(tree, arrays))


@jax.tree_util.register_pytree_node_class
class Arguments:
    """What a network takes after the image: a pytree whose leaves are the arrays among it."""

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any], declared: Any = ()) -> None:
        """Take arguments, and values of `per_input=` that extend them."""
        named = isinstance(declared, Mapping)
        if not named and not isinstance(declared, list | tuple):
            raise TypeError(
                f"per_input= is a {type(declared).__name__}, wanted a list of further positional "
                "arguments or a dict of further keyword arguments, each with one row per image"
            )
        positional = () if named else declared
        self.args = (*args, *map(per_input, positional))
        keywords = dict(declared) if named else {}
        if twice := sorted(keywords.keys() & kwargs.keys()):
            raise TypeError(f"{twice} are passed both as they are and in per_input=")
        self.kwargs = {**kwargs, **{name: per_input(value) for name, value in keywords.items()}}

    def tree_flatten(self) -> tuple[tuple[Any], Any]:
        """The arrays; the settings as they are now."""
        arrays, static = split_arrays((self.args, self.kwargs))
        return (arrays,), static

    @classmethod
    def tree_unflatten(cls, static: Any, children: tuple[Any]) -> "Arguments":
        """The inverse."""
        return cls(*join_arrays(*children, static))

    def rows(self, count: int) -> list[Any]:
        """The values of each `per_input`.

        Raises:
            ValueError: one has not as many rows as there are images.
        """
        found = [declared.values for declared in self._declared()]
        for array in jax.tree.leaves(found):
            if array.shape[0] != count:
                raise ValueError(
                    f"per_input has shape {array.shape}, but the network is called with {count} "
                    f"images: wanted one row per image, ({count}, ...)"
                )
        return found

    def fill(self, rows: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the network takes them, with these values for each `per_input`."""
        following = iter(rows)
        return jax.tree.map(
            lambda leaf: next(following) if isinstance(leaf, PerInput) else leaf,
            (self.args, self.kwargs),
            is_leaf=_is_per_input,
        )

    def for_inputs(self, count: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for `count` images, as the network takes them."""
        return self.fill(self.rows(count))

    def take(self, rows: Int[Array, " n"]) -> "Arguments":
        """The arguments for these of the images."""

        def gather(array: Any) -> Array:
            return jnp.asarray(array)[rows]

        return Arguments(*self.fill([jax.tree.map(gather, each) for each in self._declared()]))

    def bare(self, count: int) -> Iterator[tuple[str, Any]]:
        """The arrays, by name, that look as if they had one row per image but are not declared."""
        for index, arg in enumerate(self.args):
            yield from _bare(f"argument {index + 1} after the image", arg, count)
        for name, arg in self.kwargs.items():
            yield from _bare(f"argument {name!r}", arg, count)

    def _declared(self) -> list[PerInput]:
        leaves = jax.tree.leaves((self.args, self.kwargs), is_leaf=_is_per_input)
        return list(filter(_is_per_input, leaves))


def count_images(inputs: Any) -> int:
    """How many images there are in what a network is called with."""
    return int(jax.tree.leaves(inputs)[0].shape[0])


def take_rows(model: Any, rows: Int[Array, " n"]) -> Any:
    """A model for a batch of `inputs[rows]`: what is declared `per_input` follows its image."""
    return jax.tree.map(
        lambda leaf: leaf.take(rows) if isinstance(leaf, Arguments) else leaf,
        model,
        is_leaf=_is_arguments,
    )


def check_rows(model: Any, count: int) -> None:
    """ValueError if what is declared `per_input` has not one row for each of `count` images."""
    for arguments in filter(_is_arguments, jax.tree.leaves(model, is_leaf=_is_arguments)):
        arguments.rows(count)


def check_declared(model: Any, count: int) -> None:
    """ValueError if an argument seems to have one row per image but is not declared `per_input`."""
    if count < 2:
        return
    for arguments in filter(_is_arguments, jax.tree.leaves(model, is_leaf=_is_arguments)):
        for name, array in arguments.bare(count):
            raise ValueError(
                f"{name} has shape {array.shape}, as many rows as there are images, and would be "
                "paired with the wrong images in masked passes: pass "
                "scorecam_jax.per_input(array). If the rows are no images', but a table's that all "
                "images share, close over it: method=lambda network, image: network(image, table), "
                "or a network that holds the table"
            )


def split_inputs(model: Callable[..., Any], inputs: Any) -> tuple[Callable[..., Any], Any]:
    """Take a list or dict of inputs apart, the first of which is the image.

    Returns:
        A model of the image alone, which gives the network the others as `per_input`; and the
        image. Both arguments as they are, if `inputs` is one array.

    Raises:
        TypeError: the first is no image: not floating point, or of fewer than three axes.
        ValueError: another has not as many rows as there are images, or the arrays may as well be
            the images of one batch.
    """
    if not isinstance(inputs, list | tuple | Mapping):
        return model, inputs
    items = list(inputs.values() if isinstance(inputs, Mapping) else inputs)
    if not any(map(_is_input, items)):
        return model, inputs
    image, *others = items
    if not (_is_input(image) and jnp.issubdtype(image.dtype, jnp.floating) and image.ndim >= 3):
        raise TypeError(_first_is_no_image(inputs, image))
    shapes = {np.shape(item) for item in items}
    if isinstance(inputs, list) and others and len(shapes) == 1 and image.ndim == 3:
        raise ValueError(
            f"inputs are a list of {len(items)} arrays of shape {image.shape}, wanted one array: "
            "jnp.stack(images) if they are images; a tuple if they are the inputs of one network"
        )
    for array in filter(_is_input, jax.tree.leaves(others)):
        if array.shape[:1] != image.shape[:1]:
            raise ValueError(
                f"the inputs have shapes {image.shape} and {array.shape}, wanted one row per "
                f"image: ({image.shape[0]}, ...). Images are one array: jnp.stack(images)"
            )
    declared = [
        per_input(item) if any(map(_is_input, jax.tree.leaves(item))) else item for item in others
    ]
    keys = tuple(inputs) if isinstance(inputs, Mapping) else None
    layout = Layout(type(inputs), keys)
    feed = getattr(model, "feed", None)
    if feed is not None:
        return feed(layout, Arguments(declared, {})), image
    fed = _Fed(layout, channel_axis_of(model))
    return jax.tree_util.Partial(fed, model, Arguments(declared, {})), image


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a network takes its inputs: the type of their container, and a dict's keys."""

    kind: type
    keys: tuple[Any, ...] | None

    def __call__(self, image: Any, others: Sequence[Any]) -> Any:
        """The container of these inputs."""
        items = [image, *others]
        if self.keys is None:
            return self.kind(*items) if hasattr(self.kind, "_fields") else self.kind(items)
        pairs = zip(self.keys, items, strict=True)
        return (
            collections.OrderedDict(pairs) if self.kind is collections.OrderedDict else dict(pairs)
        )


@dataclasses.dataclass(frozen=True)
class _Fed:
    layout: Layout
    channel_axis: int

    def __call__(self, model: Any, others: Arguments, image: Any, edit: Any = None) -> Any:
        inputs = self.layout(image, others.for_inputs(image.shape[0])[0])
        given = (
            f"The model was called with a {type(inputs).__name__} of {len(inputs)} inputs, the "
            "first of which is the image. If all are images, pass one array: "
            "jnp.concatenate(inputs)."
        )
        with noting(image, self.channel_axis, given):
            return model(inputs) if edit is None else model(inputs, edit=edit)


def _first_is_no_image(inputs: Any, first: Any) -> str:
    found = f"{first.dtype}{list(first.shape)}" if _is_input(first) else type(first).__name__
    where, how = "the first of the inputs", "Put the image first"
    if isinstance(inputs, Mapping):
        where = repr(next(iter(inputs)))
        how = "Put the image first, under jit in an OrderedDict, as jit sorts an ordinary dict"
    return (
        f"{where} is {found}, wanted the image: floating point (batch, *spatial, channels). {how}; "
        "or, if the network takes the others after the image, pass them to the adapter as "
        "per_input(array)"
    )


def _bare(name: str, value: Any, count: int) -> Iterator[tuple[str, Any]]:
    for leaf in jax.tree.leaves(value, is_leaf=_is_per_input):
        # Raw random keys are vectors of two or four words.
        is_key = is_array(leaf) and leaf.dtype == np.uint32 and leaf.shape in ((2,), (4,))
        if is_array(leaf) and leaf.shape[:1] == (count,) and not is_key:
            yield name, leaf


def _is_per_input(leaf: Any) -> bool:
    return isinstance(leaf, PerInput)


def _is_arguments(leaf: Any) -> bool:
    return isinstance(leaf, Arguments)


def _is_input(value: Any) -> bool:
    return is_array(value) or isinstance(value, jax.ShapeDtypeStruct)
