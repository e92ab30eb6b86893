"""The description of a bundled network, and the search for one by name."""

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from scorecam_jax.models.preprocess import Preprocess


class Counterpart(NamedTuple):
    """The same network in PyTorch, for comparisons. It is only described, never imported.

    Attributes:
        module: the module that defines it.
        make: the function that builds it, as a path of attributes in the module.
        arguments: the positional arguments of `make`.
        layer: the path of the submodule that computes the layer explained by default.
        activation: the class in `torch.nn` of the activation that follows that submodule, if the
            network has no separate submodule for it.
        options: the keyword arguments of `make`.
        prefix: the number of tokens before the patches, if the layer returns tokens.
    """

    module: str
    make: str
    arguments: tuple[str, ...] = ()
    layer: str = "layer4"
    activation: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    prefix: int | None = None


class Package(NamedTuple):
    """Weights in a Python package.

    Attributes:
        module: the package's module.
        file: the path of the weights in the package.
        sha256: the hash of the file.
        install: the requirement to pass to pip.
    """

    module: str
    file: str
    sha256: str
    install: str


class Entry(NamedTuple):
    """A bundled network.

    Attributes:
        file: the module in `networks` that defines it. Like Flax, it is imported only when the
            network is needed. Its `LAYOUTS` are the publishers' names for its tensors, the usual
            first, or a function from the options to these. Its `HEAD` is the path of the layer
            that returns the logits. If checkpoints determine more than the number of classes, its
            `arguments(tensors, config)` returns the further arguments of `make`.
        make: the class or function there that builds it from `classes`, `rngs` and `options`.
        layer: the layer to explain: the last with a spatial grid, after its nonlinearity.
        preprocess: the preprocessing, unless a checkpoint's configuration has its own.
        counterpart: the same network in PyTorch.
        options: further keyword arguments of `make`.
        aliases: the network's other names. One with a publisher's prefix, as in `timm/resnet50`,
            is the meaning of the name in that publisher's checkpoints only.
        publishers: the publishers of such weights. None: all that have a layout.
        package: the packaged weights, if any.
        classes: the number of classes if no checkpoint states it. None: the outputs are
            embeddings.
    """

    file: str
    make: str
    layer: str
    preprocess: Preprocess
    counterpart: Counterpart | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    aliases: tuple[str, ...] = ()
    publishers: tuple[str, ...] | None = None
    package: Package | None = None
    classes: int | None = 1000

    @property
    def module(self) -> Any:
        """The module that defines the network."""
        return importlib.import_module(f"scorecam_jax.models.networks.{self.file}")

    @property
    def layouts(self) -> Any:
        """The names of its tensors in checkpoints, by publisher, the usual publisher first."""
        layouts = self.module.LAYOUTS
        if callable(layouts):
            layouts = layouts(**self.options)
        known = self.publishers
        return [one for one in layouts if known is None or one.publisher in known]

    def network(self, rngs: Any, **found: Any) -> Any:
        """Build the network, with random weights.

        Args:
            rngs: Flax's `nnx.Rngs`.
            **found: further arguments of `make`, as found in a checkpoint.
        """
        options = {"classes": self.classes, **self.options, **found}
        return getattr(self.module, self.make)(rngs=rngs, **options)

    def known_names(self, name: str) -> tuple[str, ...]:
        """A name and the aliases, without publishers' prefixes."""
        return tuple(plain(each.rpartition("/")[2]) for each in (name, *self.aliases))


def names() -> tuple[str, ...]:
    """The names of the bundled networks.

    >>> "efficientnet_lite0" in names()
    True
    """
    from scorecam_jax.models.bundled import ENTRIES

    return tuple(ENTRIES)


def known_as(name: str, publisher: str | None = None) -> str:
    """The member of `names()` to which a name refers.

    Case, `-` and `_` are ignored, and so is all after a dot, as in timm's `resnet50.a1_in1k`.

    Args:
        name: a bundled network's name, also in timm or torchvision.
        publisher: the publisher whose name it is. None: any.

    Raises:
        ValueError: the name is unknown.

    >>> known_as("ResNet-50"), known_as("resnet50.a1_in1k")
    ('resnet50', 'resnet50')
    """
    wanted = plain(name)
    known = _by_any_name()
    for candidate in (f"{publisher}/{wanted}", wanted, wanted.partition("/")[2]):
        if candidate in known:
            return known[candidate]
    alike = {known[each] for each in known if each.replace("_", "") == wanted.replace("_", "")}
    if len(alike) == 1:
        return alike.pop()
    close = [known[each] for each in difflib.get_close_matches(wanted, known, 3, 0.8)]
    meant = f" Did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
    raise ValueError(
        f"no model {name!r}.{meant} Choose one of {', '.join(names())}, or name your own function "
        "that returns a Classifier, as package.module:function"
    )


def entry(name: str) -> Entry:
    """The description of a bundled network.

    Args:
        name: as in `known_as`.

    Raises:
        ValueError: the name is unknown.
    """
    from scorecam_jax.models.bundled import ENTRIES

    return ENTRIES[known_as(name)]


def plain(name: str) -> str:
    """A name in the form in which names are compared."""
    return name.lower().replace("-", "_").partition(".")[0]


def _by_any_name() -> dict[str, str]:
    """Each member of `names()`, by its name and its aliases in plain form."""
    from scorecam_jax.models.bundled import ENTRIES

    return {
        plain(alias): name for name, entry in ENTRIES.items() for alias in (name, *entry.aliases)
    }
