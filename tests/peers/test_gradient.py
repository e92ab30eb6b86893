"""Methods of gradients and activations against pytorch-grad-cam, torchcam and captum."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import (
    eigen_grad_cam,
    eigen_smoothed,
    fem,
    finer_cam,
    grad_cam,
    grad_cam_elementwise,
    grad_cam_plus_plus,
    hires_cam,
    is_cam,
    kpca_cam,
    layer_cam,
    models,
    seg_eigen_cam,
    shapley_cam,
    smooth_grad_cam_plus_plus,
    xgrad_cam,
)
from scorecam_jax.methods.shapley_cam import rest
from scorecam_jax.steps.factors import factorize
from tests import reference
from tests.agreement import note_method

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

pytestmark = pytest.mark.peers

SHAPE, TARGET = (96, 128), 3
# Theirs adds 1e-6 to squared gradients and 1e-7 to sums: a large score makes that small.
SCALE = 1e4


def scaled(outputs):
    return SCALE * outputs


@pytest.fixture(scope="module")
def networks(torchvision, tmp_path_factory):
    """ResNet-18 with random weights, in PyTorch and, by layer, here; and an input."""
    torch.manual_seed(0)
    peer = torchvision.models.resnet18(weights=None).eval()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(peer.state_dict(), path)

    def ours(layer):
        return models.load("resnet18", weights=path, layer=layer).model

    return peer, ours, np.random.default_rng(0).normal(size=(1, *SHAPE, 3)).astype("float32")


def peers_map(networks, kind, layer):
    """The weights, or None, and the map of the layer's size, ReLU and scaling still to come."""
    package = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    classes = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    peer, _, inputs = networks
    inputs = torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())
    target = classes.ClassifierOutputTarget(TARGET)
    layer = peer.get_submodule(layer)
    with getattr(package, kind)(model=peer, target_layers=[layer]) as cam:
        cam(inputs, [lambda output: SCALE * target(output)])
        tapped = cam.activations_and_grads
        taken = (
            inputs,
            layer,
            [target],
            tapped.activations[0].numpy(),
            tapped.gradients[0].numpy() if tapped.gradients else None,
        )
        weighs = type(cam).get_cam_image is package.GradCAM.get_cam_image
        weights = cam.get_cam_weights(*taken)[0] if weighs else None
        return weights, cam.get_cam_image(*taken, False)[0]


@pytest.mark.parametrize("layer", ["layer3", "layer4"])
@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (grad_cam, "GradCAM"),
        (grad_cam_plus_plus, "GradCAMPlusPlus"),
        (xgrad_cam, "XGradCAM"),
        (hires_cam, "HiResCAM"),
        (layer_cam, "LayerCAM"),
        (grad_cam_elementwise, "GradCAMElementWise"),
        (fem, "FEM"),
    ],
)
def test_equals_pytorch_grad_cam(networks, method, kind, layer, record_property):
    weights, low = peers_map(networks, kind, layer)
    _, ours, inputs = networks
    explanation = method(ours(layer), inputs, TARGET, score=scaled)
    if weights is None:
        assert explanation.weights is None or method is fem
    else:
        within = 5e-5 * np.abs(weights).max()
        np.testing.assert_allclose(explanation.weights[0], weights, rtol=0, atol=within)
    expected = reference.finish(low.astype(float), SHAPE)
    assert expected.max() == 1
    compared(record_property, method, f"grad-cam's {kind}", explanation.heatmap[0] - expected, 1e-5)


def compared(record_property, method, peer, differences, within):
    """Note the largest difference, and see that it is small."""
    difference = np.abs(differences).max()
    note_method(record_property, method, peer, "ResNet-18, random", difference)
    assert difference <= within


@pytest.mark.parametrize(
    ("method", "kind"),
    [(eigen_grad_cam, "EigenGradCAM"), (seg_eigen_cam, "SegEigenCAM"), (kpca_cam, "KPCA_CAM")],
)
def test_components_equal_pytorch_grad_cams_but_for_a_sign_left_open(
    networks, method, kind, record_property
):
    _, low = peers_map(networks, kind, "layer4")
    _, ours, inputs = networks
    heatmap = method(ours("layer4"), inputs, TARGET, score=scaled).heatmap[0]
    signs = (1,) if method is seg_eigen_cam else (1, -1)
    maps = [reference.finish(sign * low.astype(float), SHAPE) for sign in signs]
    nearest = min((heatmap - each for each in maps), key=lambda each: np.abs(each).max())
    compared(record_property, method, f"grad-cam's {kind}", nearest, 1e-4)


def recorded(kind):
    """A class of grad-cam that keeps the weights it finds."""

    class Recorded(kind):
        def get_cam_weights(self, *args):
            self.found = super().get_cam_weights(*args)
            return self.found

    return Recorded


def test_shapley_cam_equals_pytorch_grad_cams(networks, record_property):
    package = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    peer, ours, inputs = networks
    with recorded(package.ShapleyCAM)(model=peer, target_layers=[peer.layer3]) as cam:
        cam(first(inputs), [targets.ClassifierOutputReST(TARGET)])
        expected = cam.found[0]
    weights = shapley_cam(ours("layer3"), inputs, TARGET).weights[0]
    size = np.abs(expected).max()
    compared(record_property, shapley_cam, "grad-cam's weights", (weights - expected) / size, 1e-4)
    plain = grad_cam(ours("layer3"), inputs, TARGET, score=rest).weights[0]
    assert np.abs(plain - expected).max() > 1e-3 * size  # the curvature has a part in it


def first(inputs):
    return torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy())


def test_finer_cam_equals_pytorch_grad_cams(networks, record_property):
    package = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    peer, ours, inputs = networks
    kind = recorded(package.GradCAM)
    cam = package.FinerCAM(peer, [peer.layer4], base_method=kind)
    cam(first(inputs), target_idx=TARGET)
    expected = cam.base_cam.found[0]
    weights = finer_cam(ours("layer4"), inputs, TARGET).weights[0]
    size = np.abs(expected).max()
    compared(record_property, finer_cam, "grad-cam's weights", (weights - expected) / size, 1e-4)


def test_eigen_smoothed_equals_pytorch_grad_cams_but_for_a_sign_left_open(
    networks, record_property
):
    package = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    svd = importlib.import_module("pytorch_grad_cam.utils.svd_on_activations")
    peer, ours, inputs = networks
    found = eigen_smoothed(grad_cam)(ours("layer4"), inputs, TARGET)
    targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    with recorded(package.GradCAM)(model=peer, target_layers=[peer.layer4]) as cam:
        cam(first(inputs), [targets.ClassifierOutputTarget(TARGET)], eigen_smooth=True)
        maps = cam.activations_and_grads.activations[0].numpy()
        low = svd.get_2d_projection(cam.found[:, :, None, None] * maps)[0].astype(float)
    signs = [found.heatmap[0] - reference.finish(sign * low, SHAPE) for sign in (1, -1)]
    nearest = min(signs, key=lambda each: np.abs(each).max())
    compared(record_property, "eigen_smoothed", "grad-cam's eigen_smooth", nearest, 1e-4)


class Scaled(torch.nn.Module):
    """A network whose logits are so large that an epsilon does not matter."""

    def __init__(self, peer):
        super().__init__()
        self.peer = peer

    def forward(self, x):
        return SCALE * self.peer(x)


def torchcams(networks, kind, scales=True, **options):
    """The weights, the map of the layer's size, and the gradients that torchcam has."""
    package = pytest.importorskip("torchcam.methods", reason="torchcam is not installed")
    peer, _, inputs = networks
    peer = Scaled(peer) if scales else peer
    layer = f"{'peer.' if scales else ''}layer4"
    with getattr(package, kind)(peer, layer, **options) as extractor:
        scores = peer(first(inputs))
        weighing = getattr(extractor, "base_cam", extractor)
        weigh, kept = weighing._get_weights, []

        def keep(*args, **kwargs):
            kept.extend(weigh(*args, **kwargs))
            return kept

        weighing._get_weights = keep
        (cam,) = extractor(TARGET, scores)
        slopes = getattr(weighing, "hook_g", [None])[0]
    weights, low = (each[0].detach().numpy().astype(float) for each in (kept[0], cam))
    return weights, low, None if slopes is None else slopes[0].detach().numpy().astype(float)


@pytest.mark.parametrize(
    ("method", "kind", "options"),
    [
        (grad_cam, "GradCAM", {}),
        (
            functools.partial(
                smooth_grad_cam_plus_plus, key=jax.random.key(0), deviation=1e-7, samples=2,
                form="torchcam",
            ),
            "SmoothGradCAMpp",
            {"std": 1e-7, "num_samples": 2},
        ),
        (xgrad_cam, "XGradCAM", {}),
        (layer_cam, "LayerCAM", {}),
        (functools.partial(finer_cam, form="mean"), "FinerCAM", {}),
        (functools.partial(is_cam, form="torchcam", steps=3), "ISCAM", {"num_samples": 3}),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_equals_torchcam(networks, method, kind, options, record_property):
    scales = kind != "ISCAM"
    weights, low, _ = torchcams(networks, kind, scales, **options)
    _, ours, inputs = networks
    found = method(ours("layer4"), inputs, TARGET, **({"score": scaled} if scales else {}))
    name = getattr(method, "func", method)
    if found.weights is None:
        differences = found.heatmap[0] - reference.scale(reference.resize(low, SHAPE))
        compared(record_property, name, f"torchcam's {kind}", differences, 1e-4)
    else:  # its maps are rectified ahead of resizing
        differences = (found.weights[0] - weights) / np.abs(weights).max()
        compared(record_property, name, f"torchcam's {kind}, weights", differences, 1e-4)


def test_torchcams_grad_cam_plus_plus_leaves_its_coefficients_undivided(networks):
    """It divides a copy: α stays g², and the weights are the sums of ReLU(g)³."""
    weights, _, slopes = torchcams(networks, "GradCAMpp")
    expected = (np.maximum(slopes, 0) ** 3).sum((1, 2))
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-6 * expected.max())


@pytest.mark.parametrize("layer", ["layer3", "layer4"])
def test_grad_cam_equals_captums(networks, layer, record_property):
    package = pytest.importorskip("captum.attr", reason="captum is not installed")
    peer, ours, inputs = networks
    found = package.LayerGradCam(peer, peer.get_submodule(layer)).attribute(first(inputs), TARGET)
    low = found[0, 0].detach().numpy().astype(float)
    heatmap = grad_cam(ours(layer), inputs, TARGET).heatmap[0]
    differences = heatmap - reference.finish(low, SHAPE)
    compared(record_property, grad_cam, "captum's LayerGradCam", differences, 1e-4)


def test_hires_cam_equals_captums_products(networks, record_property):
    package = pytest.importorskip("captum.attr", reason="captum is not installed")
    peer, ours, inputs = networks
    products = package.LayerGradientXActivation(peer, peer.layer3).attribute(first(inputs), TARGET)
    low = products[0].detach().numpy().astype(float).sum(0)
    heatmap = hires_cam(ours("layer3"), inputs, TARGET).heatmap[0]
    differences = heatmap - reference.finish(low, SHAPE)
    compared(record_property, hires_cam, "captum's products", differences, 1e-4)


@pytest.mark.filterwarnings("ignore:Maximum number of iterations")
def test_factors_miss_no_more_than_pytorch_grad_cams(networks):
    package = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    module = importlib.import_module(
        f"{package.__name__}.feature_factorization.deep_feature_factorization"
    )
    _, ours, inputs = networks
    explanation = grad_cam(ours("layer3"), inputs, TARGET)
    layer = np.asarray(explanation.activations)
    concepts, maps = module.dff(layer.transpose(0, 3, 1, 2).copy(), 4)
    low = layer.min((0, 1, 2))

    def missed(vectors, shares):
        return (((layer - low)[0].reshape(-1, layer.shape[-1]) - shares @ vectors) ** 2).sum()

    theirs = missed(concepts.T - low, maps[0].reshape(4, -1).T)
    shares, vectors = factorize(jnp.asarray(layer - low)[0].reshape(-1, layer.shape[-1]), 4)
    assert missed(vectors, shares) < 1.02 * theirs
