"""Metrics against those of torchcam and pytorch-grad-cam, on the same network and maps.

Deliberate differences: torchcam gives sums and means, as fractions, where we give each image's
value, in percent; pytorch-grad-cam's drop is absolute where Grad-CAM++'s and ours is relative to
the score; its ROAD removes by value, which removes more where values tie, and ours by rank.
"""

import contextlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import metrics, score_cam

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

pytestmark = pytest.mark.peers

SHAPE = (11, 11)

# pytorch-grad-cam hands PyTorch's tensors to NumPy's functions.
numpy_on_tensors = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


INPUTS, TARGETS = normal(3, *SHAPE, 3), np.array([1, 0, 3])
HEATMAPS = np.random.default_rng(1).random((3, *SHAPE)).astype(np.float32)


def model(x):
    activations = jax.nn.relu(x @ normal(3, 6) + normal(1, *SHAPE, 6, seed=1))
    return 3 * activations.mean((1, 2)) @ normal(6, 4, seed=2), activations


def to_torch(inputs):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(inputs, -1, 1)))


class Network(torch.nn.Module):
    """The same network, for PyTorch's eyes."""

    def forward(self, inputs):
        shown = jnp.asarray(np.moveaxis(inputs.detach().numpy(), 1, -1))
        return torch.from_numpy(np.array(model(shown)[0]))


class Extractor:
    """What torchcam takes for a method: one that gives these heatmaps."""

    model = Network()

    def __init__(self, heatmaps):
        self.heatmaps = heatmaps

    def __call__(self, *args, **kwargs):
        return [torch.from_numpy(self.heatmaps)]

    def fuse_cams(self, maps):
        return maps[0]

    def _hooks_off(self):
        return contextlib.nullcontext()


@pytest.fixture(scope="module")
def torchcam():
    return pytest.importorskip("torchcam.metrics")


@pytest.fixture(scope="module")
def grad_cam(torchvision):
    """pytorch-grad-cam's metrics, its softmax targets, and no noise in its imputation."""
    pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.metrics import arcc, cam_mult_image, road
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    with pytest.MonkeyPatch.context() as patch:
        defaults = road.NoisyLinearImputer.__init__.__defaults__
        patch.setattr(road.NoisyLinearImputer.__init__, "__defaults__", (0.0, *defaults[1:]))
        targets = [ClassifierOutputSoftmaxTarget(int(target)) for target in TARGETS]
        yield types.SimpleNamespace(arcc=arcc, cam=cam_mult_image, road=road, targets=targets)


def probabilities():
    return np.asarray(jax.nn.softmax(model(INPUTS)[0]))[np.arange(3), TARGETS]


def test_average_drop_and_increase_are_torchcams(torchcam):
    peer = torchcam.ClassificationMetric(Extractor(HEATMAPS), lambda logits: logits.softmax(-1))
    peer.update(to_torch(INPUTS), TARGETS.tolist())
    summary = peer.summary()
    drop = metrics.average_drop(model, INPUTS, HEATMAPS, TARGETS)
    increase = metrics.average_increase(model, INPUTS, HEATMAPS, TARGETS)
    assert 0 < summary["conf_increase"] < 1 or summary["avg_drop"] > 0.01
    np.testing.assert_allclose(drop.mean() / 100, summary["avg_drop"], rtol=1e-4)
    np.testing.assert_allclose(increase.mean() / 100, summary["conf_increase"], rtol=1e-6)


def test_drop_and_increase_are_those_of_pytorch_grad_cam(grad_cam):
    asked = to_torch(INPUTS), HEATMAPS, grad_cam.targets, Network()
    drop = metrics.average_drop(model, INPUTS, HEATMAPS, TARGETS)
    np.testing.assert_allclose(
        drop / 100 * probabilities(), grad_cam.cam.DropInConfidence()(*asked), atol=1e-6
    )
    increase = metrics.average_increase(model, INPUTS, HEATMAPS, TARGETS)
    np.testing.assert_array_equal(increase / 100, grad_cam.cam.IncreaseInConfidence()(*asked))


@pytest.mark.parametrize("steps", [10, 40])
def test_deletion_and_insertion_are_torchcams(torchcam, steps):
    peer = torchcam.DeletionInsertionMetric(
        Extractor(HEATMAPS), lambda logits: logits.softmax(-1), steps=steps
    )
    peer.update(to_torch(INPUTS), TARGETS.tolist())
    step = -(-121 // steps)
    deletion = metrics.deletion(model, INPUTS, HEATMAPS, TARGETS, step=step)
    insertion = metrics.insertion(model, INPUTS, HEATMAPS, TARGETS, step=step, baseline=0.0)
    np.testing.assert_allclose(deletion.sum(), peer.deletion, rtol=1e-4)
    np.testing.assert_allclose(insertion.sum(), peer.insertion, rtol=1e-4)


@numpy_on_tensors
def test_imputing_is_that_of_pytorch_grad_cam(grad_cam):
    shown = HEATMAPS > 0.6
    filled = metrics.impute(jnp.asarray(INPUTS), shown, key=jax.random.key(0), noise=0)
    for got, image, known in zip(filled, to_torch(INPUTS), shown, strict=True):
        expected = grad_cam.road.NoisyLinearImputer()(image, torch.from_numpy(known).float())
        np.testing.assert_allclose(np.moveaxis(got, -1, 0), expected, atol=1e-3)


@numpy_on_tensors
def test_road_is_that_of_pytorch_grad_cam(grad_cam):
    percentiles = [25, 50, 75]
    expected = grad_cam.road.ROADCombined(percentiles)(
        to_torch(INPUTS), HEATMAPS, grad_cam.targets, Network()
    )
    # A percentile of 121 distinct values is one of them, and goes with those above it.
    fractions = [(121 - percentile * 120 // 100) / 121 for percentile in percentiles]
    got = metrics.road(
        model, INPUTS, HEATMAPS, TARGETS, key=jax.random.key(0), fractions=fractions, noise=0
    )
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_adcc_combines_the_parts_that_pytorch_grad_cam_computes(grad_cam):
    def explain(inputs, targets):
        return score_cam(model, inputs, targets).heatmap

    def again(input_tensor, targets):
        inputs = np.moveaxis(input_tensor.numpy(), 1, -1)
        return np.array(explain(jnp.asarray(inputs), jnp.asarray(TARGETS)))

    asked = to_torch(INPUTS), HEATMAPS, grad_cam.targets, Network()
    coherency = grad_cam.arcc.Coherency()(*asked, again)
    simplicity = 1 - grad_cam.arcc.Complexity()(HEATMAPS)
    kept = 1 - grad_cam.cam.DropInConfidence()(*asked) / probabilities()
    expected = 3 / (1 / coherency + 1 / simplicity + 1 / kept)
    got = metrics.adcc(model, INPUTS, HEATMAPS, TARGETS, explain=explain)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
