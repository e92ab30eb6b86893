"""Taking callables apart into arrays, which `jit` traces, and settings, which it keys on."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import numpy as np


def is_array(leaf: Any) -> bool:
    """Whether `leaf` is a JAX or NumPy array, as opposed to a setting."""
    return isinstance(leaf, jax.Array | np.ndarray)


class Static(NamedTuple):
    """The part of a pytree that is not arrays: hashable, so that `jit` can key on it."""

    tree: Any
    settings: tuple[Hashable, ...]


def split_arrays(tree: Any) -> tuple[list[Any], Static]:
    """Take a pytree apart into its arrays (None elsewhere) and the rest; see `join_arrays`."""
    leaves, treedef = jax.tree.flatten(tree)
    arrays = [leaf if is_array(leaf) else None for leaf in leaves]
    return arrays, Static(treedef, tuple(None if is_array(leaf) else leaf for leaf in leaves))


def join_arrays(arrays: list[Any], static: Static) -> Any:
    """The inverse of `split_arrays`."""
    leaves = [
        setting if array is None else array
        for array, setting in zip(arrays, static.settings, strict=True)
    ]
    return static.tree.unflatten(leaves)
