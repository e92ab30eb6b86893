"""Recognising the bundled network to which a checkpoint belongs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from scorecam_jax.models.checkpoints.errors import short
from scorecam_jax.models.checkpoints.fill import fits, wanted
from scorecam_jax.models.checkpoints.layout import Layout, layout_of
from scorecam_jax.models.registry import Entry, entry, known_as, names, plain

_Tensors = Mapping[str, np.ndarray]

# Prefixes of Lightning, torch.compile and transformers' wrapper of timm, the outermost first.
_WRAPPERS = ("model.", "_orig_mod.", "timm_model.")

# Options that do not change a network's tensors.
_UNTOLD = ("balanced", "cells", "epsilon", "pads_first", "same")


class Recognised(NamedTuple):
    """A bundled network, and the layout of a checkpoint for it."""

    name: str
    layout: Layout

    @property
    def entry(self) -> Entry:
        """The description of the network."""
        return entry(self.name)

    @property
    def kind(self) -> tuple[object, ...]:
        """All that determines the names and shapes of its tensors."""
        options = {**self.entry.options, **self.layout.options}
        told = {name: value for name, value in options.items() if name not in _UNTOLD}
        return self.entry.file, self.entry.make, self.layout.publisher, *sorted(told.items())

    def network(self, rngs: Any, **found: Any) -> Any:
        """Build the network in the variant of the checkpoint's publisher."""
        return self.entry.network(rngs, **{**self.layout.options, **found})

    def arguments(
        self, checkpoint: _Tensors, config: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """The network's arguments that a checkpoint determines, such as the number of classes.

        Args:
            checkpoint: the published tensors.
            config: the content of its configuration.
        """
        module = self.entry.module
        found = module.arguments(checkpoint, config) if hasattr(module, "arguments") else {}
        if "classes" not in found:
            tensors = self.layout.converted(dict(checkpoint))
            head = tensors.get(self.layout.name(f"{module.HEAD}.weight"))
            found |= {} if head is None or not head.ndim else {"classes": len(head)}
        return found


def unwrapped(checkpoint: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A checkpoint without the prefixes that trainers and compilers add to every name."""
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in checkpoint):
            checkpoint = {name.removeprefix(prefix): one for name, one in checkpoint.items()}
    return checkpoint


def named(name: str, checkpoint: _Tensors, publisher: str | None = None) -> Recognised:
    """The network that a name means in a checkpoint, since names differ between publishers.

    Args:
        name: as in `known_as`.
        checkpoint: the tensors by name.
        publisher: the publisher of the checkpoint, if known.

    Raises:
        ValueError: the name is unknown.
    """
    found = known_as(name, publisher)
    layouts = entry(found).layouts
    layout = layout_of(layouts, checkpoint)
    if publisher is None and layout is not None:
        # The layout shows the publisher, who may mean another network by the name.
        found = known_as(name, layout.publisher)
        layouts = entry(found).layouts
        layout = layout_of(layouts, checkpoint)
    return Recognised(found, layout or layouts[0])


def recognised(checkpoint: _Tensors, path: Path) -> Recognised:
    """Recognise the network of a checkpoint by its tensors.

    If no network fits, the most similar one is returned; filling it reports what does not fit.

    Args:
        checkpoint: the tensors by name.
        path: the checkpoint's file. If networks have the same tensors, the name of the file, or
            else of its folder, decides between them.

    Raises:
        ValueError: no bundled network has such names, or several networks fit.
    """
    families = list(_families(checkpoint))
    if not families:
        first = ", ".join(short(name) for name in list(checkpoint)[:3])
        raise ValueError(
            f"the tensors in {path} ({first}, ...) match no bundled network. Known are "
            f"{', '.join(names())}; for another, name your own function that returns a "
            "Classifier, as package.module:function"
        )
    told = _told(path, families)
    fitting = _fitting(checkpoint, told) or _fitting(checkpoint, families)
    if not fitting:
        # Filling the network that is probably meant gives the most helpful error.
        return max(told or families, key=lambda one: _alike(checkpoint, one))
    fitting = _of_its_size(checkpoint, fitting)
    if len(fitting) > 1:
        known = [one.name for one in fitting]
        raise ValueError(
            f"the tensors in {path} fit {' and '.join(known)}, which compute differently; give the "
            f"name of the right one, such as name={known[0]!r}"
        )
    return fitting[0]


def _families(checkpoint: _Tensors) -> Iterator[Recognised]:
    """The networks with a layout that the checkpoint has."""
    for name in names():
        layout = layout_of(entry(name).layouts, checkpoint)
        if layout is not None:
            yield Recognised(name, layout)


def _told(path: Path, families: list[Recognised]) -> list[Recognised]:
    """The networks with the longest name that begins the file's name, or else its folder's."""
    for text in (path.stem, path.parent.name):
        called = plain(text.split("--")[-1])
        lengths = [
            max(
                (len(name) for name in one.entry.known_names(one.name) if _begins(called, name)),
                default=0,
            )
            for one in families
        ]
        if any(lengths):
            pairs = zip(families, lengths, strict=True)
            return [one for one, length in pairs if length == max(lengths)]
    return []


def _begins(text: str, name: str) -> bool:
    return text == name or text.startswith(f"{name}_")


def _shapes(checkpoint: _Tensors, one: Recognised) -> tuple[_Tensors, dict[str, tuple[int, ...]]]:
    """A checkpoint's tensors, and the shapes of those that a network needs."""
    found = one.arguments(checkpoint)
    tensors = one.layout.converted(dict(checkpoint))
    return tensors, wanted(lambda rngs: one.network(rngs, **found), one.layout.names)


def _fitting(checkpoint: _Tensors, candidates: list[Recognised]) -> list[Recognised]:
    """The candidates that have exactly the checkpoint's tensors."""
    # Many candidates have the same tensors, and building a network takes a while.
    known: dict[Any, bool] = {}
    for one in candidates:
        if one.kind not in known:
            known[one.kind] = _is_of(checkpoint, one)
    return [one for one in candidates if known[one.kind]]


def _of_its_size(checkpoint: _Tensors, fitting: list[Recognised]) -> list[Recognised]:
    """The networks whose input size matches the checkpoint's position table; all if none does."""
    if len(fitting) < 2:
        return fitting
    cells = fitting[0].arguments(checkpoint).get("cells")
    return [one for one in fitting if one.entry.options.get("cells") == cells] or fitting


def _is_of(checkpoint: _Tensors, one: Recognised) -> bool:
    tensors, shapes = _shapes(checkpoint, one)
    given = {name for name in tensors if not name.endswith("num_batches_tracked")}
    return given == set(shapes) and all(fits(tensors[name], shapes[name]) for name in shapes)


def _alike(checkpoint: _Tensors, one: Recognised) -> int:
    tensors, shapes = _shapes(checkpoint, one)
    return sum(name in tensors and fits(tensors[name], shapes[name]) for name in shapes)
