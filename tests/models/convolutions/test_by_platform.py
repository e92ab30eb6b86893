"""Every way to compute a convolution equals XLA's, and each platform gets the one wanted."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax.models.convolutions import blocks, by_platform, direct
from scorecam_jax.models.convolutions.direct import geometry_of
from scorecam_jax.models.layers import Conv

RNG = np.random.default_rng(0)
LAYERS = {
    "ResNet's stem": ((2, 30, 30, 3), (7, 7, 3, 8), {"stride": 2, "padding": 3}),
    "EfficientNet's stem": ((2, 31, 28, 3), (3, 3, 3, 8), {"stride": 2, "padding": "SAME"}),
    "ConvNeXt's stem": ((2, 17, 22, 3), (4, 4, 3, 8), {"stride": 4, "padding": "VALID"}),
    "an uneven stem": ((1, 16, 23, 1), (5, 3, 1, 8), {"stride": 3, "padding": 2}),
    "depthwise": ((2, 9, 8, 6), (5, 5, 1, 6), {"stride": 2, "padding": "SAME", "groups": 6}),
    "pointwise": ((2, 9, 8, 6), (1, 1, 6, 7), {"stride": 2, "padding": "SAME"}),
    "few terms": ((2, 9, 8, 3), (3, 3, 3, 7), {"stride": 1, "padding": 1}),
    "small 3x3": ((2, 9, 8, 6), (3, 3, 6, 7), {"stride": 1, "padding": "SAME"}),
    "large 3x3": ((2, 28, 30, 6), (3, 3, 6, 7), {"stride": 1, "padding": 1}),
    "any other": ((2, 9, 8, 6), (3, 3, 6, 7), {"stride": 2, "padding": "SAME"}),
}


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape).astype(np.float32))


def layer_of(name):
    shape, kernel, options = LAYERS[name]
    options = {"groups": 1, **options}
    x, kernel = normal(*shape), normal(*kernel)
    return x, kernel, options, geometry_of(x, kernel, **options)


def chosen(platform, x, kernel, geometry):
    ways = by_platform._WAYS[platform]
    return next((way for way in ways if way.suits(x, kernel, geometry)), by_platform._DIRECT)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_way_equals_the_convolution(platform, name):
    x, kernel, _, geometry = layer_of(name)
    expected = direct.convolve(x, kernel, geometry)
    way = chosen(platform, x, kernel, geometry)
    found = way.convolve(x, way.prepare(kernel, geometry), geometry)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


def test_every_way_of_the_table_is_tried_above():
    for platform, ways in by_platform._WAYS.items():
        layers = [layer_of(name) for name in LAYERS]
        tried = {chosen(platform, x, kernel, geometry) for x, kernel, _, geometry in layers}
        assert tried == {*ways, by_platform._DIRECT}


@pytest.mark.parametrize(
    ("platform", "name", "operations"),
    [
        ("cuda", "ResNet's stem", {"convolution": "2x18x18x16xf32"}),
        ("cuda", "EfficientNet's stem", {"convolution": "x16xf32"}),
        ("cuda", "depthwise", {"multiply": ""}),
        ("cuda", "pointwise", {"convolution": ""}),
        ("cuda", "few terms", {"convolution": ""}),
        ("cuda", "small 3x3", {"convolution": ""}),
        ("cuda", "any other", {"convolution": ""}),
        *(("tpu", name, {"convolution": ""}) for name in LAYERS),
        ("cpu", "ResNet's stem", {"convolution": "2x30x30x3xf32"}),
        ("cpu", "EfficientNet's stem", {"dot_general": ""}),
        ("cpu", "depthwise", {"multiply": ""}),
        ("cpu", "pointwise", {"dot_general": ""}),
        ("cpu", "few terms", {"dot_general": ""}),
        ("cpu", "small 3x3", {"dot_general": ""}),
        ("cpu", "any other", {"convolution": ""}),
    ],
)
def test_each_platform_gets_the_operations_wanted(platform, name, operations):
    x, kernel, options, _ = layer_of(name)

    def run(x, kernel):
        return by_platform.convolve(x, kernel, **options)

    # The layer's own kernel enters as an argument: what prepares it for another platform stays in
    # the text, and takes neither a convolution nor the input.
    program = jax.jit(run).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    for operation, shape in operations.items():
        lines = re.findall(rf".*stablehlo\.{operation}\b.*", program)
        assert lines
        assert any(shape in line for line in lines)
    if "convolution" not in operations:
        assert "stablehlo.convolution" not in program
    if platform == "tpu" or name == "pointwise":
        assert program.count("stablehlo.convolution") == ("convolution" in operations)


def test_the_stems_channels_are_padded_for_matrix_units():
    _, kernel, _, geometry = layer_of("ResNet's stem")
    over_blocks = blocks.transform_kernel(kernel, geometry)
    assert over_blocks.shape == (4, 4, 16, 8)
    assert np.all(over_blocks[:, :, 12:] == 0)


def test_a_pointwise_layer_with_a_border_is_no_product():
    x, kernel = normal(1, 4, 4, 6), normal(1, 1, 6, 2)
    found = by_platform.convolve(x, kernel, stride=1, padding=1, groups=1)
    assert found.shape == (1, 6, 6, 2)
    np.testing.assert_array_equal(found[:, 0], 0)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize("name", LAYERS)
def test_half_precision_is_kept(platform, name):
    x, kernel, _, geometry = layer_of(name)
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    way = chosen(platform, x, kernel, geometry)
    found = jax.eval_shape(
        lambda x, kernel: way.convolve(x, way.prepare(kernel, geometry), geometry), x, kernel
    )
    assert found.dtype == jnp.bfloat16


def test_a_network_lowered_for_a_gpu_has_its_stem_over_blocks_and_no_grouped_convolutions():
    class Small(nnx.Module):
        def __init__(self, rngs):
            self.stem = Conv(3, 8, 7, stride=2, padding=3, rngs=rngs)
            self.filter = Conv(8, 8, 5, depthwise=True, rngs=rngs)
            self.project = Conv(8, 16, 1, activation=jax.nn.relu, rngs=rngs)

        def __call__(self, x):
            return self.project(self.filter(self.stem(x)))

    network = Small(nnx.Rngs(0))
    traced = jax.jit(lambda x: network(x)).trace(jnp.zeros((2, 32, 32, 3)))
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    convolutions = re.findall(r"stablehlo\.convolution.*", program)
    assert len(convolutions) == 2
    assert "2x19x19x16xf32" in convolutions[0]
    assert all("feature_group_count = 1" in line for line in convolutions)
    assert "1x1x8x16xf32" in convolutions[1]
