"""The logits of convolutional networks against those of the packages that define them."""

import jax
import pytest

from scorecam_jax import models
from tests.peers.originals import assert_logits_equal, images, logits_of, with_random_weights

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

pytestmark = pytest.mark.peers

TORCHVISION = (
    "resnet34",
    "resnet101",
    "resnext50_32x4d",
    "convnext_tiny",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_v2_s",
    "densenet121",
)
TIMM = (
    "resnet34",
    "resnext50_32x4d",
    "convnext_tiny",
    "convnext_base",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "tf_mobilenetv3_small_100",
    "tf_mobilenetv3_large_100",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b3",
    "tf_efficientnet_b0",
    "tf_efficientnet_b2",
    "efficientnetv2_s",
    "tf_efficientnetv2_s",
    "densenet121",
    "efficientnet_lite0",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite2",
    "tf_efficientnet_lite4",
)


@pytest.fixture
def compare(tmp_path):
    """Check that a network answers as the original does, whose checkpoint says nothing else."""

    def compare(original, name=None):
        path = tmp_path / "weights.pth"
        torch.save(with_random_weights(original).state_dict(), path)
        # A side that is no multiple of 32, so that borders are odd somewhere.
        inputs = images(72)
        classifier = models.load(name, weights=path)
        logits, activations = jax.jit(lambda model, x: model(x))(classifier.model, inputs)
        assert_logits_equal(logits, logits_of(original, inputs))
        assert activations.ndim == 4
        assert activations.shape[1] == activations.shape[2] > 1
        return classifier

    return compare


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions(torchvision, compare, name):
    original = getattr(torchvision.models, name)(weights=None, num_classes=7)
    assert compare(original, name).labels[-1] == "class 6"


@pytest.mark.parametrize("name", TIMM)
def test_timms(torchvision, compare, name):
    timm = pytest.importorskip("timm")
    compare(timm.create_model(name, num_classes=7), name)


@pytest.mark.parametrize(
    ("kind", "depths", "widths", "name"),
    [
        ("basic", [2, 2, 2, 2], [64, 128, 256, 512], "resnet18"),
        ("bottleneck", [3, 4, 6, 3], [256, 512, 1024, 2048], "resnet50"),
    ],
)
def test_transformers_resnets(torchvision, compare, kind, depths, widths, name):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        layer_type=kind, depths=depths, hidden_sizes=widths, num_labels=7
    )
    assert compare(transformers.ResNetForImageClassification(config)).name == name


def test_transformers_convnext(torchvision, compare):
    transformers = pytest.importorskip("transformers")
    original = transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(num_labels=7)
    )
    assert compare(original).name == "convnext_tiny"


@pytest.mark.parametrize(
    ("name", "width", "depth", "head", "odd"),
    [("b0", 1.0, 1.0, 1280, [2]), ("b1", 1.0, 1.1, 1280, []), ("b3", 1.2, 1.4, 1536, [5, 18])],
)
def test_transformers_efficientnets(torchvision, tmp_path, name, width, depth, head, odd):
    """Their strided kernels are padded by a list, whatever the sides are."""
    transformers = pytest.importorskip("transformers")
    config = transformers.EfficientNetConfig(
        width_coefficient=width, depth_coefficient=depth, hidden_dim=head, num_labels=7,
        depthwise_padding=odd, hidden_act="silu",
    )  # fmt: skip
    original = with_random_weights(transformers.EfficientNetForImageClassification(config))
    original.save_pretrained(tmp_path)
    classifier = models.load(weights=tmp_path)
    assert classifier.name == f"tf_efficientnet_{name}"
    inputs = images(72)
    logits, activations = jax.jit(lambda model, x: model(x))(classifier.model, inputs)
    assert_logits_equal(logits, logits_of(original, inputs))
    assert activations.ndim == 4


def test_the_first_names_of_torchvisions_densenet(torchvision, tmp_path):
    """Its published file has `norm.1` where its network has `norm1`."""
    original = with_random_weights(torchvision.models.densenet121(weights=None))
    old = {
        key.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1")
        .replace("conv2", "conv.2"): value
        for key, value in original.state_dict().items()
    }  # fmt: skip
    torch.save(old, tmp_path / "weights.pth")
    inputs = images(64)
    logits, _ = models.load(weights=tmp_path / "weights.pth").model(inputs)
    assert_logits_equal(logits, logits_of(original, inputs))
