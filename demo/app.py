"""A hosted page of `scorecam app`, as a Space of Hugging Face runs it."""

import threading

from scorecam_jax import models
from scorecam_jax.app import page
from scorecam_jax.app.engine import Networks

NAME = "efficientnet_lite0"


def load(*, layer: str | None, layers: int, embedding: bool) -> models.Classifier:
    """The network, which comes with the extra `demo`."""
    classifier = models.load(NAME, layer=layer, embedding=embedding)
    return classifier.with_layers(layers) if layers > 1 else classifier


if __name__ == "__main__":
    networks = Networks(load, name=NAME)
    networks.warm()
    page.launch(networks, host=None)  # the Space names the address
    threading.Event().wait()
