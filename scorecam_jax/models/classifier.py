"""What can be explained: a network with its preprocessing and labels."""

from typing import Any, NamedTuple

from scorecam_jax.contract.model import AnyModel, channel_axis_of
from scorecam_jax.reading import Takes


class Classifier(NamedTuple):
    """A network with all that is needed to run it on a photograph.

    Attributes:
        model: a `Model`: `model(inputs) -> (logits, activations)`. Without labels its outputs are
            embeddings, (N, features), whose similarity to others is explained; see
            `scorecam_jax.scores.similarity`.
        preprocess: turns a Pillow image into an input, and maps heatmaps and boxes back: a
            `Preprocess`, or an object with its methods. For volumes a `VolumePreprocess`, for
            series a `SeriesPreprocess` or a `SpectrogramPreprocess`.
        labels: the name of each class; empty for an embedding.
        input_size: (height, width) of an input; for a volume (depth, height, width); for a series
            (time,) or (1, time).
        layer: the path of the layer that the model shows.
        name: the network's name if it is bundled.
    """

    model: AnyModel
    preprocess: Any
    labels: tuple[str, ...]
    input_size: tuple[int, ...]
    layer: str
    name: str | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input: (*spatial, C), or (C, *spatial) for a channels-first model."""
        channels = getattr(self.preprocess, "channels", 3)
        first = channel_axis_of(self.model) == 1
        return (channels, *self.input_size) if first else (*self.input_size, channels)

    @property
    def takes(self) -> Takes:
        """The kind of data, as `preprocess.takes` states it, or else inferred from `input_size`."""
        known: Takes | None = getattr(self.preprocess, "takes", None)
        if known:
            return known
        if len(self.input_size) == 3:
            return "volumes"
        return "series" if self.lines else "pictures"

    @property
    def lines(self) -> bool:
        """Whether an input is a series, which is drawn as lines: (time,) or (1, time)."""
        return len(self.input_size) == 1 or (
            len(self.input_size) == 2 and self.input_size[0] == 1 < self.input_size[1]
        )

    def with_layers(self, count: int) -> "Classifier":
        """A copy whose model also shows earlier layers, `count` in all.

        Raises:
            TypeError: the model was not made by an adapter.
            ValueError: `count` is not a positive integer.
        """
        from scorecam_jax.adapters.model import with_layers

        return self._replace(model=with_layers(self.model, count))

    def with_bfloat16_products(self) -> "Classifier":
        """The same, with the factors of the network's products rounded to bfloat16.

        See `scorecam_jax.adapters.with_bfloat16_products`.

        Raises:
            TypeError: its model was not made by an adapter.
        """
        from scorecam_jax.adapters.precision import with_bfloat16_products

        return self._replace(model=with_bfloat16_products(self.model))
