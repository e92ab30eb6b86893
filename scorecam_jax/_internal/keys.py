"""`jit` keys for values that JAX cannot hash: lists, dicts, dataclasses and configurations."""

import dataclasses
import functools
import hashlib
import types
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np

# Immutable types, compared by type and value; floats are compared by their bits.
_ATOMS = (type(None), type(...), type(NotImplemented), bool, int, str, bytes)


def freeze(value: Any) -> Hashable:
    """Return a key; two keys are equal if their values had equal contents when frozen.

    Containers, dataclasses and other objects are compared by what they hold, and arrays by their
    contents. Functions, and other callables that JAX can hash, are their own keys, as in JAX.
    Values that cannot be taken apart are compared by identity. A key never changes, even if the
    value does.
    """
    return _freeze(value, ())


def _freeze(value: Any, around: tuple[int, ...]) -> Hashable:
    kind = type(value)
    if kind in _ATOMS or isinstance(value, type):
        return kind, value
    if kind is float:
        return kind, value.hex()
    whole = value.function if isinstance(value, Closure) else value
    if id(whole) in around:
        return "cycle", around.index(id(whole))
    follow = functools.partial(_freeze, around=(*around, id(whole)))
    if isinstance(value, Closure):
        return kind, value.function, tuple(map(follow, value.contents()))
    if isinstance(value, jax.core.Tracer):
        return _Same(value)
    if isinstance(value, jax.Array | np.ndarray):
        return _freeze_array(value)
    if kind is list or isinstance(value, tuple):
        return kind, tuple(map(follow, value))
    if kind is dict:
        return kind, tuple((follow(key), follow(item)) for key, item in value.items())
    if kind in (set, frozenset):
        return kind, frozenset(map(follow, value))
    if isinstance(value, jax.tree_util.PyTreeDef):
        return kind, follow(value.node_data()), tuple(map(follow, value.children()))
    if isinstance(value, Static):
        return kind, follow(value.value)
    if isinstance(value, functools.partial):
        return kind, follow(value.func), follow(value.args), follow(value.keywords)
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value) if field.compare]
        return kind, tuple(follow(getattr(value, name, None)) for name in fields)
    hashed: Any = kind.__hash__
    own = hashed not in (None, object.__hash__)
    if _is_hashable(value) and (own or callable(value)):
        return kind, value
    try:
        # Pickle knows an object's contents.
        parts = value.__reduce_ex__(4)
    except Exception:
        return _Same(value)
    if isinstance(parts, str):
        return _Same(value)
    constructor, arguments, state, *items = (*parts, None)[: max(3, len(parts))]
    contents = [None if item is None else tuple(item) for item in items]
    return kind, follow(constructor), follow(arguments), follow(state), follow(contents)


def _freeze_array(array: Any) -> Hashable:
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended) or array.dtype == object:
        return _Same(array)
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        return _Same(array)
    contents = np.ascontiguousarray(array)
    digest = hashlib.blake2b(contents.view(np.uint8), digest_size=16).digest()
    return type(array), array.shape, str(array.dtype), digest


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except Exception:
        return False
    return True


class _Same:
    """A key that equals only that of the same object."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


@dataclasses.dataclass(frozen=True)
class Closure:
    """A function whose key includes its closed-over values, and those of functions among them."""

    function: Any

    def contents(self) -> list[Any]:
        """The values closed over."""
        found = []
        for cell in getattr(self.function, "__closure__", None) or ():
            try:
                value = cell.cell_contents
            except ValueError:  # not yet assigned
                continue
            values = value if isinstance(value, tuple) else (value,)
            found += [Closure(v) if isinstance(v, types.FunctionType) else v for v in values]
        return found


class Static:
    """A value of any type as a static argument of `jit`, or as a pytree's static part.

    Two are equal if their values had equal contents when wrapped. Wrap a value again after changing
    it in place.
    """

    __slots__ = ("_hash", "_key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._key = freeze(value)
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and (self is other or self._key == other._key)

    def __repr__(self) -> str:
        return f"Static({self.value!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Static, (self.value,)
