"""The steps from maps to masks against SciPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from scorecam_jax.steps import masks

SIZES = [
    ((5,), (12,)),
    ((12,), (5,)),
    ((7, 7), (30, 23)),
    ((9, 6), (4, 11)),
    ((1, 4), (3, 9)),
    ((4, 5), (1, 2)),
    ((6, 4), (6, 4)),
    ((3, 4, 2), (5, 3, 7)),
]


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def zoomed(maps, shape, **options):
    grid = maps.shape[1:]
    return np.stack(
        [
            ndimage.zoom(each, np.divide(shape, grid), order=1, mode="nearest", **options)
            for each in maps.astype(np.float64)
        ]
    )


@pytest.mark.parametrize(("grid", "shape"), SIZES)
def test_resize_samples_at_half_pixel_centres_without_smoothing(grid, shape):
    maps = random(3, *grid)
    expected = zoomed(maps, shape, grid_mode=True)
    np.testing.assert_allclose(
        masks.resize(jnp.asarray(maps), shape), expected, atol=3e-6 * np.ptp(maps), rtol=0
    )


@pytest.mark.parametrize(("grid", "shape"), SIZES)
def test_resize_aligned_keeps_the_corners(grid, shape):
    maps = random(3, *grid)
    resized = masks.resize_aligned(jnp.asarray(maps), shape)
    np.testing.assert_allclose(
        resized, zoomed(maps, shape, grid_mode=False), atol=1e-6 * np.ptp(maps), rtol=0
    )
    if min(shape) > 1:
        corners = np.ix_(range(3), *[(0, -1)] * len(grid))
        np.testing.assert_allclose(resized[corners], maps[corners], atol=1e-6)


@pytest.mark.parametrize("resize", [masks.resize, masks.resize_aligned])
def test_resizing_takes_any_leading_axes_and_keeps_the_type(resize):
    maps = jnp.asarray(random(2, 3, 4, 5))
    resized = resize(maps, (6, 7))
    assert resized.shape == (2, 3, 6, 7)
    np.testing.assert_allclose(resized[1, 2], resize(maps[1, 2], (6, 7)), atol=1e-6)
    assert resize(maps.astype(jnp.bfloat16), (6, 7)).dtype == jnp.bfloat16


@pytest.mark.parametrize("resize", [masks.resize, masks.resize_aligned])
def test_zero_maps_stay_exactly_zero(resize):
    np.testing.assert_array_equal(resize(jnp.zeros((2, 5, 6)), (17, 13)), np.zeros((2, 17, 13)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_normalize_maps_the_range_to_0_and_1(rank):
    maps = 40 * random(2, 3, *(4, 5, 6)[:rank])
    axes = tuple(range(2, 2 + rank))
    normalized = masks.normalize(jnp.asarray(maps), rank)
    low, high = maps.min(axes, keepdims=True), maps.max(axes, keepdims=True)
    np.testing.assert_allclose(normalized, (maps - low) / (high - low), atol=1e-6)
    np.testing.assert_array_equal(normalized.min(axes), np.zeros((2, 3)))
    np.testing.assert_allclose(normalized.max(axes), np.ones((2, 3)), atol=1e-7)
    assert normalized.max() <= 1


def test_normalize_is_unmoved_by_shift_and_scale():
    maps = jnp.asarray(random(3, 6, 5))
    moved = masks.normalize(5 * maps - 2, 2)
    np.testing.assert_allclose(moved, masks.normalize(maps, 2), atol=1e-6)


def test_normalize_adds_eps_to_the_range():
    np.testing.assert_allclose(
        masks.normalize(jnp.array([[1.0, 3.0]]), 1, eps=0.5), [[0, 0.8]], atol=1e-7
    )


@pytest.mark.parametrize("value", [0.0, 0.7, -3e38, 1e-40])
def test_constant_maps_normalize_to_zero_with_no_gradient(value):
    maps = jnp.full((2, 3, 4), value)
    weight = jnp.asarray(random(2, 3, 4))
    result, gradient = jax.value_and_grad(lambda maps: (masks.normalize(maps, 2) * weight).sum())(
        maps
    )
    assert result == 0
    np.testing.assert_array_equal(gradient, np.zeros(maps.shape))


def test_one_constant_map_does_not_disturb_its_neighbours_gradients():
    varied, weight = jnp.asarray(random(1, 3, 4)), jnp.asarray(random(1, 3, 4))

    def total(maps):
        return (masks.normalize(maps, 2) * jnp.broadcast_to(weight, maps.shape)).sum()

    together = jax.grad(total)(jnp.concatenate([varied, jnp.full((1, 3, 4), 0.3)]))
    np.testing.assert_allclose(together[0], jax.grad(total)(varied)[0], atol=1e-6)
    step = 1e-2 * jnp.asarray(np.eye(12, dtype=np.float32).reshape(12, 3, 4))
    rise = jax.vmap(lambda s: total(varied + s[None]) - total(varied - s[None]))(step)
    inner = (varied[0].ravel() > varied.min()) & (varied[0].ravel() < varied.max())
    numeric = np.asarray(rise) / 2e-2
    np.testing.assert_allclose(together[0].ravel()[inner], numeric[inner], atol=2e-3)


def test_divide_by_zero_is_zero_and_so_are_its_derivatives():
    numerator, denominator = jnp.array([3.0, 0.0, 3.0]), jnp.array([0.0, 0.0, 2.0])
    np.testing.assert_array_equal(masks.divide(numerator, denominator), [0, 0, 1.5])
    by_numerator, by_denominator = jax.grad(lambda n, d: masks.divide(n, d).sum(), (0, 1))(
        numerator, denominator
    )
    np.testing.assert_array_equal(by_numerator, [0, 0, 0.5])
    np.testing.assert_array_equal(by_denominator, [0, 0, -0.75])


def test_value_range_keeps_the_axes_it_reduces():
    maps = random(2, 3, 4, 5)
    low, high = masks.value_range(jnp.asarray(maps), 2)
    np.testing.assert_array_equal(low, maps.min((2, 3), keepdims=True))
    np.testing.assert_array_equal(high, maps.max((2, 3), keepdims=True))


def test_live_maps_differ_from_zero_somewhere():
    maps = np.zeros((2, 4, 3, 3), np.float32)
    maps[0, 3, 2, 1], maps[1, :, :, 0] = -1e-30, 2
    np.testing.assert_array_equal(
        masks.is_live(jnp.asarray(maps)), [[False, True, False], [True, False, False]]
    )


@pytest.mark.parametrize("channel_axis", [-1, 1])
@pytest.mark.parametrize("baseline", ["number", "channels", "image"])
def test_masks_show_the_input_and_hide_it_behind_the_baseline(baseline, channel_axis):
    inputs, mask = random(2, 4, 5, 3), np.random.default_rng(1).uniform(size=(2, 4, 5))
    mask = mask.astype(np.float32)
    mask[0, 0], mask[1, 1] = 0, 1
    behind = {"number": random(1, 1, 1, 1), "channels": random(1, 1, 1, 3), "image": -inputs}
    behind = behind[baseline]
    expected = np.empty(inputs.shape)
    for at in np.ndindex(inputs.shape):
        hidden = np.broadcast_to(behind, inputs.shape)[at]
        expected[at] = mask[at[:3]] * inputs[at] + (1 - mask[at[:3]]) * hidden
    shown = masks.apply_masks(
        jnp.moveaxis(jnp.asarray(inputs), -1, channel_axis),
        jnp.asarray(mask),
        jnp.moveaxis(jnp.asarray(behind), -1, channel_axis),
        channel_axis,
    )
    np.testing.assert_allclose(np.moveaxis(shown, channel_axis, -1), expected, atol=1e-6)


def test_one_input_serves_many_masks_and_keeps_its_type():
    inputs = jnp.asarray(random(1, 4, 2), jnp.float16)
    mask = jnp.asarray(np.eye(4, dtype=np.float32))
    shown = masks.apply_masks(inputs, mask, jnp.zeros((1, 1, 1)), -1)
    assert shown.dtype == jnp.float16
    np.testing.assert_array_equal(shown, np.asarray(inputs) * np.eye(4)[..., None])


@pytest.mark.parametrize("resize", [masks.resize, masks.resize_aligned])
def test_gradients_of_rendering_are_finite_with_dead_maps(resize):
    maps = jnp.asarray(np.concatenate([random(1, 4, 4), np.zeros((1, 4, 4), np.float32)]))

    def total(maps):
        return (masks.normalize(resize(maps, (9, 7)), 2) ** 2).sum()

    gradient = jax.grad(total)(maps)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[0]).max() > 0.1
    np.testing.assert_array_equal(gradient[1], np.zeros((4, 4)))
