"""Which bundled network a checkpoint is of."""

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

# Of Lightning, torch.compile and transformers' wrapper of timm's networks, the outermost first.
_WRAPPERS = ("model.", "_orig_mod.", "timm_model.")

# Options of networks that leave no trace in their tensors.
_UNTOLD = ("balanced", "cells", "epsilon", "pads_first", "same")


class Recognised(NamedTuple):
    """A bundled network, and how a checkpoint calls its tensors."""

    name: str
    layout: Layout

    @property
    def entry(self) -> Entry:
        """What is known of the network."""
        return entry(self.name)

    @property
    def kind(self) -> tuple[object, ...]:
        """What decides of the names and shapes of its tensors."""
        options = {**self.entry.options, **self.layout.options}
        told = {name: value for name, value in options.items() if name not in _UNTOLD}
        return self.entry.file, self.entry.make, self.layout.publisher, *sorted(told.items())

    def network(self, rngs: Any, **found: Any) -> Any:
        """Build the network as the checkpoint's publisher has it."""
        return self.entry.network(rngs, **{**self.layout.options, **found})

    def arguments(
        self, checkpoint: _Tensors, config: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """What a checkpoint tells of the network: what its `make` is called with.

        Args:
            checkpoint: as published.
            config: what its configuration says.
        """
        module = self.entry.module
        found = module.arguments(checkpoint, config) if hasattr(module, "arguments") else {}
        if "classes" not in found:
            tensors = self.layout.converted(dict(checkpoint))
            head = tensors.get(self.layout.name(f"{module.HEAD}.weight"))
            found |= {} if head is None or not head.ndim else {"classes": len(head)}
        return found


def unwrapped(checkpoint: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A checkpoint without what trainers and compilers put before every name."""
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in checkpoint):
            checkpoint = {name.removeprefix(prefix): one for name, one in checkpoint.items()}
    return checkpoint


def named(name: str, checkpoint: _Tensors, publisher: str | None = None) -> Recognised:
    """The network of a name, where publishers may mean different ones by it.

    Args:
        name: as in `known_as`.
        checkpoint: its tensors by name.
        publisher: who wrote the checkpoint, if that is known.

    Raises:
        ValueError: the name is unknown.
    """
    found = known_as(name, publisher)
    layouts = entry(found).layouts
    layout = layout_of(layouts, checkpoint)
    if publisher is None and layout is not None:
        # Under another publisher's names it may be that publisher's network.
        found = known_as(name, layout.publisher)
        layouts = entry(found).layouts
        layout = layout_of(layouts, checkpoint)
    return Recognised(found, layout or layouts[0])


def recognised(checkpoint: _Tensors, path: Path) -> Recognised:
    """The network whose tensors these are.

    Args:
        checkpoint: its tensors by name.
        path: its file. If it is called after a network, and so is its folder, the name decides
            among networks of the same tensors.

    Raises:
        ValueError: no bundled network has such tensors, or several have.
    """
    families = list(_families(checkpoint))
    if not families:
        first = ", ".join(short(name) for name in list(checkpoint)[:3])
        raise ValueError(
            f"the tensors in {path} ({first}, ...) are no bundled network's. Known are "
            f"{', '.join(names())}; for another, name a function of yours that returns a "
            "Classifier, as package.module:function"
        )
    told = _told(path, families)
    fitting = _fitting(checkpoint, told) or _fitting(checkpoint, families)
    if not fitting:
        # What is wrong with it, the filling tells best of the network that is meant.
        return max(told or families, key=lambda one: _alike(checkpoint, one))
    fitting = _of_its_size(checkpoint, fitting)
    if len(fitting) > 1:
        known = [one.name for one in fitting]
        raise ValueError(
            f"the tensors in {path} are those of {' and of '.join(known)}, which compute "
            f"differently; give the name of the one that it is, such as name={known[0]!r}"
        )
    return fitting[0]


def _families(checkpoint: _Tensors) -> Iterator[Recognised]:
    """The networks with a layout that the checkpoint is of."""
    for name in names():
        layout = layout_of(entry(name).layouts, checkpoint)
        if layout is not None:
            yield Recognised(name, layout)


def _told(path: Path, families: list[Recognised]) -> list[Recognised]:
    """The networks after which a file or its folder is called: those of the longest name."""
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
    """A checkpoint's tensors, and those that a network wants."""
    found = one.arguments(checkpoint)
    tensors = one.layout.converted(dict(checkpoint))
    return tensors, wanted(lambda rngs: one.network(rngs, **found), one.layout.names)


def _fitting(checkpoint: _Tensors, candidates: list[Recognised]) -> list[Recognised]:
    """Those candidates that have just the checkpoint's tensors."""
    # Many differ only in what tensors do not tell, and building a network takes a while.
    known: dict[Any, bool] = {}
    for one in candidates:
        if one.kind not in known:
            known[one.kind] = _is_of(checkpoint, one)
    return [one for one in candidates if known[one.kind]]


def _of_its_size(checkpoint: _Tensors, fitting: list[Recognised]) -> list[Recognised]:
    """Of networks that differ in the size of inputs, those for which the table of places is."""
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
