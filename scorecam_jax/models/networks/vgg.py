"""VGG16, the network of the Score-CAM paper, as torchvision defines it."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from scorecam_jax.models.checkpoints.keras import CAFFE, of_rgb
from scorecam_jax.models.checkpoints.layout import Layout
from scorecam_jax.models.layers import Conv, Linear

_WIDTHS = (64, 64, "pool", 128, 128, "pool", *(256,) * 3, "pool", *((512,) * 3 + ("pool",)) * 2)
# From tensor paths in this library to torchvision's and timm's names.
_TORCHVISION = {r"^(features|classifier)_": r"\1."}
_TIMM = {
    **_TORCHVISION,
    r"^classifier\.0": "pre_logits.fc1",
    r"^classifier\.3": "pre_logits.fc2",
    r"^classifier\.6": "head.fc",
}


def _keras_names() -> dict[str, str]:
    """The map from tensor paths in this library to Keras's names."""
    names = {r"^classifier_0": "fc1", r"^classifier_3": "fc2", r"^classifier_6": "predictions"}
    index, block, conv = 0, 1, 1
    for width in _WIDTHS:
        if isinstance(width, int):
            names[rf"^features_{index}\."] = f"block{block}_conv{conv}."
            index, conv = index + 2, conv + 1
        else:
            index, block, conv = index + 1, block + 1, 1
    return names


def _from_keras(checkpoint: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert Keras's checkpoint to RGB, and its first dense layer to channels-first order."""
    found = of_rgb(checkpoint, "block1_conv1.weight")
    first = found.get("fc1.weight")
    if first is not None and first.shape[1:] == (7 * 7 * 512,):
        places = first.reshape(-1, 7, 7, 512).transpose(0, 3, 1, 2)
        found["fc1.weight"] = places.reshape(first.shape)
    return found


LAYOUTS = (
    Layout("torchvision", r"classifier\.3\.weight", _TORCHVISION),
    Layout("timm", r"pre_logits\.fc1\.weight", _TIMM),
    Layout("keras", r"block5_conv3\.weight", _keras_names(), convert=_from_keras, preprocess=CAFFE),
)
HEAD = "classifier_6"


class ReLU(nnx.Module):
    """A ReLU as a separate layer, so that it can be explained."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The positive part."""
        return jax.nn.relu(x)


class MaxPool(nnx.Module):
    """The maximum over 2×2 pixels."""

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch rows columns channels"]:
        """The activations at half the size."""
        return nnx.max_pool(x, (2, 2), (2, 2))


class VGG16(nnx.Module):
    """VGG16 without batch norm, in evaluation mode.

    Takes (N, 224, 224, 3), RGB normalised by ImageNet's mean and deviation; returns (N, classes)
    logits. `features_0` to `features_30` are torchvision's layers; `features_29`, the last ReLU
    before pooling, gives (N, 14, 14, 512).

    References:
        Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", ICLR 2015 (arXiv 1409.1556), configuration D.
    """

    def __init__(self, *, classes: int = 1000, rngs: nnx.Rngs):
        inputs = 3
        layers: list[nnx.Module] = []
        for width in _WIDTHS:
            if isinstance(width, int):
                layers += [Conv(inputs, width, 3, rngs=rngs), ReLU()]
                inputs = width
            else:
                layers.append(MaxPool())
        for index, layer in enumerate(layers):
            setattr(self, f"features_{index}", layer)
        self.depth = len(layers)
        self.classifier_0 = Linear(512 * 7 * 7, 4096, rngs=rngs)
        self.classifier_3 = Linear(4096, 4096, rngs=rngs)
        self.classifier_6 = Linear(4096, classes, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """The logits.

        Raises:
            ValueError: the input is not 224 pixels high and wide.
        """
        if x.shape[1:3] != (224, 224):
            raise ValueError(f"inputs are {x.shape[1]}x{x.shape[2]}; VGG16 takes 224x224")
        for index in range(self.depth):
            x = getattr(self, f"features_{index}")(x)
        # The published weights expect channels-first order.
        x = jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)
        x = jax.nn.relu(self.classifier_0(x))
        return self.classifier_6(jax.nn.relu(self.classifier_3(x)))
