"""Layers side by side: a method that is put to one layer after another."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from scorecam_jax.adapters.adapted import Adapted
from scorecam_jax.adapters.model import at_layer, list_layers, register
from scorecam_jax.models import Classifier

MOST = 12
"""How many layers stand side by side at most, unless they are named."""


@dataclasses.dataclass(frozen=True)
class AtLayer:
    """A method that explains another layer than the one that its model shows.

    Attributes:
        method: called as `score_cam` is; so is this.
        layer: the path of the layer.
        shown: how a model shows that layer, with its place measured; None: it is not known yet.
    """

    method: Callable[..., Any]
    layer: str
    shown: Any = None

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The method, whose keywords this takes."""
        return self.method

    def __call__(self, model: Any, inputs: Any, targets: Any = None, **options: Any) -> Any:
        """Explain the layer."""
        there = Adapted(self.shown, *model.args) if self.shown else at_layer(model, self.layer)
        return self.method(there, inputs, targets, **options)

    def measured(self, model: Any, inputs: Any) -> "AtLayer":
        """The same, with the layer's place in the image measured on an input.

        Raises:
            ValueError: the layer does not lie over the image.
        """
        there: Any = register(at_layer(model, self.layer), inputs)
        return dataclasses.replace(self, shown=there.func)


def every_layer(classifier: Classifier) -> list[str]:
    """A network's layer, and the last at each finer grid before it, or blocks before it.

    It is what `layers=n` explains together with the largest n up to `MOST`; the last comes first.

    Raises:
        TypeError: the model was not made by an adapter.
    """
    inputs = jax.ShapeDtypeStruct((1, *classifier.input_shape), "float32")

    def shown(model: Any) -> list[str]:
        return [layer.path for layer in list_layers(model, inputs) if layer.shown][::-1]

    found = shown(classifier.model)
    for count in range(len(found) + 1, MOST + 1):
        more = shown(classifier.with_layers(count).model)
        if not more:  # there are not as many
            break
        found = more
    return found


def by_layer(
    methods: Mapping[str, Callable[..., Any]], layers: Sequence[str]
) -> tuple[dict[str, Callable[..., Any]], dict[str, tuple[str, str]]]:
    """Each method at each layer, by name, and the method and the layer that a name stands for.

    A single method's are called after their layers.
    """
    named = {
        (layer if len(methods) == 1 else f"{name}, {layer}"): (name, layer)
        for name in methods
        for layer in layers
    }
    return {key: AtLayer(methods[name], layer) for key, (name, layer) in named.items()}, named
