"""Publishers' names for a network's tensors."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class _Anything(tuple[Any, ...]):
    def __contains__(self, value: object) -> bool:
        return True


# Any value of a setting is accepted, because the tensors show its effect.
ANYTHING = _Anything(("anything",))

# RGB inputs, and global average pooling before the classifier.
AVERAGED = {"global_pool": ("avg",), "in_chans": (3,), "num_channels": (3,)}

Names = Mapping[str, str] | Callable[[str], str]


class Layout(NamedTuple):
    """One publisher's names for the tensors of a network.

    Attributes:
        publisher: `"torchvision"`, `"timm"`, `"huggingface"` or another source of weights.
        mark: a regular expression that matches the whole name of a tensor. Only checkpoints of
            this layout and this type of network have such a tensor.
        names: regular expressions and their replacements, applied in order, or a function. They
            turn a tensor's path in the network, such as `layer1.layers.0.conv1.norm.weight`, into
            its published name.
        convert: a function that rearranges a published checkpoint into one with the bundled
            network's tensors. None: the tensors correspond already.
        assumes: the supported values of settings, by their names in the publisher's
            configuration. Checkpoints with other values are refused.
        options: arguments of the network, where this publisher's variant computes differently.
        preprocess: the fields of a `Preprocess` in which this publisher differs.
    """

    publisher: str
    mark: str
    names: Names
    convert: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] | None = None
    assumes: Mapping[str, Sequence[Any]] = MappingProxyType(AVERAGED)
    options: Mapping[str, Any] = MappingProxyType({})
    preprocess: Mapping[str, Any] = MappingProxyType({})

    def has(self, checkpoint: Mapping[str, np.ndarray]) -> bool:
        """Whether a checkpoint has this layout."""
        return any(re.fullmatch(self.mark, name) for name in checkpoint)

    def converted(self, checkpoint: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The checkpoint with one tensor for each of the bundled network's."""
        return checkpoint if self.convert is None else self.convert(checkpoint)

    def name(self, path: str) -> str:
        """The publisher's name for a tensor."""
        return renamed(path, self.names)


def renamed(path: str, names: Names) -> str:
    """A path after all replacements."""
    if callable(names):
        return names(path)
    for pattern, replacement in names.items():
        path = re.sub(pattern, replacement, path)
    return path


def layout_of(layouts: Sequence[Layout], checkpoint: Mapping[str, np.ndarray]) -> Layout | None:
    """The first layout that a checkpoint has, or None."""
    return next((layout for layout in layouts if layout.has(checkpoint)), None)
