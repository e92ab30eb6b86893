"""Networks that other people wrote, explained without a layer or a grid being named."""

import functools
import importlib.metadata
import math
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from packaging.version import Version

from scorecam_jax import Deviation, list_layers, score_cam
from tests import reference
from tests.agreement import note
from tests.wild.networks import QUICK, SLOW
from tests.wild.primitives import without_rule

CHANNELS = 6
TARGET = 3

# The layer to explain, as a person who knows the network would choose it: after the last block that
# still mixes places, past its nonlinearity where one follows; in a network that reads its class
# token, before the last attention.
LAYERS = {
    "transformers ResNet": "resnet/encoder",
    "transformers RegNet": "regnet/encoder",
    "transformers ViT": "vit/encoder/layer/1",
    "transformers BEiT": "beit/encoder",
    "transformers DINOv2": "dinov2",
    "transformers CLIP": "vision_model/encoder/layers/1",
    "flaxmodels ResNet18": "BasicBlock_7",
    "haiku ResNet18": "res_net18/~/block_group_3",
    "equimo ViT": "norm",
    "keras MobileNetV3Small": "activation_17",
    "keras ResNet50V2": "post_relu",
    "keras-hub ViT": "vit_encoder",
    "keras-hub ResNet": "stack1_block0_out",
    "keras-hub Swin": "norm",
    "keras-hub MiT": "output_level_3",
    "keras-hub SegFormer": "dropout",
    "equimo ConvNeXt": "dropout",
    "equimo MobileNetv3": "layers/2",
    "haiku MobileNetV1": "mobile_net_v1/mobile_net_v1_block_4",
    "flaxmodels ResNet50": "Bottleneck_15",
    "haiku ResNet50": "res_net50/~/block_group_3",
    "keras ResNet50": "conv5_block3_out",
    "keras ConvNeXtTiny": "add_26",
    "keras DenseNet121": "relu",
    "keras EfficientNetV2B0": "top_activation",
    "keras Xception": "block14_sepconv2_act",
    "keras NASNetMobile": "activation_300",
    "keras InceptionV3 96": "mixed7",
    "keras InceptionV3 128": "mixed10",
}

# From which pixel to which the cells lie, where they do not fill the image. The windows of the stem
# and of the reductions of InceptionV3 have 3 entries and no padding: the first cell of `mixed7`,
# with a stride of 16 pixels, has its centre at 21.5, that of `mixed10`, with one of 32, at 37.5.
BOXES = {"keras InceptionV3 96": (14, 78), "keras InceptionV3 128": (22, 86)}

pytestmark = [
    pytest.mark.wild,
    pytest.mark.canary,
    pytest.mark.filterwarnings("ignore:::(?!scorecam_jax)"),
]


def network(name):
    return {**QUICK, **SLOW}[name]()


@functools.lru_cache(maxsize=1)
def made(name):
    with jax.numpy_rank_promotion("allow"):  # what other people's code needs
        return network(name)


@pytest.fixture(
    params=[
        *(pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in QUICK),
        *(
            pytest.param(name, marks=[pytest.mark.slow, pytest.mark.xdist_group(name)])
            for name in SLOW
        ),
    ]
)
def wild(request):
    with jax.numpy_rank_promotion("allow"):
        yield request.param, made(request.param)


def default(found):
    (layer,) = [layer for layer in list_layers(found.model, found.images) if layer.default]
    return layer


def expected_activations(found):
    """What the framework says that the default layer returns, as the grid that is shown."""
    layer = default(found)
    values = np.asarray(found.read(found.images, layer.path), np.float32)
    if layer.grid and values.ndim != found.images.ndim:  # class and register tokens come first
        cells = math.prod(layer.grid)
        values = values[:, values.shape[1] - cells :]
        values = values.reshape(len(values), *layer.grid, values.shape[-1])
        return np.moveaxis(values, -1, found.model.channel_axis)
    return values


def drawn(values, name, shape):
    """A layer's map at the image's size, where its cells look; beside them their edge goes on."""
    low, high = BOXES.get(name, (0, shape[0]))
    if (low, high) == (0, shape[0]):
        return reference.resize(values, shape)
    square = reference.resize(values, (high - low,) * 2)
    return np.pad(square, [(low, size - high) for size in shape], "edge")


def test_the_default_layer_by_name(wild):
    name, found = wild
    # Keras numbers unnamed layers and operations as it makes them, in one process after another.
    unnumbered = [re.sub(r"_\d+$", "", path) for path in (default(found).path, LAYERS[name])]
    assert unnumbered[0] == unnumbered[1]


def test_every_primitive_has_a_rule(wild):
    _, found = wild
    program = jax.make_jaxpr(found.model)(found.images)
    missing = without_rule(program.jaxpr)
    assert not missing, f"look at {missing}, then give them rules or list them in primitives.py"


def test_this_is_a_pre_release():
    version = importlib.metadata.version("jax")
    if not Version(version).is_prerelease:
        pytest.skip(f"JAX {version} is no pre-release: see CONTRIBUTING")


def test_outputs_and_activations_are_the_networks_own(wild):
    _, found = wild
    outputs, activations = found.model(found.images)
    own = outputs if found.logits is None else found.logits(outputs)
    plain, own = np.asarray(found.plain(found.images)), np.asarray(own)
    size = np.abs(plain).max()
    np.testing.assert_allclose(own, plain, atol=2e-5 * size)
    expected = expected_activations(found)
    size = np.abs(expected).max()
    assert activations.shape == expected.shape
    np.testing.assert_allclose(activations, expected, atol=2e-5 * size)


def test_the_heatmap_is_that_of_a_loop_of_masked_passes(wild, record_property):
    name, found = wild
    axis = found.model.channel_axis
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Keras says this of its own Swin, however it is called.
        warnings.filterwarnings("ignore", message="(?s).*does not support masking")
        explanation = score_cam(
            found.model, found.images[:1], TARGET, score=found.score, channels=Deviation(CHANNELS)
        )
    image = np.moveaxis(found.images[0], axis if axis < 0 else axis - 1, -1)
    maps = np.moveaxis(expected_activations(found)[0], axis if axis < 0 else axis - 1, -1)
    maps = maps.astype(float)
    space = tuple(range(maps.ndim - 1))
    total = np.zeros(maps.shape[:-1])
    for channel in np.argsort(-maps.std(space))[:CHANNELS]:
        mask = reference.scale(drawn(maps[..., channel], name, image.shape[:-1]))
        masked = (image * mask[..., None]).astype("float32")[None]
        outputs = found.plain(np.moveaxis(masked, -1, axis))
        score = reference.softmax(np.asarray(outputs, float))[0, TARGET]
        total += score * maps[..., channel]
    expected = reference.scale(np.maximum(drawn(total, name, image.shape[:-1]), 0))
    difference = np.abs(explanation.heatmap[0] - expected).max()
    version = importlib.metadata.version(found.package)
    row = name, version, default(found).path, str(found.lines)
    note(record_property, *row, f"{len(image)} px", difference)
    np.testing.assert_allclose(explanation.heatmap.max(), 1, rtol=1e-6)
    np.testing.assert_allclose(explanation.heatmap[0], expected, atol=2e-4)


def test_the_network_is_left_as_it_was_and_compiled_once(wild):
    _, found = wild
    before = jax.tree.map(np.array, found.weights())
    options = {"score": found.score, "channels": Deviation(CHANNELS)}
    first = score_cam(found.model, found.images[:1], TARGET, **options)
    programs = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: programs.append(event) if "backend_compile" in event else None
    )
    try:
        second = score_cam(found.model, jnp.asarray(found.images[:1]), TARGET, **options)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not programs
    np.testing.assert_array_equal(first.heatmap, second.heatmap)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(found.weights()), strict=True):
        np.testing.assert_array_equal(old, new)
