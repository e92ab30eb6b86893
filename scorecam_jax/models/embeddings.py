"""Questions without classes: what makes a photograph like another, or one of a few examples'.

An embedding is a network's output without its classifier, as of DINOv2: (N, features). Both
functions here put a small head on it, and return a `Classifier` like any other.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scorecam_jax import samples
from scorecam_jax._internal.filter_jit import filter_jit
from scorecam_jax.contract.model import AnyModel
from scorecam_jax.contract.outputs import then
from scorecam_jax.models.classifier import Classifier
from scorecam_jax.steps.scores import similarity
from scorecam_jax.steps.vectors import unit

TEMPERATURE = 0.05
"""By what cosines are divided: the less, the more the nearest picture counts."""

_BATCH = 4
# Shares of the Gram matrix's mean eigenvalue that are tried as ridges.
_RIDGES = tuple(10.0**power for power in range(-4, 4))
_SCALES = np.geomspace(1, 300, 60)


def likeness(
    classifier: Classifier,
    pictures: Mapping[str, Any],
    *,
    others: Mapping[str, Any] | None = None,
    temperature: float = TEMPERATURE,
) -> Classifier:
    """A classifier whose classes are pictures, to see what makes a photograph like one of them.

    Logits are the cosines of the embeddings, divided by a temperature; their softmax is the
    probability of each picture among all. It contrasts a picture with the others, because a cosine
    alone says little: maps of the plain cosine to one picture and to another are nearly the same.

    Args:
        classifier: a network whose outputs are an embedding. Those of a classifier, its logits,
            serve too.
        pictures: Pillow images, or what else `classifier.preprocess` takes, by name.
        others: further pictures to compare with. None: the photographs of `scorecam_jax.samples`.
        temperature: by what the cosines are divided.

    Returns:
        The classifier; its labels are the names, those of `pictures` first.

    Raises:
        ValueError: there are fewer than two pictures in all, or the outputs are no embedding.

    Source: CLIP's zero-shot classifier with pictures in the place of texts (Radford et al. 2021,
    arXiv 2103.00020).
    """
    if others is None:
        others = _samples()
    named = {**pictures, **{name: one for name, one in others.items() if name not in pictures}}
    if not pictures or len(named) < 2:
        raise ValueError(
            f"{len(pictures)} pictures and {len(named) - len(pictures)} others are given, wanted "
            "at least one and another to compare it with"
        )
    references = embed(classifier, list(named.values()))
    head = _Likeness(float(temperature))
    model = then(classifier.model, head, jnp.asarray(references))
    return classifier._replace(model=model, labels=tuple(named))


class Head(NamedTuple):
    """A linear classifier of embeddings.

    Attributes:
        weights: for embeddings of length 1.
        bias: of each class.
        labels: the name of each class.
        accuracy: the share of the examples that are recognised by the head that is fitted to all
            but the one.
        examples: how many there were.
    """

    weights: Float[np.ndarray, "features classes"]
    bias: Float[np.ndarray, " classes"]
    labels: tuple[str, ...]
    accuracy: float
    examples: int

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the head to a file of NumPy's format .npz."""
        about = {"labels": self.labels, "accuracy": self.accuracy, "examples": self.examples}
        with Path(path).open("wb") as file:
            np.savez(file, weights=self.weights, bias=self.bias, about=np.array(json.dumps(about)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Head":
        """Read what `save` has written.

        Raises:
            ValueError: the file is not of this kind.
            OSError: it cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                weights, bias = file["weights"], file["bias"]
                labels = tuple(map(str, about["labels"]))
            if weights.ndim != 2 or weights.shape[1:] != bias.shape != (len(labels),):
                raise ValueError(f"weights {weights.shape} and {len(labels)} labels do not fit")
            return cls(weights, bias, labels, float(about["accuracy"]), int(about["examples"]))
        except (ValueError, KeyError, TypeError, EOFError) as error:
            raise ValueError(f"{path} holds no classes that were saved: {error}") from error


def few_shot(classifier: Classifier, examples: Mapping[str, Sequence[Any]]) -> Head:
    """Fit a linear classifier to the embeddings of a few photographs of each class.

    It is a ridge regression on the classes, of embeddings that were scaled to length 1. The ridge,
    and the scale at which its values are logits, are those under which the photographs are
    likeliest, each by the regression that is fitted to all the others.

    Args:
        classifier: a network whose outputs are an embedding; logits serve too.
        examples: by class, Pillow images or what else `classifier.preprocess` takes.

    Returns:
        The head; `with_head` puts it on the network.

    Raises:
        ValueError: there are fewer than two classes, or a class has fewer than two photographs.

    Source: leave-one-out predictions of a ridge regression in closed form, as in Golub, Heath and
    Wahba, "Generalized Cross-Validation as a Method for Choosing a Good Ridge Parameter" (1979).
    """
    few = {label: len(pictures) for label, pictures in examples.items() if len(pictures) < 2}
    if len(examples) < 2 or few:
        found = ", ".join(f"{label}: {len(each)}" for label, each in examples.items()) or "none"
        raise ValueError(
            f"wanted at least two classes of at least two photographs each, found {found}"
        )
    labels = tuple(examples)
    embeddings = embed(classifier, [one for label in labels for one in examples[label]])
    classes = np.repeat(np.arange(len(labels)), [len(examples[label]) for label in labels])
    return _fitted(_unit(embeddings.astype(np.float64)), classes, labels)


def with_head(classifier: Classifier, head: Head) -> Classifier:
    """The classifier of the head's classes.

    Raises:
        ValueError: the head is for embeddings of another size.
    """
    features = _outputs(classifier)[-1]
    if features != len(head.weights):
        raise ValueError(
            f"the classes were learnt from embeddings of {len(head.weights)} features, and this "
            f"network's have {features}: they are of another network"
        )
    model = then(classifier.model, _linear, jnp.asarray(head.weights), jnp.asarray(head.bias))
    return classifier._replace(model=model, labels=head.labels)


def embed(classifier: Classifier, pictures: Sequence[Any]) -> Float[np.ndarray, "n features"]:
    """The network's outputs for each picture.

    Raises:
        ValueError: they are no embedding, one row for each picture, or not finite.
    """
    _outputs(classifier)
    found = []
    for first in range(0, len(pictures), _BATCH):
        some = [np.asarray(classifier.preprocess(one)) for one in pictures[first : first + _BATCH]]
        filled = np.stack([*some, *some[-1:] * (_BATCH - len(some))])
        found.append(np.asarray(_run(classifier.model, filled), np.float32)[: len(some)])
    embeddings = np.concatenate(found)
    if not np.isfinite(embeddings).all():
        raise ValueError("the network's outputs are NaN or infinite on one of the pictures")
    return embeddings


@filter_jit
def _run(model: AnyModel, inputs: Array) -> Array:
    return model(inputs)[0]


@dataclasses.dataclass(frozen=True)
class _Likeness:
    temperature: float

    def __call__(self, references: Array, outputs: Array) -> Array:
        return similarity(references)(outputs.astype(jnp.float32)) / self.temperature


def _linear(weights: Array, bias: Array, outputs: Array) -> Array:
    rows = unit(outputs.astype(jnp.float32))
    return jnp.matmul(rows, weights, precision="highest") + bias[None]


def _unit(rows: Float[np.ndarray, "n features"]) -> Float[np.ndarray, "n features"]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _outputs(classifier: Classifier) -> tuple[int, ...]:
    """The shape of the outputs for one picture."""
    inputs = jax.ShapeDtypeStruct((1, *classifier.input_shape), "float32")
    outputs, _ = jax.eval_shape(classifier.model, inputs)
    shape = getattr(outputs, "shape", None)
    if shape is None or len(shape) != 2:
        raise ValueError(
            f"the network's outputs are of shape {shape or type(outputs).__name__}, wanted an "
            "embedding for each picture, (N, features)"
        )
    return tuple(shape)


def _fitted(
    rows: Float[np.ndarray, "n features"], classes: Int[np.ndarray, " n"], labels: tuple[str, ...]
) -> Head:
    wanted = np.eye(len(labels))[classes]
    mean, share = rows.mean(0), wanted.mean(0)
    centred = rows - mean
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values = values.clip(0)
    tried = []
    for ridge in _RIDGES:
        ridge *= values.mean() or 1
        hat = (vectors * (values / (values + ridge))) @ vectors.T + 1 / len(rows)
        own = np.diag(hat)[:, None]
        left_out = (hat @ wanted - own * wanted) / (1 - own).clip(1e-9)
        accuracy = float((left_out.argmax(1) == classes).mean())
        for scale in _SCALES:
            likelihoods = _log_softmax(scale * left_out)[np.arange(len(rows)), classes]
            tried.append((likelihoods.mean(), ridge, scale, accuracy))
    _, ridge, scale, accuracy = max(tried)
    dual = (vectors / (values + ridge)) @ vectors.T @ (wanted - share)
    weights = centred.T @ dual
    bias = share - mean @ weights
    return Head(
        (scale * weights).astype(np.float32), (scale * bias).astype(np.float32), labels,
        accuracy, len(rows),
    )  # fmt: skip


def _log_softmax(logits: Float[np.ndarray, "n classes"]) -> Float[np.ndarray, "n classes"]:
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _samples() -> dict[str, Any]:
    from scorecam_jax.reading import find, read_picture

    return {
        source.path.stem: read_picture(source).image for source in find([samples.FOLDER]).sources
    }
