"""A network's files on disk: its weights, and the configuration beside them."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scorecam_jax.models.checkpoints.keras import SUFFIXES as KERAS
from scorecam_jax.models.checkpoints.read import INDEX, load_checkpoint, shards_of
from scorecam_jax.models.checkpoints.settings import json_object

# The names that timm, transformers and others give to a folder's file of weights, the preferred
# first, and to the index of weights in several files.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEXES = tuple(name + INDEX for name in WEIGHTS)
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".onnx", ".npz", *KERAS)


class Stored(NamedTuple):
    """A network on disk.

    Attributes:
        weights: the file of the weights, or the index of several files.
        config: the file of the configuration, or None.
        preprocessor: the file that describes the preprocessing, or None.
    """

    weights: Path
    config: Path | None = None
    preprocessor: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All these files, and those that an index names.

        Raises:
            FileNotFoundError: there is no such index.
            ValueError: the index is invalid.
        """
        return *filter(None, self), *shards_of(self.weights)

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights, as `load_checkpoint` returns them."""
        return load_checkpoint(self.weights)

    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The contents of `config` and of `preprocessor`, empty if there is no file.

        Raises:
            ValueError: a file is too large, or is not a JSON object.
        """
        config, preprocessor = (
            {} if file is None else json_object(file) for file in (self.config, self.preprocessor)
        )
        return config, preprocessor


def stored(weights: str | os.PathLike[str]) -> Stored:
    """Find a network's files.

    Args:
        weights: a folder that timm or transformers saved, or one with a single checkpoint; or a
            checkpoint, or the index of one in several files. The configuration beside a file is
            used only if the file is named as in a saved folder.

    Raises:
        FileNotFoundError: there is no checkpoint in the folder.
        ValueError: the folder has several checkpoints, none named as in a saved folder.
    """
    path = Path(weights)
    if path.is_dir():
        path = _weights_in(path)
    if path.name not in WEIGHTS + INDEXES and not Path(weights).is_dir():
        return Stored(path)
    beside = [path.with_name(name) for name in (CONFIG, PREPROCESSOR)]
    return Stored(path, *(file if file.is_file() else None for file in beside))


def _weights_in(folder: Path) -> Path:
    usual = [folder / name for name in WEIGHTS + INDEXES if (folder / name).is_file()]
    if usual:
        return usual[0]
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.name for file in files[:3])
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        raise ValueError(
            f"there are {len(files)} checkpoints in {folder}: {names}{more}; give the path of one"
        )
    raise FileNotFoundError(
        f"no checkpoint in {folder}: wanted {WEIGHTS[0]}, {WEIGHTS[1]}, or one file that ends in "
        + ", ".join(_SUFFIXES[:-1])
        + f" or {_SUFFIXES[-1]}"
    )
