"""What is known of each bundled network, and the names it goes by."""

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from scorecam_jax.models.preprocess import Preprocess


class Counterpart(NamedTuple):
    """The same network in PyTorch, for comparisons. It is described here and imported nowhere.

    Attributes:
        module: the module that defines it.
        make: what builds it, as a path of attributes in the module.
        arguments: what `make` is called with.
        layer: the path of the submodule that computes the layer explained by default.
        activation: the class in `torch.nn` of the activation that follows that submodule, where
            the network has no submodule for it alone.
        options: what `make` is called with by name.
        prefix: of a layer that gives tokens, how many stand before those of the patches.
    """

    module: str
    make: str
    arguments: tuple[str, ...] = ()
    layer: str = "layer4"
    activation: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    prefix: int | None = None


class Package(NamedTuple):
    """Weights that come with a Python package.

    Attributes:
        module: the package's.
        file: the weights' path in it.
        sha256: of the file.
        install: what is to be installed.
    """

    module: str
    file: str
    sha256: str
    install: str


class Entry(NamedTuple):
    """A bundled network.

    Attributes:
        file: the module of `networks` that defines it. It is imported when the network is needed,
            as Flax is then. It has `LAYOUTS`, how publishers call its tensors, the usual first,
            or a function that returns this for the options; and `HEAD`, the path of the layer that
            returns the logits. If checkpoints tell more than the number of classes, it has
            `arguments(tensors, config)`, which returns what `make` is called with besides.
        make: what builds it there, called with `classes`, `rngs` and the options.
        layer: the layer to explain: the last with a spatial grid, after its nonlinearity.
        preprocess: from a photograph to its input, unless a checkpoint's configuration has its own.
        counterpart: the same network in PyTorch.
        options: what `make` is called with besides.
        aliases: its other names. One that begins with a publisher's, as in `timm/resnet50`, is
            what checkpoints of that publisher alone mean by the name.
        publishers: who has published such weights. None: all that have a layout.
        package: packaged weights.
        classes: how many it tells apart, where no checkpoint says so. None: its outputs are an
            embedding.
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
        """How publishers of such weights call its tensors, the usual way first."""
        layouts = self.module.LAYOUTS
        if callable(layouts):
            layouts = layouts(**self.options)
        known = self.publishers
        return [one for one in layouts if known is None or one.publisher in known]

    def network(self, rngs: Any, **found: Any) -> Any:
        """Build the network, with random weights.

        Args:
            rngs: as Flax has them.
            **found: what `make` is called with besides, as a checkpoint tells.
        """
        options = {"classes": self.classes, **self.options, **found}
        return getattr(self.module, self.make)(rngs=rngs, **options)

    def known_names(self, name: str) -> tuple[str, ...]:
        """The names it goes by, without their publishers'."""
        return tuple(plain(each.rpartition("/")[2]) for each in (name, *self.aliases))


def names() -> tuple[str, ...]:
    """The names of the bundled networks.

    >>> "efficientnet_lite0" in names()
    True
    """
    from scorecam_jax.models.bundled import ENTRIES

    return tuple(ENTRIES)


def known_as(name: str, publisher: str | None = None) -> str:
    """The name among `names()` that a name means.

    Capitals, `-` and `_` do not matter; what follows a dot, as in timm's `resnet50.a1_in1k`, is of
    no account.

    Args:
        name: a bundled network's, also by its names in timm and torchvision.
        publisher: whose name it is. None: anyone's.

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
        f"no model {name!r}.{meant} Choose one of {', '.join(names())}, or name a function of "
        "yours that returns a Classifier, as package.module:function"
    )


def entry(name: str) -> Entry:
    """What is known of a network.

    Args:
        name: as in `known_as`.

    Raises:
        ValueError: the name is unknown.
    """
    from scorecam_jax.models.bundled import ENTRIES

    return ENTRIES[known_as(name)]


def plain(name: str) -> str:
    """A name as it is compared with others."""
    return name.lower().replace("-", "_").partition(".")[0]


def _by_any_name() -> dict[str, str]:
    """The name among `names()`, by itself and its aliases."""
    from scorecam_jax.models.bundled import ENTRIES

    return {
        plain(alias): name for name, entry in ENTRIES.items() for alias in (name, *entry.aliases)
    }
