import numpy as np
import pytest

from scorecam_jax import models


def test_matrices_are_called_as_the_nodes_that_multiply_by_them(tmp_path):
    onnx = pytest.importorskip("onnx", reason="reads ONNX files")
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    values = {"fc1.bias": np.ones(3, np.float32), "onnx::MatMul_7": matrix}
    values["onnx::Add_9"] = np.full(3, 2, np.float32)
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "onnx::MatMul_7"], ["y"], "/fc1/MatMul"),
        onnx.helper.make_node("Add", ["y", "onnx::Add_9"], ["z"], "/embed/Add_1"),
    ]
    graph = onnx.helper.make_graph(
        nodes, "graph", [], [],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )  # fmt: skip
    onnx.save(onnx.helper.make_model(graph), tmp_path / "NETWORK.ONNX")
    found = models.load_checkpoint(tmp_path / "NETWORK.ONNX")
    assert found.keys() == {"fc1.bias", "fc1.weight", "embed.Add_1"}
    np.testing.assert_array_equal(found["fc1.weight"], matrix.T)
    np.testing.assert_array_equal(found["embed.Add_1"], [2, 2, 2])


def test_what_is_no_onnx_file_is_told(tmp_path):
    pytest.importorskip("onnx", reason="reads ONNX files")
    (tmp_path / "network.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(ValueError, match=r"network\.onnx is not an ONNX file"):
        models.load_checkpoint(tmp_path / "network.onnx")
    with pytest.raises(FileNotFoundError, match="no ONNX file at"):
        models.load_checkpoint(tmp_path / "missing.onnx")
