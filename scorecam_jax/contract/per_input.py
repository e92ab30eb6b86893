"""Further inputs: arrays with one row per image, which accompany the images in every pass."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from scorecam_jax._internal.trees import is_array, join_arrays, split_arrays


@jax.tree_util.register_pytree_node_class
class PerInput:
    """Arrays declared to have one row per image; see `per_input`."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        """Return the arrays."""
        return (self.values,), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> "PerInput":
        """Invert `tree_flatten`."""
        return cls(*children)

    def __repr__(self) -> str:
        return f"per_input({jax.tree.map(np.shape, self.values)})"


def per_input(values: Any) -> PerInput:
    """Declare that a further input of a network has one row per image.

    Pass the result to an adapter among the network's arguments. Each row then accompanies its image
    in every masked pass, and is never masked. Call the model with as many images as there are rows.

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
                "that all images share directly, without per_input"
            )
    return PerInput(jax.tree.unflatten(tree, arrays))


@jax.tree_util.register_pytree_node_class
class Arguments:
    """A network's arguments after the image: a pytree whose leaves are their arrays."""

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any], declared: Any = ()) -> None:
        """Hold the arguments, extended by the values of `per_input=`."""
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
            raise TypeError(f"{twice} are passed both directly and in per_input=")
        self.kwargs = {**kwargs, **{name: per_input(value) for name, value in keywords.items()}}

    def tree_flatten(self) -> tuple[tuple[Any], Any]:
        """Return the arrays, and the settings in their present state."""
        arrays, static = split_arrays((self.args, self.kwargs))
        return (arrays,), static

    @classmethod
    def tree_unflatten(cls, static: Any, children: tuple[Any]) -> "Arguments":
        """Invert `tree_flatten`."""
        return cls(*join_arrays(*children, static))

    def rows(self, count: int) -> list[Any]:
        """The values of each `per_input`.

        Raises:
            ValueError: the number of rows is not the number of images.
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
        """The arguments as the network takes them, with the given rows for each `per_input`."""
        following = iter(rows)
        return jax.tree.map(
            lambda leaf: next(following) if isinstance(leaf, PerInput) else leaf,
            (self.args, self.kwargs),
            is_leaf=_is_per_input,
        )

    def for_inputs(self, count: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for `count` images, as the network takes them."""
        return self.fill(self.rows(count))

    def declared_arrays(self) -> list[Any]:
        """The arrays among the values of each `per_input`."""
        return jax.tree.leaves([declared.values for declared in self._declared()])

    def take(self, rows: Int[Array, " n"]) -> "Arguments":
        """The arguments for the images of these rows."""

        def gather(array: Any) -> Array:
            return jnp.asarray(array)[rows]

        return Arguments(*self.fill([jax.tree.map(gather, each) for each in self._declared()]))

    def bare(self, count: int) -> Iterator[tuple[str, Any]]:
        """Yield undeclared arrays that seem to have one row per image, with their names."""
        for index, arg in enumerate(self.args):
            yield from _bare(f"argument {index + 1} after the image", arg, count)
        for name, arg in self.kwargs.items():
            yield from _bare(f"argument {name!r}", arg, count)

    def _declared(self) -> list[PerInput]:
        leaves = jax.tree.leaves((self.args, self.kwargs), is_leaf=_is_per_input)
        return list(filter(_is_per_input, leaves))


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a network takes its inputs: the type of their container, and a dict's keys."""

    kind: type
    keys: tuple[Any, ...] | None

    def __call__(self, image: Any, others: Sequence[Any]) -> Any:
        """Put the inputs into their container."""
        items = [image, *others]
        if self.keys is None:
            return self.kind(*items) if hasattr(self.kind, "_fields") else self.kind(items)
        pairs = zip(self.keys, items, strict=True)
        return (
            collections.OrderedDict(pairs) if self.kind is collections.OrderedDict else dict(pairs)
        )


def count_images(inputs: Any) -> int:
    """The number of images in a network's inputs."""
    return int(jax.tree.leaves(inputs)[0].shape[0])


def take_rows(model: Any, rows: Int[Array, " n"]) -> Any:
    """A model for the batch `inputs[rows]`, with the same rows of each `per_input`."""
    return jax.tree.map(
        lambda leaf: leaf.take(rows) if isinstance(leaf, Arguments) else leaf,
        model,
        is_leaf=_is_arguments,
    )


def declared_arrays(model: Any) -> list[Any]:
    """The arrays of a model that are declared `per_input`."""
    found = filter(_is_arguments, jax.tree.leaves(model, is_leaf=_is_arguments))
    return [array for arguments in found for array in arguments.declared_arrays()]


def check_rows(model: Any, count: int) -> None:
    """ValueError if a `per_input` does not have one row for each of `count` images."""
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
                "scorecam_jax.per_input(array). If it is a table that all images share, close over "
                "it: method=lambda network, image: network(image, table), or use a network that "
                "holds the table"
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
