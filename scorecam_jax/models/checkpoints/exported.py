"""Weights from ONNX files that PyTorch exported, under their PyTorch names."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Num


def load_onnx(path: str | os.PathLike[str]) -> dict[str, Num[np.ndarray, "..."]]:
    """Read the tensors of an ONNX file; the graph is not run.

    PyTorch's exporter keeps the names of biases, norms and convolutions. A matrix that it
    transposes for a product loses its name. The name is recovered from the node that multiplies by
    the matrix: `/encoder/fc1/MatMul` gives `encoder.fc1.weight`, (outputs, inputs) as in PyTorch.
    Any other unnamed tensor is named after the node that uses it: `/embeddings/Concat_6` gives
    `embeddings.Concat_6`.

    Args:
        path: an ONNX file with its weights inside.

    Raises:
        ImportError: the package onnx is not installed.
        FileNotFoundError: there is no such file.
        ValueError: it is not an ONNX file.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper
    except ImportError as error:
        raise ImportError(
            "ONNX files require the package onnx: pip install 'scorecam_jax[dinov2]'"
        ) from error
    if not Path(path).is_file():
        raise FileNotFoundError(f"no ONNX file at {path}: give the path of an existing file")
    try:
        graph = onnx.load(os.fspath(path)).graph
    except DecodeError:
        raise ValueError(f"{path} is not an ONNX file, or it is damaged") from None
    tensors = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    unnamed = {name for name in tensors if "::" in name}
    for node in graph.node:
        layer = node.name.strip("/").replace("/", ".")
        for name in unnamed.intersection(node.input):
            value = tensors.pop(name)
            unnamed.remove(name)
            if node.op_type == "MatMul" and value.ndim == 2:
                tensors[f"{layer.removesuffix('.MatMul')}.weight"] = value.T
            else:
                tensors[layer] = value
    return tensors
