"""What lies on disk of a network: its weights, and the configuration beside them."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scorecam_jax.models.checkpoints.keras import SUFFIXES as KERAS
from scorecam_jax.models.checkpoints.read import INDEX, load_checkpoint, shards_of

# As timm, transformers and others call the one file of weights in a folder, the best first; and
# what says where the weights lie that are spread over several files.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEXES = tuple(name + INDEX for name in WEIGHTS)
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".onnx", ".npz", *KERAS)
# A configuration with the names of 100,000 classes.
_LONGEST_CONFIG = 2**25


class Stored(NamedTuple):
    """A network on disk.

    Attributes:
        weights: the file of its weights, or the index of several.
        config: the file of its configuration, or None.
        preprocessor: the file that says what is made of photographs, or None.
    """

    weights: Path
    config: Path | None = None
    preprocessor: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, and those that an index names.

        Raises:
            ValueError: the index is none.
        """
        return *filter(None, self), *shards_of(self.weights)

    def tensors(self) -> dict[str, np.ndarray]:
        """The weights, as `load_checkpoint` returns them."""
        return load_checkpoint(self.weights)

    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The configuration, and what is made of photographs; empty where there is no file."""
        return _json(self.config), _json(self.preprocessor)


def stored(weights: str | os.PathLike[str]) -> Stored:
    """Find a network's files.

    Args:
        weights: a folder as timm or transformers save it, or with a single checkpoint in it; or a
            checkpoint, or the index of one in several files, whose configuration counts if it is
            called as in such a folder.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: there is not exactly one checkpoint in the folder.
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


def _json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    if path.stat().st_size > _LONGEST_CONFIG:
        raise ValueError(f"{path} is of {path.stat().st_size} bytes, more than a configuration has")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, wanted an object")
    return content
