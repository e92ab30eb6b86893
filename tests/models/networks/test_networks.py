"""What can be known of ResNet and VGG without weights; their logits are tested beside PyTorch."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import models
from scorecam_jax.adapters.nnx import from_nnx
from scorecam_jax.models.checkpoints.fill import fits, wanted
from scorecam_jax.models.networks.resnet import ResNet
from scorecam_jax.models.networks.vgg import VGG16
from scorecam_jax.models.registry import entry

NETWORKS = pytest.mark.parametrize(
    ("make", "layer", "shape", "parameters"),
    [
        # Published parameter counts, less a scale for each channel of a folded batch norm.
        (partial(ResNet, variant="resnet18"), "layer4", (1, 7, 7, 512), 11_689_512 - 4_800),
        (partial(ResNet, variant="resnet50"), "layer4", (1, 7, 7, 2048), 25_557_032 - 26_560),
        (VGG16, "features_29", (1, 14, 14, 512), 138_357_544),
    ],
    ids=["resnet18", "resnet50", "vgg16"],
)


@NETWORKS
def test_sizes_are_the_published_ones(make, layer, shape, parameters):
    state = nnx.state(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == parameters

    def run(inputs):
        return from_nnx(make(rngs=nnx.Rngs(0)), layer)(inputs)

    logits, activations = jax.eval_shape(run, jnp.zeros((1, 224, 224, 3)))
    assert logits.shape == (1, 1000)
    assert activations.shape == shape


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16"])
def test_without_weights_the_error_says_where_they_are(name):
    with pytest.raises(ValueError, match=rf"{name} comes without weights.*torchvision.*timm"):
        models.load(name)


def test_vgg16_takes_one_size():
    with pytest.raises(ValueError, match="200x224"):
        jax.eval_shape(lambda x: VGG16(rngs=nnx.Rngs(0))(x), jnp.zeros((1, 200, 224, 3)))


def test_timms_vgg16_is_torchvisions_by_other_names():
    torchvision, timm, _ = entry("vgg16").layouts
    for path, theirs in [
        ("features_0.weight", "features.0.weight"),
        ("classifier_6.bias", "head.fc.bias"),
    ]:
        assert timm.name(path) == theirs
    assert torchvision.name("classifier_6.bias") == "classifier.6.bias"
    assert fits(np.zeros((4096, 512, 7, 7)), (4096, 25088))
    assert not fits(np.zeros((4096, 25088)), (25088, 4096))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet34", 21_797_672),
        pytest.param("resnext50_32x4d", 25_028_904, marks=pytest.mark.slow),
        pytest.param("convnext_tiny", 28_589_128, marks=pytest.mark.slow),
        ("mobilenet_v3_small", 2_542_856),
        pytest.param("efficientnet_b0", 5_288_548, marks=pytest.mark.slow),
        pytest.param("densenet121", 7_978_856, marks=pytest.mark.slow),
        ("efficientnet_lite0", 4_652_008),
    ],
)
def test_checkpoints_have_as_many_parameters_as_is_published(name, parameters):
    """A batch norm has a scale and a shift to be learned, and statistics that are not."""
    found = entry(name)
    shapes = wanted(lambda rngs: found.network(rngs, classes=1000), found.layouts[0].names)
    learned = [shape for key, shape in shapes.items() if "running_" not in key]
    assert sum(map(math.prod, learned)) == parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["resnext50_32x4d", "convnext_tiny", "mobilenet_v3_small", "efficientnet_b0", "densenet121"],
)
def test_the_layer_that_is_found_without_a_name_has_the_grid_of_the_usual_one(name):
    found = entry(name)

    def run(inputs):
        network = found.network(nnx.Rngs(0))
        return [from_nnx(network, layer)(inputs)[1] for layer in (None, found.layer)]

    chosen, usual = jax.eval_shape(run, jnp.zeros((1, 96, 96, 3)))
    assert chosen.shape == usual.shape
    assert chosen.shape[1:3] == (3, 3)
