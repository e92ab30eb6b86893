"""Split callables into arrays, which `jit` traces, and settings, which key its cache."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scorecam_jax._internal.keys import Static as Static


def is_array(leaf: Any) -> bool:
    """Whether `leaf` is a JAX or NumPy array, as opposed to a setting."""
    return isinstance(leaf, jax.Array | np.ndarray)


def contents(model: Any) -> Any:
    """A model's contents, as a pytree whose flattening does not freeze the model's settings."""
    if isinstance(model, jax.tree_util.Partial):
        return model.args, model.keywords
    return model


def split_arrays(tree: Any) -> tuple[list[Any], Static]:
    """Split a pytree into its arrays (None elsewhere) and the rest; see `join_arrays`."""
    leaves, treedef = jax.tree.flatten(tree)
    arrays = [leaf if is_array(leaf) else None for leaf in leaves]
    return arrays, Static((treedef, tuple(None if is_array(leaf) else leaf for leaf in leaves)))


def join_arrays(arrays: list[Any], static: Static) -> Any:
    """Invert `split_arrays`."""
    treedef, settings = static.value
    leaves = [
        setting if array is None else array for array, setting in zip(arrays, settings, strict=True)
    ]
    return treedef.unflatten(leaves)


def cast(tree: Any, dtype: Any) -> Any:
    """Cast every floating-point array of `tree` to `dtype`; unchanged if `dtype` is None."""
    if dtype is None:
        return tree

    def convert(leaf: Any) -> Any:
        floating = is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if floating else leaf

    return jax.tree.map(convert, tree)
