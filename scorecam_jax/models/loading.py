"""Loading classifiers: by name, from a checkpoint, or from a user's own function."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scorecam_jax.models.checkpoints.errors import short
from scorecam_jax.models.checkpoints.folder import Stored, stored
from scorecam_jax.models.checkpoints.hub import fetched, is_address
from scorecam_jax.models.checkpoints.settings import Settings
from scorecam_jax.models.classifier import Classifier
from scorecam_jax.models.labels import read_labels, usual_labels
from scorecam_jax.models.own import is_own, own
from scorecam_jax.models.packages import checked_file
from scorecam_jax.models.preprocess import Preprocess
from scorecam_jax.models.prompts import TOKENIZER, classes_of, text_embeddings
from scorecam_jax.models.registry import Counterpart, Entry, entry, known_as, names

# Texts that become the classes, or a function from a network's name to them.
Prompts = Sequence[str] | Callable[[str], Sequence[str] | None] | None

_OWN_SIZE = "{} sets its input size itself; leave out size"


def load(
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    layer: str | None = None,
    dtype: Any = None,
    *,
    labels: str | os.PathLike[str] | None = None,
    prompts: Prompts = None,
    size: int | tuple[int, int] | None = None,
    embedding: bool = False,
) -> Classifier:
    """Load a pretrained classifier, or a classifier of your own, ready to be explained.

    Nothing is downloaded unless `weights` is an address, `hf://...`. The weights of
    `"efficientnet_lite0"` come with a Python package (the extra `demo`); for most other networks,
    give files of your own. A folder written by timm's `save_for_hf` or transformers'
    `save_pretrained` states the network, its preprocessing and its class names. In a file without
    a configuration, the network is recognised by its tensors.

    Args:
        name: one of `names()`, or the network's name in timm or torchvision; or
            `"package.module:function"`, a function of yours that returns a `Classifier`. Your
            function receives `weights`, `layer` and `dtype`, each only if given. None: the
            network is identified from the weights.
        weights: a folder, or a checkpoint that `load_checkpoint` reads, with PyTorch's entries for
            the network; or `hf://OWNER/NAME`, with or without `@REVISION`, a repository on the
            Hugging Face Hub. None: the packaged weights, if they are installed.
        layer: the path of the layer to show. None: the last with a spatial grid, after its
            nonlinearity.
        dtype: the floating-point type to run the network in, for example `jnp.bfloat16`.
        labels: a file with the class names: one per line, or JSON. None: the configuration's
            names, or else ImageNet's for 1,000 classes.
        prompts: for CLIP and SigLIP, texts that become the classes, such as
            `["a photo of a cat", "a photo of a dog"]`. The outputs are their logits, whose softmax
            is each prompt's probability among all. A single prompt is compared with
            `scorecam_jax.models.NEUTRAL_PROMPTS`. `tokenizer.json` must be in the folder of the
            weights. None: the outputs are image embeddings, and there are no labels. If the
            network is known only once the weights are read, pass a function from its name to
            prompts or None; see `takes_prompts`.
        size: (height, width) of the input, or one number for both. Larger inputs give a finer
            grid. Sides must be multiples of the patch size for vision transformers; VGG16 accepts
            one size only. None: the network's own input size.
        embedding: drop the last layer, which turns embeddings into logits, and the labels; see
            `likeness` and `few_shot`. Ignored for a function of yours.

    Raises:
        ValueError: the name is unknown; there are no weights, or they do not fit the network; the
            configuration or the labels do not fit the weights; your function does not exist,
            does not accept an option, or returns an inconsistent classifier.
        FileNotFoundError: there is no such file or folder.
        OSError: the Hub cannot be reached.
        ImportError: the extra `demo`, `hub` or, for prompts, `clip` is not installed, or a module
            that yours imports is not.
    """
    if not callable(prompts):
        _check_prompts(prompts, labels)
    sides = _sides(size)
    named = None if labels is None else read_labels(labels)
    if name is not None and is_own(name):
        if _asked_of(name, prompts) is not None:
            raise ValueError(f"{name} takes no prompts: only the bundled CLIP and SigLIP do")
        if sides is not None:
            raise ValueError(_OWN_SIZE.format(name))
        return own(name, labels=named, weights=weights, layer=layer, dtype=dtype)
    if name is None and weights is None:
        raise ValueError(
            "neither a name nor weights were given; try load('efficientnet_lite0') or "
            "load(weights='folder')"
        )
    if weights is None:
        weights = packaged_weights(str(name))
    if weights is None:
        name = known_as(str(name))
        raise ValueError(
            f"{name} comes without weights, and nothing is downloaded unasked: pass a file or "
            f"folder, load({name!r}, weights='{name}.pth'). Weights are published by torchvision "
            f"(the URL is in torchvision.models, in the weights class of {name}) and by timm on "
            "the Hugging Face Hub (model.safetensors; weights='hf://timm/NAME' downloads them)"
        )
    files = files_of(weights, () if prompts is None else TOKENIZER)
    return _from_disk(name, files, named, prompts, sides, embedding).classifier(layer, dtype)


def files_of(weights: str | os.PathLike[str], beside: Sequence[str] = ()) -> Stored:
    """Find a network's files, or fetch them if `weights` is an address on the Hub.

    Args:
        weights: as in `load`.
        beside: further files to fetch.

    Raises:
        ValueError, OSError, ImportError: as in `load`.
    """
    if is_address(weights):
        return fetched(os.fspath(weights), beside)
    return stored(weights)


def random(
    name: str,
    layer: str | None = None,
    dtype: Any = None,
    *,
    size: int | tuple[int, int] | None = None,
) -> Classifier:
    """Initialise a bundled architecture at random, for benchmarks: its outputs mean nothing.

    For `"package.module:function"`, the result is that of `load`.

    Args:
        name: as in `load`.
        layer: as in `load`.
        dtype: as in `load`.
        size: as in `load`.

    Raises:
        ValueError: the name is unknown, or the size is invalid.
    """
    if is_own(name):
        if size is not None:
            raise ValueError(_OWN_SIZE.format(name))
        return own(name, layer=layer, dtype=dtype)
    from flax import nnx

    from scorecam_jax.adapters.nnx import from_nnx

    name = known_as(name)
    found = entry(name)
    layer = layer or found.layer
    model = from_nnx(found.network(nnx.Rngs(0)), layer, dtype=dtype)
    labels = usual_labels(found.classes or 0)
    sides = _sides(size) or found.preprocess.size
    preprocess = dataclasses.replace(found.preprocess, size=sides)
    return Classifier(model, preprocess, labels, sides, layer, name)


def packaged_weights(name: str) -> Path | None:
    """Return the path of a network's weights in a Python package, or None if it has none.

    Raises:
        ValueError: the name is unknown, or the file differs from the published one.
        ImportError: the package is not installed.
    """
    package = None if is_own(name) else entry(name).package
    return None if package is None else checked_file(*package)


def takes_prompts(name: str | None) -> bool:
    """Whether `load` accepts prompts for a network, which needs a text tower."""
    with contextlib.suppress(ValueError):
        return name is not None and not is_own(name) and entry(name).file in ("clip", "siglip")
    return False


def counterpart(name: str) -> Counterpart:
    """Return where to find the same network in PyTorch.

    Raises:
        ValueError: the name is unknown, or the network has no known counterpart.
    """
    found = None if is_own(name) else entry(name).counterpart
    if found is None:
        raise ValueError(f"{name!r} has no known counterpart in PyTorch; try 'resnet50'")
    return found


class _Found(NamedTuple):
    """A bundled network with its weights."""

    network: Any
    entry: Entry
    name: str
    preprocess: Preprocess
    labels: tuple[str, ...]

    def classifier(self, layer: str | None, dtype: Any) -> Classifier:
        """The classifier whose model shows a layer."""
        from scorecam_jax.adapters.nnx import from_nnx

        layer = layer or self.entry.layer
        model = from_nnx(self.network, layer, dtype=dtype)
        size = self.preprocess.size
        return Classifier(model, self.preprocess, self.labels, size, layer, self.name)


def _from_disk(
    name: str | None,
    files: Stored,
    given: tuple[str, ...] | None,
    prompts: Prompts,
    size: tuple[int, int] | None,
    embedding: bool,
) -> _Found:
    from scorecam_jax.models.checkpoints.fill import from_checkpoint
    from scorecam_jax.models.checkpoints.recognise import named, recognised, unwrapped

    settings = _settings(files)
    tensors = unwrapped(files.tensors())
    if settings.architecture is not None:
        told = known_as(settings.architecture, settings.publisher)
        if name is not None and told not in (known_as(name), known_as(name, settings.publisher)):
            raise ValueError(
                f"{files.config} describes {settings.architecture}, but {name} was requested; "
                f"leave out the name, or give weights of {name}"
            )
        found = named(settings.architecture, tensors, settings.publisher)
    elif name is not None:
        found = named(name, tensors, settings.publisher)
    else:
        found = recognised(tensors, files.weights)
    _check_arguments(settings, found.layout.assumes, files)
    arguments = found.arguments(tensors, settings.arguments)
    published, tensors = tensors, found.layout.converted(tensors)
    classes = arguments.setdefault("classes", settings.classes or found.entry.classes) or 0
    if not classes:
        # transformers also saves class names with a network that has no classes.
        settings = settings._replace(classes=None, labels=None)
    if settings.classes not in (None, classes):
        raise ValueError(
            f"{files.config} states {settings.classes} classes, but the weights in "
            f"{files.weights} have {classes}"
        )
    labels = given or settings.labels or usual_labels(classes)
    if len(labels) != classes:
        raise ValueError(
            f"the network in {files.weights} has {classes} classes, but {len(labels)} labels were "
            "given; give one per class"
        )
    network = from_checkpoint(
        lambda rngs: found.network(rngs, **arguments), tensors, found.layout.names
    )
    texts = _asked_of(found.name, prompts)
    if texts is not None:
        _check_prompts(texts, given)
        labels = _put_to(network, texts, found.name, published, settings, files)
    elif embedding and labels:
        from scorecam_jax.models.layers import Unchanged

        setattr(network, found.entry.module.HEAD, Unchanged())
        labels = ()
    way = {
        **found.layout.preprocess,
        **settings.preprocess,
        **({} if size is None else {"size": size}),
    }
    preprocess = dataclasses.replace(found.entry.preprocess, **way)
    return _Found(network, found.entry, found.name, preprocess, labels)


def _asked_of(name: str, prompts: Prompts) -> Sequence[str] | None:
    return prompts(name) if callable(prompts) else prompts


def _check_prompts(prompts: Sequence[str] | None, labels: Any) -> None:
    if prompts is not None and labels is not None:
        raise ValueError("prompts are the labels: give prompts or labels, not both")


def _sides(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """The requested height and width of the input, or None."""
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(side > 0 for side in sides):
        raise ValueError(f"size is {size!r}, wanted the input's height and width in pixels")
    return sides[0], sides[1]


def _put_to(
    network: Any,
    prompts: Sequence[str],
    name: str,
    checkpoint: Mapping[str, Any],
    settings: Settings,
    files: Stored,
) -> tuple[str, ...]:
    """Make prompts the classes of a network, and return their names."""
    from scorecam_jax.models.checkpoints.clip import likeness

    if not hasattr(network, "compare_with"):
        known = ", ".join(filter(takes_prompts, names()))
        raise ValueError(f"{name} has no text tower, which prompts require; choose one of {known}")
    texts = classes_of(prompts)
    folder = files.weights.parent
    embeddings = text_embeddings(checkpoint, settings.arguments, folder, texts)
    network.compare_with(embeddings, *likeness(checkpoint))
    return texts


def _settings(files: Stored) -> Settings:
    """The configuration's settings, whatever library wrote it."""
    from scorecam_jax.models.checkpoints import hugging_face, keras, timm

    if files.weights.suffix.lower() in keras.SUFFIXES:
        return keras.settings(files.weights)
    config, preprocessor = files.settings()
    if timm.is_timms(config):
        return timm.settings(config, files.config)
    if config or preprocessor:
        both = files.config, files.preprocessor
        return hugging_face.settings(config, preprocessor, both)
    return Settings()


def _check_arguments(settings: Settings, assumed: Any, files: Stored) -> None:
    """Raise an error if the network was created with other arguments than the bundled one."""
    for name, value in settings.arguments.items():
        if name not in assumed and settings.publisher == "timm":
            raise ValueError(
                f"{files.config}: the network was created with the argument {short(name)}, which "
                f"the bundled network does not support; supported are {', '.join(assumed)}"
            )
        if name in assumed and value not in assumed[name]:
            raise ValueError(
                f"{files.config}: {name} is {short(value)}, but the bundled network supports only "
                f"{' or '.join(map(str, assumed[name]))}"
            )
