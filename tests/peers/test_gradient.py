"""The gradient methods against pytorch-grad-cam's, before either finishes its map."""

import importlib

import numpy as np
import pytest

from scorecam_jax import (
    eigen_grad_cam,
    fem,
    grad_cam,
    grad_cam_elementwise,
    grad_cam_plus_plus,
    hires_cam,
    kpca_cam,
    layer_cam,
    models,
    seg_eigen_cam,
    xgrad_cam,
)
from tests import reference

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
def test_equals_pytorch_grad_cam(networks, method, kind, layer):
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
    np.testing.assert_allclose(explanation.heatmap[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "kind"),
    [(eigen_grad_cam, "EigenGradCAM"), (seg_eigen_cam, "SegEigenCAM"), (kpca_cam, "KPCA_CAM")],
)
def test_components_equal_pytorch_grad_cams_but_for_a_sign_left_open(networks, method, kind):
    _, low = peers_map(networks, kind, "layer4")
    _, ours, inputs = networks
    heatmap = method(ours("layer4"), inputs, TARGET, score=scaled).heatmap[0]
    signs = (1,) if method is seg_eigen_cam else (1, -1)
    differences = [
        np.abs(heatmap - reference.finish(sign * low.astype(float), SHAPE)).max() for sign in signs
    ]
    assert min(differences) < 1e-4
