"""What can be explained: a network, and the way of a photograph in and of a heatmap out."""

from typing import Any, NamedTuple

from scorecam_jax.contract.model import AnyModel, channel_axis_of
from scorecam_jax.reading import Takes


class Classifier(NamedTuple):
    """A network with all it takes to put a photograph to it.

    Attributes:
        model: a `Model`: `model(inputs) -> (logits, activations)`. Without labels its outputs are
            an embedding, (N, features), whose likeness to others is explained: see
            `scorecam_jax.scores.similarity`.
        preprocess: a Pillow image to an input, and the way back for heatmaps and boxes: a
            `Preprocess`, or what has its methods. For a network of volumes a `VolumePreprocess`,
            of series a `SeriesPreprocess` or a `SpectrogramPreprocess`.
        labels: the name of each class; empty for an embedding.
        input_size: height and width of an input; of a volume depth, height and width; of a series
            (time,) or (1, time).
        layer: the path of the layer that the model shows.
        name: of the network, if it is a bundled one.
    """

    model: AnyModel
    preprocess: Any
    labels: tuple[str, ...]
    input_size: tuple[int, ...]
    layer: str
    name: str | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one input: (*spatial, C), or (C, *spatial) for a network with its channels first."""
        channels = getattr(self.preprocess, "channels", 3)
        first = channel_axis_of(self.model) == 1
        return (channels, *self.input_size) if first else (*self.input_size, channels)

    @property
    def takes(self) -> Takes:
        """What is put to the network, as the preprocessing says, or else the size of an input."""
        known: Takes | None = getattr(self.preprocess, "takes", None)
        if known:
            return known
        if len(self.input_size) == 3:
            return "volumes"
        return "series" if self.lines else "pictures"

    @property
    def lines(self) -> bool:
        """Whether an input is a series, which is drawn as lines."""
        return len(self.input_size) == 1 or (
            len(self.input_size) == 2 and self.input_size[0] == 1 < self.input_size[1]
        )

    def with_layers(self, count: int) -> "Classifier":
        """The same, whose model also shows layers before that one, `count` in all.

        Raises:
            TypeError: its model was not made by an adapter.
            ValueError: `count` is not a number from 1 up.
        """
        from scorecam_jax.adapters.model import with_layers

        return self._replace(model=with_layers(self.model, count))
