"""Explanations without given classes: what makes a photograph similar to another, or to examples.

An embedding is the output of a network without a classifier, such as DINOv2: (N, features).
`likeness` and `with_head` put a small head on it, and return a `Classifier` like any other.
"""

import dataclasses
import json
import os
import zipfile
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
"""The divisor of the cosines. The smaller it is, the more the nearest picture dominates."""

_BATCH = 4
# The ridges to try, as multiples of the Gram matrix's mean eigenvalue.
_RIDGES = tuple(10.0**power for power in range(-4, 4))
_SCALES = np.geomspace(1, 300, 60)


def likeness(
    classifier: Classifier,
    pictures: Mapping[str, Any],
    *,
    others: Mapping[str, Any] | None = None,
    temperature: float = TEMPERATURE,
) -> Classifier:
    """A classifier whose classes are pictures, to see what makes a photograph similar to one.

    The logits are the cosines of the embeddings, divided by a temperature. Their softmax is the
    probability of each picture among all. The softmax contrasts a picture with the others, which a
    cosine alone does not: heatmaps of the plain cosines to two pictures are nearly the same.

    Args:
        classifier: a network whose outputs are embeddings. A classifier's logits serve too.
        pictures: Pillow images, or other inputs of `classifier.preprocess`, by name.
        others: further pictures to compare with. None: the photographs of `scorecam_jax.samples`.
        temperature: the divisor of the cosines.

    Returns:
        The classifier. Its labels are the names, those of `pictures` first.

    Raises:
        ValueError: there is no picture, there are fewer than two with the others, or the outputs
            are not embeddings.

    Source: CLIP's zero-shot classifier with pictures instead of texts (Radford et al. 2021,
    arXiv 2103.00020).
    """
    if others is None:
        others = _samples()
    named = {**pictures, **{name: one for name, one in others.items() if name not in pictures}}
    if not pictures or len(named) < 2:
        raise ValueError(
            f"got {len(pictures)} pictures and {len(named) - len(pictures)} others; wanted at "
            "least one picture and another to compare it with"
        )
    references = embed(classifier, list(named.values()))
    head = _Likeness(float(temperature))
    model = then(classifier.model, head, jnp.asarray(references))
    return classifier._replace(model=model, labels=tuple(named))


class Head(NamedTuple):
    """A linear classifier of embeddings.

    Attributes:
        weights: the matrix, for embeddings of length 1.
        bias: the bias of each class.
        labels: the name of each class.
        accuracy: the leave-one-out accuracy: the share of examples classified correctly by a head
            that is fitted to all the others.
        examples: the number of examples.
    """

    weights: Float[np.ndarray, "features classes"]
    bias: Float[np.ndarray, " classes"]
    labels: tuple[str, ...]
    accuracy: float
    examples: int

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the head to a NumPy .npz file."""
        about = {"labels": self.labels, "accuracy": self.accuracy, "examples": self.examples}
        with Path(path).open("wb") as file:
            np.savez(file, weights=self.weights, bias=self.bias, about=np.array(json.dumps(about)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Head":
        """Read a head that `save` wrote.

        Raises:
            ValueError: the file holds no head.
            OSError: the file cannot be read.
        """
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                weights, bias = file["weights"], file["bias"]
                labels = tuple(map(str, about["labels"]))
            if weights.ndim != 2 or not weights.shape[1:] == bias.shape == (len(labels),):
                raise ValueError(
                    f"weights {weights.shape}, bias {bias.shape} and {len(labels)} labels do not "
                    "fit"
                )
            return cls(weights, bias, labels, float(about["accuracy"]), int(about["examples"]))
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} holds no saved classes: {error}") from error


def few_shot(classifier: Classifier, examples: Mapping[str, Sequence[Any]]) -> Head:
    """Fit a linear classifier to the embeddings of a few photographs of each class.

    The head is a ridge regression from embeddings, scaled to length 1, to one-hot classes. Its
    values times a scale are the logits. The ridge and the scale maximise the leave-one-out
    likelihood: that of each photograph under the regression fitted to all the others.

    Args:
        classifier: a network whose outputs are embeddings; logits serve too.
        examples: Pillow images, or other inputs of `classifier.preprocess`, by class.

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
            f"wanted at least two classes with at least two photographs each, found {found}"
        )
    labels = tuple(examples)
    embeddings = embed(classifier, [one for label in labels for one in examples[label]])
    classes = np.repeat(np.arange(len(labels)), [len(examples[label]) for label in labels])
    return _fitted(_unit(embeddings.astype(np.float64)), classes, labels)


def with_head(classifier: Classifier, head: Head) -> Classifier:
    """Put a head on a network: a classifier of the head's classes.

    Raises:
        ValueError: the head is for embeddings of another size.
    """
    features = _outputs(classifier)[-1]
    if features != len(head.weights):
        raise ValueError(
            f"the classes were learned from embeddings of {len(head.weights)} features, but this "
            f"network's have {features}: use the network that they were learned with"
        )
    model = then(classifier.model, _linear, jnp.asarray(head.weights), jnp.asarray(head.bias))
    return classifier._replace(model=model, labels=head.labels)


def embed(classifier: Classifier, pictures: Sequence[Any]) -> Float[np.ndarray, "n features"]:
    """The network's outputs for each picture, in float32.

    Raises:
        ValueError: the outputs are not one row of features per picture, or not finite.
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
            f"the network's outputs are of shape {shape or type(outputs).__name__}, wanted one "
            "embedding per picture, (N, features)"
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
