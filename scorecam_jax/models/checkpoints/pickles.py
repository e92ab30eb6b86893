"""Reading the pickles in PyTorch's checkpoints without executing them.

A pickle is a program. Python's own unpickler hashes what the program builds, calls the functions
that it names and allocates the memory that it requests, so a hundred bytes can hang it or fill the
memory. This reader supports only the instructions that `torch.save` writes. It builds only plain
values and descriptions of tensors, in time and memory proportional to the pickle's length.
"""

import io
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

from scorecam_jax.models.checkpoints.errors import BadCheckpointError, short

# 25,000 tensors take a million instructions.
_MOST_INSTRUCTIONS = 2**22
# The limit of PyTorch and NumPy.
_MOST_DIMENSIONS = 64

_ITEM_SIZES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
    "ComplexFloatStorage": ("complex64", 8),
    "ComplexDoubleStorage": ("complex128", 16),
}


class Storage(NamedTuple):
    """A contiguous array of numbers in the file: its key, type and length."""

    key: str
    dtype: str
    size: int


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Pairs(list[Any]):
    """A dict's keys and values, in order. A list, so that no key is ever hashed."""


class _Type(NamedTuple):
    """The class of a storage, such as `torch.FloatStorage`."""

    dtype: str
    item_size: int


class Unpickler:
    """Reads consecutive pickles from a buffer.

    Args:
        content: the buffer, whose position is the end of the last pickle read.
        file_size: the size of the whole file in bytes, which bounds the sizes in its pickles.

    Attributes:
        storages: the storages described so far, by key.
    """

    def __init__(self, content: io.BytesIO, file_size: int):
        self.content = content
        self.file_size = file_size
        self.storages: dict[str, Storage] = {}
        self._left = _MOST_INSTRUCTIONS
        self._functions: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]] = {
            ("collections", "OrderedDict"): self._ordered_dict,
            ("torch", "Size"): _size,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }

    def load(self) -> Any:
        """Read the next pickle; dicts become `Pairs`.

        Raises:
            BadCheckpointError: the pickle is damaged, or holds more than tensors and plain values.
        """
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}
        argument: Any
        for instruction, argument, _ in pickletools.genops(self.content):
            self._count(1)
            name = instruction.name
            if name in _VALUES:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in _MAKERS:
                stack.append(_MAKERS[name]())
            elif name in _TEXTS:
                if not argument.isascii():
                    raise BadCheckpointError("it holds text in an unknown encoding")
                stack.append(argument)
            elif name in ("PROTO", "FRAME"):
                pass
            elif name == "MARK":
                marks.append(len(stack))
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "POP":
                stack.pop()
            elif name in _TUPLES:
                items = _pop(stack, _TUPLES[name])
                stack.append(tuple(items))
            elif name == "TUPLE":
                stack.append(tuple(_pop(stack, len(stack) - marks.pop())))
            elif name in ("LIST", "FROZENSET"):
                stack.append(_pop(stack, len(stack) - marks.pop()))
            elif name == "DICT":
                stack.append(_paired(_pop(stack, len(stack) - marks.pop())))
            elif name in ("APPEND", "APPENDS", "ADDITEMS"):
                count = 1 if name == "APPEND" else len(stack) - marks.pop()
                items = _pop(stack, count)
                _expect(stack[-1], list).extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                count = 2 if name == "SETITEM" else len(stack) - marks.pop()
                pairs = _paired(_pop(stack, count))
                _expect(stack[-1], Pairs).extend(pairs)
            elif name == "GLOBAL":
                stack.append(self._find(*argument.split(" ", 1)))
            elif name == "STACK_GLOBAL":
                stack.append(self._find(*_pop(stack, 2)))
            elif name == "REDUCE":
                function, arguments = _pop(stack, 2)
                if not callable(function):
                    raise BadCheckpointError(f"it calls {short(function)}, not a function")
                stack.append(function(_expect(arguments, tuple)))
            elif name == "BUILD":
                # Attributes of a dict, such as a state dict's `_metadata`, are not needed.
                stack.pop()
                _expect(stack[-1], Pairs)
            elif name == "BINPERSID":
                stack.append(self._storage(_expect(stack.pop(), tuple)))
            elif name == "STOP":
                return stack.pop()
            else:
                raise BadCheckpointError(f"it holds the instruction {name}, which is not supported")
        raise BadCheckpointError("truncated: a pickle has no end")

    def _count(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise BadCheckpointError(
                f"its pickles have more than {_MOST_INSTRUCTIONS} instructions. If you trust the "
                "file, save only its weights with PyTorch: torch.save(model.state_dict(), path)"
            )

    def _find(self, module: Any, name: Any) -> Any:
        module, name = _expect(module, str), _expect(name, str)
        if module == "torch" and name in _ITEM_SIZES:
            return _Type(*_ITEM_SIZES[name])
        if (module, name) not in self._functions:
            raise BadCheckpointError(
                f"it holds {short(f'{module}.{name}', 100)}, but only tensors are read. If you "
                "trust the file, save only its weights with PyTorch: "
                "torch.save(model.state_dict(), path)"
            )
        return self._functions[module, name]

    def _storage(self, described: tuple[Any, ...]) -> Storage:
        # Files of PyTorch 0.3 and older describe views in a sixth element.
        if len(described) not in (5, 6) or described[0] != "storage" or any(described[5:]):
            raise BadCheckpointError("unknown type of stored data")
        _, kind, key, _, size, *_ = described
        if not isinstance(kind, _Type) or not isinstance(key, str) or type(size) is not int:
            raise BadCheckpointError(
                f"damaged description of stored data: a {type(kind).__name__} named "
                f"{short(key)} of size {short(size)}"
            )
        if not 0 <= size * kind.item_size <= self.file_size:
            raise BadCheckpointError(
                f"truncated or damaged: the data {short(key)} should have {short(size)} values of "
                f"{kind.dtype}, more than the file can hold"
            )
        storage = Storage(key, kind.dtype, size)
        known = self.storages.setdefault(key, storage)
        if known != storage:
            raise BadCheckpointError(
                f"damaged: the data {short(key)} is {known.size} values of {known.dtype} and also "
                f"{size} of {kind.dtype}"
            )
        return storage

    def _tensor(self, arguments: tuple[Any, ...]) -> Tensor:
        # The rest are requires_grad, hooks and metadata.
        if not 4 <= len(arguments) <= 7:
            raise BadCheckpointError("damaged description of a tensor")
        storage, offset, shape, strides = arguments[:4]
        if (
            not isinstance(storage, Storage)
            or type(shape) is not tuple
            or type(strides) is not tuple
            or len(shape) != len(strides)
            or len(shape) > _MOST_DIMENSIONS
            or any(type(n) is not int or n < 0 for n in (offset, *shape, *strides))
        ):
            raise BadCheckpointError(
                "damaged description of a tensor: wanted stored data, an offset, a shape and "
                "strides"
            )
        if max(offset, *shape, 0) > self.file_size:
            raise BadCheckpointError(
                f"damaged: a tensor of {len(shape)} dimensions is larger than the file"
            )
        if 0 in shape:
            return Tensor(storage, 0, shape, (0,) * len(shape))
        # The stride of an axis of length 1 is arbitrary.
        strides = tuple(step if n > 1 else 0 for n, step in zip(shape, strides, strict=True))
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if last >= storage.size:
            raise BadCheckpointError(
                f"a tensor of shape {short(str(shape))} needs {short(last + 1)} stored values, but "
                f"there are {storage.size}"
            )
        return Tensor(storage, offset, shape, strides)

    def _ordered_dict(self, arguments: tuple[Any, ...]) -> Pairs:
        if not arguments:
            return Pairs()
        # Python 2 passes a list of pairs.
        (pairs,) = arguments
        self._count(len(_expect(pairs, list)))
        for pair in pairs:
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise BadCheckpointError("damaged: an OrderedDict does not consist of pairs")
        return Pairs(tuple(pair) for pair in pairs)


# Instructions that push their argument.
_VALUES = {
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG",
    "LONG1",
    "LONG4",
    "FLOAT",
    "BINFLOAT",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
}
# Python 2's strings, whose encoding is unknown.
_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MAKERS: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": Pairs,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _pop(stack: list[Any], count: int) -> list[Any]:
    """Remove the top values from the stack and return them."""
    if not 0 <= count <= len(stack):
        raise BadCheckpointError("damaged: an instruction lacks its values")
    items = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return items


def _paired(items: list[Any]) -> Pairs:
    return Pairs(zip(items[::2], items[1::2], strict=True))


def _expect(value: Any, kind: type) -> Any:
    """The value, if its type is exactly `kind`: `Pairs` are no list here, a `Storage` no tuple."""
    if type(value) is not kind:
        raise BadCheckpointError(f"damaged: found {short(value)}, wanted a {kind.__name__}")
    return value


def _size(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    (sizes,) = arguments
    return _expect(sizes, tuple)


def _parameter(arguments: tuple[Any, ...]) -> Any:
    return arguments[0]
