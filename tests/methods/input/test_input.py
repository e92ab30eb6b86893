"""Gradients by the input, against finite differences and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import diagnose
from scorecam_jax.methods.input.gradient import gradient
from scorecam_jax.methods.input.gradient_times_input import gradient_times_input
from scorecam_jax.methods.input.integrated_gradients import integrated_gradients
from scorecam_jax.methods.input.smooth_grad import smooth_grad
from tests import reference

TARGETS = (2, 0)
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 4, 5, 3)).astype("f")
WEIGHTS = RNG.normal(size=(4, 5, 3, 3)) / 3


def square(x):
    """y_t = (Σ w_t x)² / 2 + Σ w_t x, whose gradient is w_t (1 + Σ w_t x)."""
    sums = jnp.einsum("nhwc,hwct->nt", x, jnp.asarray(WEIGHTS, jnp.float32))
    return sums**2 / 2 + sums, x


def slopes(images):
    sums = np.einsum("nhwc,hwct->nt", images, WEIGHTS)
    return [WEIGHTS[..., t] * (1 + sums[row, t]) for row, t in enumerate(TARGETS)]


def finished(maps):
    return np.stack([reference.scale(np.maximum(each, 0)) for each in maps])


def test_gradient():
    found = gradient(square, IMAGES, TARGETS)
    expected = [np.abs(slope).max(-1) for slope in slopes(IMAGES)]
    np.testing.assert_allclose(found.heatmap, finished(expected), atol=1e-5)
    np.testing.assert_allclose(found.peak, [each.max() for each in expected], rtol=1e-5)


def test_gradient_times_input():
    found = gradient_times_input(square, IMAGES, TARGETS)
    expected = [(g * x).sum(-1) for g, x in zip(slopes(IMAGES), IMAGES, strict=True)]
    np.testing.assert_allclose(found.heatmap, finished(expected), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_integrated_gradients_of_a_square_are_exact(steps):
    # The gradient is linear along the way, so that the rule of one point is exact.
    start = 0.5
    found = integrated_gradients(square, IMAGES, TARGETS, steps=steps, baseline=start)
    expected = [
        (g * (x - start)).sum(-1) for g, x in zip(slopes((IMAGES + start) / 2), IMAGES, strict=True)
    ]
    np.testing.assert_allclose(found.heatmap, finished(expected), atol=1e-5)
    np.testing.assert_allclose(found.shortfall, 0, atol=1e-4)
    gained = found.confidence - found.empty
    np.testing.assert_allclose([each.sum() for each in expected], gained, rtol=1e-4)


def test_too_few_steps_are_told():
    def steep(x):
        return jnp.tanh(20 * x.mean((1, 2)) - 9), x

    inputs = IMAGES[:1] + 1
    few, many = (integrated_gradients(steep, inputs, 1, steps=n) for n in (2, 50))
    assert abs(few.shortfall[0]) > 0.05
    assert abs(many.shortfall[0]) < 1e-3
    assert "incomplete" in [finding.kind for finding in diagnose(few)]
    assert "incomplete" not in [finding.kind for finding in diagnose(many)]


@pytest.mark.parametrize("form", ["mean", "mean of squares"])
def test_smooth_grad(form):
    key = jax.random.key(3)
    found = smooth_grad(square, IMAGES, TARGETS, key=key, samples=3, deviation=0.2, form=form)
    size = 0.2 * np.ptp(IMAGES, (1, 2, 3), keepdims=True)
    noisy = [
        IMAGES + size * np.asarray(jax.random.normal(one, (1, *IMAGES.shape[1:])))
        for one in jax.random.split(key, 3)
    ]
    each = np.array([slopes(images) for images in noisy])
    expected = np.abs(each.mean(0)).max(-1) if form == "mean" else (each**2).mean(0).sum(-1)
    np.testing.assert_allclose(found.heatmap, finished(expected), atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [gradient, gradient_times_input, functools.partial(integrated_gradients, steps=2)],
    ids=["gradient", "product", "integrated"],
)
def test_channels_first_and_several_targets(method):
    def turned(x):
        return square(jnp.moveaxis(x, 1, -1))

    first = np.moveaxis(IMAGES, -1, 1)
    found = method(turned, first, np.array([[2, 1], [0, 1]]), channel_axis=1)
    assert found.heatmap.shape == (2, 2, 4, 5)
    expected = method(square, IMAGES, TARGETS)
    np.testing.assert_allclose(found.heatmap[:, 0], expected.heatmap, atol=1e-5)


def test_what_is_wrong_is_told():
    with pytest.raises(ValueError, match="steps is 0, wanted at least 1"):
        integrated_gradients(square, IMAGES, 0, steps=0)
    with pytest.raises(ValueError, match="samples is 0, wanted at least 1"):
        smooth_grad(square, IMAGES, 0, key=jax.random.key(0), samples=0)
    with pytest.raises(ValueError, match="form is 'median', wanted 'mean' or"):
        smooth_grad(square, IMAGES, 0, key=jax.random.key(0), form="median")
