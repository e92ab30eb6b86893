"""Metrics against those of torchcam, pytorch-grad-cam, captum and Quantus, on the same maps.

Deliberate differences: torchcam gives sums and means, as fractions, where we give each image's
value, in percent; pytorch-grad-cam's drop is absolute where Grad-CAM++'s and ours is relative to
the score; its ROAD removes by value, which removes more where values tie, and ours by rank. What
captum and Quantus draw at random is replaced by our draws. Quantus's sensitivity-n and random logit
are other metrics than ours (see the docstrings), so there is nothing to compare.
"""

import contextlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import metrics, score_cam
from scorecam_jax.metrics.subsets import _random_cells, _random_squares

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


@numpy_on_tensors
def test_arcc_is_that_of_pytorch_grad_cam(grad_cam):
    def explain(inputs, targets):
        return score_cam(model, inputs, targets).heatmap

    def again(input_tensor, targets):
        inputs = np.moveaxis(input_tensor.numpy(), 1, -1)
        return np.array(explain(jnp.asarray(inputs), jnp.asarray(TARGETS)))

    heatmaps = np.array(explain(jnp.asarray(INPUTS), jnp.asarray(TARGETS)))
    heatmaps += HEATMAPS * 1e-3  # no ties
    expected = grad_cam.arcc.ARCC(again)(to_torch(INPUTS), heatmaps, grad_cam.targets, Network())
    fractions = [(121 - percentile * 120 // 100) / 121 for percentile in (20, 40, 60, 80)]
    got = metrics.arcc(
        model, INPUTS, heatmaps, TARGETS, explain=explain, key=jax.random.key(0),
        fractions=fractions, noise=0,
    )  # fmt: skip
    assert expected.max() > 0.05
    np.testing.assert_allclose(got, expected, atol=2e-3)


KEY, SAMPLES = jax.random.key(0), 10
ASKED = model, INPUTS, HEATMAPS, TARGETS


def explain_by_channel(inputs, targets):
    return inputs[jnp.arange(len(inputs)), ..., targets % 3]


def sensitivity(metric, **options):
    """What we measure, and the noise that we draw."""
    seen = []

    def explain(inputs, targets):
        seen.append(np.asarray(inputs) - INPUTS)
        return explain_by_channel(inputs, targets)

    heatmaps = explain_by_channel(jnp.asarray(INPUTS), jnp.asarray(TARGETS))
    found = metric(model, INPUTS, heatmaps, TARGETS, explain=explain, key=KEY, **options)
    return found, np.stack(seen)


def test_max_sensitivity_is_captums():
    captum = pytest.importorskip("captum.metrics")
    found, noise = sensitivity(metrics.max_sensitivity)
    assert len(noise) == SAMPLES

    def perturb(inputs, radius):
        assert noise.max() <= radius * 1.001
        return inputs + to_torch(noise.swapaxes(0, 1).reshape(-1, *SHAPE, 3))

    def explain(inputs, target):
        (inputs,) = inputs if isinstance(inputs, tuple) else (inputs,)
        shown = jnp.asarray(np.moveaxis(inputs.numpy(), 1, -1))
        maps = explain_by_channel(shown, jnp.asarray(target.numpy()))
        return (torch.from_numpy(np.array(maps)),)

    expected = captum.sensitivity_max(
        explain, to_torch(INPUTS), perturb, target=torch.from_numpy(TARGETS)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_infidelity_is_captums_with_squares_and_normalized():
    captum = pytest.importorskip("captum.metrics")
    squares = np.asarray(_random_squares(KEY, 0.25, SAMPLES, SHAPE))

    def perturb(inputs):
        masks = np.concatenate([squares] * len(INPUTS))[:, None].repeat(3, 1)
        masks = torch.from_numpy(masks.astype(np.float32))
        return masks, inputs * (1 - masks)

    attributions = np.repeat(HEATMAPS[..., None], 3, -1) / 3  # the three channels sum to the map
    for scaled in (True, False):
        found = metrics.infidelity(*ASKED, key=KEY, squares=SAMPLES, scaled=scaled)
        expected = captum.infidelity(
            lambda inputs: Network()(inputs).softmax(-1), perturb, to_torch(INPUTS),
            to_torch(attributions), target=torch.from_numpy(TARGETS),
            n_perturb_samples=SAMPLES, normalize=scaled,
        )  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)


@pytest.fixture(scope="module")
def quantus():
    return pytest.importorskip("quantus", exc_type=ImportError)


MASKS = np.random.default_rng(2).random((3, *SHAPE)) > 0.7


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.relevance_rank_accuracy, lambda q: q.RelevanceRankAccuracy()),
        (lambda *asked: metrics.top_k_intersection(*asked, k=20), lambda q: q.TopKIntersection(20)),
        (metrics.roc_auc, lambda q: q.AUC()),
        (metrics.energy_pointing_game, lambda q: q.RelevanceMassAccuracy()),
        (metrics.energy_pointing_game, lambda q: q.AttributionLocalisation()),
    ],
)
def test_localization_by_masks_is_that_of_quantus(quantus, ours, theirs):
    batch = {
        "a_batch": HEATMAPS[:, None].astype(np.float64),
        "s_batch": MASKS[:, None],
        "x_batch": np.moveaxis(INPUTS, -1, 1),
    }
    expected = theirs(quantus).evaluate_batch(**batch)
    np.testing.assert_allclose(ours(HEATMAPS, MASKS), expected, rtol=1e-4)


def test_focus_is_that_of_quantus(quantus):
    tiles = np.array([[1, 0, 0, 1], [0, 0, 1, 1], [1, 1, 0, 0]])
    heatmaps = HEATMAPS[:, :10, :10] - 0.3
    expected = quantus.Focus().evaluate_batch(a_batch=heatmaps[:, None], c_batch=tiles)
    got = metrics.focus(heatmaps, tiles.reshape(3, 2, 2) > 0)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_complexities_are_those_of_quantus(quantus):
    from quantus.functions.complexity_func import discrete_entropy

    batch = {"a_batch": HEATMAPS[:, None].astype(np.float64), "x_batch": HEATMAPS[:, None]}
    np.testing.assert_allclose(
        metrics.gini(HEATMAPS), quantus.Sparseness().evaluate_batch(**batch), rtol=1e-4
    )
    np.testing.assert_allclose(
        metrics.entropy(HEATMAPS), quantus.Complexity().evaluate_batch(**batch), rtol=1e-4
    )
    expected = [discrete_entropy(heatmap, heatmap, n_bins=50) for heatmap in HEATMAPS]
    np.testing.assert_allclose(metrics.histogram_entropy(HEATMAPS, 50), expected, rtol=1e-4)


class Predicting:
    """The network as Quantus asks it."""

    def shape_input(self, x, *args, **kwargs):
        return x

    def predict(self, x):
        return np.asarray(jax.nn.softmax(model(jnp.asarray(np.moveaxis(x, 1, -1)))[0]))


def test_faithfulness_correlation_is_that_of_quantus(quantus):
    """Its features are the values of an input, of which a pixel has three: all three are drawn."""
    removed = np.asarray(_random_cells(KEY, [30], SAMPLES, None, SHAPE))
    indices = [np.flatnonzero(np.concatenate([subset.ravel()] * 3)) for subset in removed]

    def perturb(arr, indices):
        arr = arr.copy()
        np.put_along_axis(arr, indices, 0, axis=1)
        return arr

    metric = quantus.FaithfulnessCorrelation(subset_size=90, nr_runs=SAMPLES)
    metric.perturb_func = perturb
    with pytest.MonkeyPatch.context() as patch:
        drawn = iter(np.repeat(indices, len(INPUTS), axis=0))
        patch.setattr(np.random, "choice", lambda *args, **kwargs: next(drawn))
        expected = metric.evaluate_batch(
            Predicting(), np.moveaxis(INPUTS, -1, 1), TARGETS, HEATMAPS[:, None]
        )
    got = metrics.faithfulness_correlation(*ASKED, key=KEY, size=30, subsets=SAMPLES)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["Max", "Avg"])
def test_sensitivities_are_those_of_quantus(quantus, name):
    ours = metrics.max_sensitivity if name == "Max" else metrics.average_sensitivity
    found, noise = sensitivity(ours, form="quantus", samples=SAMPLES)
    metric = getattr(quantus, f"{name}Sensitivity")(nr_samples=SAMPLES, disable_warnings=True)
    assert metric.perturb_func.keywords["lower_bound"] == 0.2
    drawn = iter(np.moveaxis(noise, -1, 2))
    metric.perturb_func = lambda arr, indices: arr + next(drawn).reshape(arr.shape)

    def explain(model, x, y):
        return np.array(explain_by_channel(jnp.asarray(np.moveaxis(x, 1, -1)), jnp.asarray(y)))

    metric.explain_batch = explain
    x = np.moveaxis(INPUTS, -1, 1)
    expected = metric.evaluate_batch(Predicting(), x, TARGETS, explain(None, x, TARGETS))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
