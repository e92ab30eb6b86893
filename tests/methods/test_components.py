"""Maps that are principal components, or statistics, of activations: their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import grad_cam, scores
from scorecam_jax.methods.eigen_grad_cam import eigen_grad_cam
from scorecam_jax.methods.fem import fem
from scorecam_jax.methods.grad_cam_elementwise import grad_cam_elementwise
from scorecam_jax.methods.kpca_cam import kpca_cam
from scorecam_jax.methods.lafam import lafam
from scorecam_jax.methods.seg_eigen_cam import seg_eigen_cam
from scorecam_jax.methods.shapley_cam import rest, shapley_cam
from tests import reference
from tests.networks import images, network

TARGETS, SHAPE = (2, 0), (9, 14)


def layer():
    return np.asarray(network()(images())[1], float)


def slopes():
    """The gradients of a logit, by hand: its head's weights where the activations are positive."""
    head, maps = np.asarray(network().args[2], float), layer()
    places = np.prod(maps.shape[1:3])
    return (maps > 0) * head[:, list(TARGETS)].T[:, None, None] / places


def component(maps):
    """The first principal component of one input's maps, by the covariance."""
    rows = maps.reshape(-1, maps.shape[-1])
    rows = rows - rows.mean(0)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    return (rows @ vectors[:, -1]).reshape(maps.shape[:-1])


def finished(sums):
    return np.stack([reference.finish(each, SHAPE) for each in sums])


def test_eigen_grad_cam_has_the_sign_of_the_sum():
    found = eigen_grad_cam(network(), images(), TARGETS)
    expected = []
    for products in slopes() * layer():
        first, plain = component(products), products.sum(-1)
        expected.append(first * np.sign((first * (plain - plain.mean())).sum()))
    np.testing.assert_allclose(found.heatmap, finished(expected), atol=1e-4)


def test_seg_eigen_cam_has_the_sign_of_the_largest():
    found = seg_eigen_cam(network(), images(), TARGETS)
    expected = []
    for products in np.abs(slopes()) * layer():
        first = component(products)
        expected.append(first if first.max() >= -first.min() else -first)
    np.testing.assert_allclose(found.heatmap, finished(expected), atol=1e-4)


def test_kpca_cam_is_a_component_of_a_centred_kernel():
    found = kpca_cam(network(), images(), TARGETS)
    expected = []
    for maps in layer():
        rows = maps.reshape(-1, maps.shape[-1])
        rows = rows - rows.mean(0)
        kernel = np.tanh(rows @ rows.T / rows.shape[1] + 1)
        centre = np.eye(len(rows)) - 1 / len(rows)
        values, vectors = np.linalg.eigh(centre @ kernel @ centre)
        first = vectors[:, -1] * values[-1] ** 0.5
        first = first * np.sign((first * rows.sum(1)).sum())
        expected.append(first.reshape(maps.shape[:-1]))
    np.testing.assert_allclose(found.heatmap, finished(expected), atol=1e-4)
    np.testing.assert_allclose(found.peak, [each.max() for each in expected], rtol=1e-3)


def test_lafam_is_the_mean_scaled():
    found = lafam(network(), images(), TARGETS)
    expected = [reference.scale(reference.resize(maps.mean(-1), SHAPE)) for maps in layer()]
    np.testing.assert_allclose(found.heatmap, expected, atol=1e-5)


@pytest.mark.parametrize("deviations", [0.5, 2.0])
def test_fem_weighs_by_what_stands_out(deviations):
    found = fem(network(), images(), TARGETS, deviations=deviations)
    for row, maps in enumerate(layer()):
        bar = maps.mean((0, 1)) + deviations * maps.std((0, 1))
        weights = (maps > bar + 1e-6).mean((0, 1))
        np.testing.assert_allclose(found.weights[row], weights, atol=1e-6)
        np.testing.assert_allclose(found.heatmap[row], finished([maps @ weights])[0], atol=1e-4)


def test_elementwise_sums_what_is_positive():
    found = grad_cam_elementwise(network(), images(), TARGETS)
    expected = np.maximum(slopes() * layer(), 0).sum(-1)
    np.testing.assert_allclose(found.heatmap, finished(expected), atol=1e-4)
    np.testing.assert_allclose(found.peak, expected.max((1, 2)), rtol=1e-4)


def test_shapley_cam_takes_off_half_the_curvature():
    """Of y = (Σ m)² with m = mean(ReLU A) W: g = 2 m ∂m, and H A = 2 (∂m · A) ∂m."""
    head = jnp.asarray(network().args[2])

    def squared(outputs):
        return outputs**2

    found = shapley_cam(network(), images(), TARGETS, score=squared)
    for row, target in enumerate(TARGETS):
        maps, slope = layer()[row], slopes()[row]
        logit = float(np.maximum(maps, 0).mean((0, 1)) @ np.asarray(head)[:, target])
        weights = (2 * logit * slope - (slope * maps).sum() * slope).mean((0, 1))
        np.testing.assert_allclose(found.weights[row], weights, rtol=1e-3, atol=1e-5)


def test_shapley_cam_of_a_linear_score_is_grad_cam_and_its_own_score_is_not():
    linear = shapley_cam(network(), images(), TARGETS, score=scores.logits)
    expected = grad_cam(network(), images(), TARGETS)
    np.testing.assert_allclose(linear.weights, expected.weights, atol=1e-6)
    found = shapley_cam(network(), images(), TARGETS)
    assert (
        np.abs(found.weights - grad_cam(network(), images(), TARGETS, score=rest).weights).max()
        > 1e-5
    )
    outputs = np.asarray(network()(images())[0], float)
    expected = outputs + np.log(reference.softmax(outputs))
    np.testing.assert_allclose(rest(jnp.asarray(outputs, jnp.float32)), expected, atol=1e-5)


@pytest.mark.parametrize("method", [eigen_grad_cam, shapley_cam])
def test_several_targets_are_the_single_ones_stacked(method):
    together = jax.jit(method)(network(), images(), np.array([[2, 1], [0, 1]]))
    alone = method(network(), images(), TARGETS)
    np.testing.assert_allclose(together.heatmap[:, 0], alone.heatmap, atol=1e-4)
