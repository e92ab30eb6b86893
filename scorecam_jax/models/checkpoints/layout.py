"""How publishers call a network's tensors."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np


class _Anything(tuple[Any, ...]):
    def __contains__(self, value: object) -> bool:
        return True


# What a configuration says may be any value, for the tensors tell what it does.
ANYTHING = _Anything(("anything",))

# Of RGB photographs, all places averaged before the classifier.
AVERAGED = {"global_pool": ("avg",), "in_chans": (3,), "num_channels": (3,)}

Names = Mapping[str, str] | Callable[[str], str]


class Layout(NamedTuple):
    """One publisher's names for the tensors of a network.

    Attributes:
        publisher: `"torchvision"`, `"timm"`, `"huggingface"` or whoever wrote the first weights.
        mark: a regular expression that matches the whole name of a tensor which only checkpoints
            of this layout have, and of this kind of network.
        names: regular expressions and what replaces their matches, in order. They turn a tensor's
            path in the network, such as `layer1.layers.0.conv1.norm.weight`, into its name. Or a
            function that does.
        convert: what makes of a checkpoint one with a tensor for each of ours, where the
            publisher keeps some of them in another shape. None: all are as they should be.
        assumes: what a configuration must say of the network, if it says anything: by the
            publisher's name for it, all values that the network here computes.
        options: what the network is made with, where this publisher's computes otherwise.
        preprocess: those fields of a `Preprocess` in which this publisher's differs.
    """

    publisher: str
    mark: str
    names: Names
    convert: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] | None = None
    assumes: Mapping[str, Sequence[Any]] = MappingProxyType(AVERAGED)
    options: Mapping[str, Any] = MappingProxyType({})
    preprocess: Mapping[str, Any] = MappingProxyType({})

    def has(self, checkpoint: Mapping[str, np.ndarray]) -> bool:
        """Whether a checkpoint is of this layout."""
        return any(re.fullmatch(self.mark, name) for name in checkpoint)

    def converted(self, checkpoint: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The checkpoint with a tensor for each of ours."""
        return checkpoint if self.convert is None else self.convert(checkpoint)

    def name(self, path: str) -> str:
        """The publisher's name of a tensor."""
        return renamed(path, self.names)


def renamed(path: str, names: Names) -> str:
    """A path after all replacements."""
    if callable(names):
        return names(path)
    for pattern, replacement in names.items():
        path = re.sub(pattern, replacement, path)
    return path


def layout_of(layouts: Sequence[Layout], checkpoint: Mapping[str, np.ndarray]) -> Layout | None:
    """The layout that a checkpoint is of, or None."""
    return next((layout for layout in layouts if layout.has(checkpoint)), None)
