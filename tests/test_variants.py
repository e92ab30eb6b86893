"""Each variant against the maps that the published implementation itself returned."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import score_cam, variants
from scorecam_jax.masks import resize

PUBLISHED = Path(__file__).parent / "data" / "published"

NAMES = {
    "haofanwang": variants.OFFICIAL,
    "yiskw713": variants.YISKW713,
    "tabayashi_lowres": variants.TABAYASHI,
    "tabayashi_top4_lowres": variants.TABAYASHI,
    "pytorch_grad_cam": variants.PYTORCH_GRAD_CAM,
    "torchcam_lowres": variants.TORCHCAM,
    "tf_keras_vis": variants.TF_KERAS_VIS,
    "tf_keras_vis_top4": variants.TF_KERAS_VIS,
}


def network(arrays, layer):
    def convolve(x, name, stride):
        y = jax.lax.conv_general_dilated(
            x, arrays[f"{name}_hwio"], (stride, stride), [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return y + arrays[f"{name}_bias"].reshape(1, 1, 1, -1)

    def model(x):
        signed = convolve(jax.nn.relu(convolve(x, "conv1", 2)), "conv2", 1)
        rectified = jax.nn.relu(signed)
        logits = rectified.mean((1, 2)) @ arrays["dense_io"] + arrays["dense_bias"][None]
        return logits, {"signed": signed, "relu": rectified}[layer]

    return model


def published_maps():
    for shape in ("square", "wide"):
        with np.load(PUBLISHED / f"{shape}.npz") as arrays:
            keys = [key for key in arrays.files if "/" in key]
        yield from (pytest.param(shape, key, id=f"{shape}/{key}") for key in keys)


@pytest.mark.parametrize(("shape", "key"), list(published_maps()))
def test_equals_the_published_implementation(shape, key):
    with np.load(PUBLISHED / f"{shape}.npz") as file:
        arrays = dict(file)
    layer, target, name = key.split("/")
    heatmap = score_cam(
        network(arrays, layer),
        arrays["input_nhwc"][None],
        int(target.removeprefix("target")),
        variant=NAMES[name],
        channels=4 if "top4" in name else None,
    ).heatmap[0]
    expected = arrays[key]
    if name.endswith("_lowres"):
        expected = resize(jnp.asarray(expected), heatmap.shape)
    np.testing.assert_allclose(heatmap, expected, atol=2e-5, rtol=0)
