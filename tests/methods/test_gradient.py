"""The gradient methods against closed forms and NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import (
    center,
    eigen_cam,
    from_linen,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    uniform,
    xgrad_cam,
)
from tests import reference

BATCH, CHANNELS, CLASSES = 2, 4, 3
GRIDS = {(6,): (12,), (3, 5): (6, 15), (2, 3, 2): (4, 3, 6)}
NEED_EDIT = (
    grad_cam,
    grad_cam_plus_plus,
    xgrad_cam,
    hires_cam,
    layer_cam,
)
METHODS = (*NEED_EDIT, eigen_cam, uniform, center)


def every(methods):
    return pytest.mark.parametrize("method", methods, ids=lambda method: method.__name__)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def network(maps, head, x, edit=None):
    """Activations that are `maps` plus 0 · x, and logits y_c = Σ head_c ∘ tanh(activations)."""
    activations = maps + 0 * x.mean().astype(maps.dtype)
    if edit is not None:
        activations = edit(activations)
    logits = jnp.tensordot(jnp.tanh(activations), head, head.ndim - 1)
    return logits, activations


def case(grid, channel_axis=-1):
    maps, slope, other = (normal(n, BATCH, *grid, CHANNELS) for n in range(3))
    head = np.stack([slope[0], other[0] - slope[0] / 2, 2 * slope[0]], -1)
    maps = np.moveaxis(maps, -1, channel_axis)
    head = np.moveaxis(head, -2, channel_axis - 1)
    inputs = np.zeros(np.moveaxis(np.zeros((BATCH, *GRIDS[grid], 2)), -1, channel_axis).shape, "f")
    model = jax.tree_util.Partial(network, jnp.asarray(maps), jnp.asarray(head))
    return model, inputs, maps.astype(float), head.astype(float)


def expected(method, a, g):
    """One input's weights and map of the layer's size, from (*grid, K) arrays, in loops."""
    channels = range(a.shape[-1])
    if method is grad_cam:
        weights = [g[..., k].mean() for k in channels]
    elif method is grad_cam_plus_plus:
        weights = [0.0] * len(channels)
        for k in channels:
            for place in reference.places(a.shape[:-1]):
                slope = g[(*place, k)]
                alpha = slope**2 / (2 * slope**2 + a[..., k].sum() * slope**3)
                weights[k] += alpha * max(slope, 0)
    elif method is xgrad_cam:
        weights = [(a[..., k] / a[..., k].sum() * g[..., k]).sum() for k in channels]
    elif method is hires_cam:
        return None, (a * g).sum(-1)
    elif method is layer_cam:
        return None, (a * np.maximum(g, 0)).sum(-1)
    elif method is eigen_cam:
        rows = a.reshape(-1, a.shape[-1])
        weights = np.linalg.eigh(rows.T @ rows)[1][:, -1]
        weights = weights * np.sign((rows @ weights).sum())
    return np.array(weights), a @ np.array(weights)


@every((*NEED_EDIT, eigen_cam))
@pytest.mark.parametrize("grid", GRIDS)
def test_equals_its_formula_in_numpy(method, grid):
    model, inputs, maps, head = case(grid)
    targets = np.array([1, 2])
    explanation = method(model, inputs, targets)
    for row, target in enumerate(targets):
        slopes = head[..., target] * (1 - np.tanh(maps[row]) ** 2)
        weights, total = expected(method, maps[row], slopes)
        np.testing.assert_allclose(
            explanation.heatmap[row], reference.finish(total, GRIDS[grid]), atol=2e-5
        )
        if weights is None:
            assert explanation.weights is None
        else:
            np.testing.assert_allclose(explanation.weights[row], weights, rtol=2e-4, atol=1e-6)
    assert explanation.scores is None
    assert explanation.targets.tolist() == [1, 2]


@every(METHODS)
def test_channels_first_is_the_same_transposed(method):
    last, inputs_last, _, _ = case((3, 5))
    first, inputs_first, _, _ = case((3, 5), channel_axis=1)
    np.testing.assert_allclose(
        method(first, inputs_first, 1, channel_axis=1).heatmap,
        method(last, inputs_last, 1).heatmap,
        atol=1e-6,
    )


def pooled(kernel, head, x, edit=None):
    activations = jax.nn.relu(x @ kernel)
    if edit is not None:
        activations = edit(activations)
    return activations.mean((1, 2)) @ head, activations


def pooled_case():
    model = jax.tree_util.Partial(
        pooled, jnp.asarray(normal(3, 2, CHANNELS)), jnp.asarray(normal(4, CHANNELS, CLASSES))
    )
    return model, normal(5, BATCH, 4, 6, 2)


def test_grad_cam_of_mean_and_linear_head_is_cam():
    model, inputs = pooled_case()
    head = model.args[1]
    explanation = grad_cam(model, inputs, 2)
    np.testing.assert_allclose(
        explanation.weights, jnp.broadcast_to(head[:, 2] / 24, (BATCH, CHANNELS)), rtol=1e-5
    )


@every((hires_cam, xgrad_cam))
def test_equals_grad_cam_where_the_gradient_is_the_same_everywhere(method):
    model, inputs = pooled_case()
    np.testing.assert_allclose(
        method(model, inputs).heatmap, grad_cam(model, inputs).heatmap, atol=1e-5
    )


def test_layer_cam_may_lift_faint_places():
    model, inputs, maps, head = case((3, 5))
    found = layer_cam(model, inputs, 1, gamma=2.0)
    for row in range(BATCH):
        slopes = head[..., 1] * (1 - np.tanh(maps[row]) ** 2)
        total = np.maximum((maps[row] * np.maximum(slopes, 0)).sum(-1), 0)
        lifted = np.tanh(2 * total / total.max())
        np.testing.assert_allclose(
            found.heatmap[row], reference.finish(lifted, GRIDS[3, 5]), atol=2e-5
        )
        np.testing.assert_allclose(found.peak[row], total.max(), rtol=1e-5)


def test_score_is_what_is_differentiated():
    model, inputs = pooled_case()
    logits, _ = model(inputs)
    p = jax.nn.softmax(logits)
    slope = p[:, :1] * (jax.nn.one_hot(0, CLASSES)[None] - p)
    np.testing.assert_allclose(
        grad_cam(model, inputs, 0, score=jax.nn.softmax).weights,
        slope @ model.args[1].T / 24,
        rtol=1e-4,
        atol=1e-7,
    )


@every(METHODS)
def test_several_targets_are_the_single_ones_stacked(method):
    model, inputs = pooled_case()
    together = method(model, inputs, np.array([[2, 0], [1, 1]]))
    assert together.heatmap.shape == (BATCH, 2, 4, 6)
    for column, targets in enumerate(([2, 1], [0, 1])):
        alone = method(model, inputs, np.array(targets))
        np.testing.assert_allclose(together.heatmap[:, column], alone.heatmap, atol=1e-6)
        if alone.weights is not None:
            np.testing.assert_allclose(together.weights[:, column], alone.weights, atol=1e-6)


@every(METHODS)
def test_without_targets_explains_the_best_class(method):
    model, inputs = pooled_case()
    best = model(inputs)[0].argmax(1)
    explanation = method(model, inputs)
    assert explanation.targets.tolist() == best.tolist()
    np.testing.assert_array_equal(explanation.heatmap, method(model, inputs, best).heatmap)


def test_a_gradient_of_zero_gives_zeros():
    model, inputs = pooled_case()
    model = jax.tree_util.Partial(pooled, model.args[0], jnp.zeros((CHANNELS, CLASSES)))
    for method in NEED_EDIT:
        explanation = method(model, inputs)
        assert not np.any(explanation.heatmap)
        assert explanation.weights is None or not np.any(explanation.weights)


@every((*NEED_EDIT, eigen_cam))
@pytest.mark.parametrize("inputs", [np.zeros((1, 4, 6, 2), "f"), np.zeros((0, 4, 6, 2), "f")])
def test_nothing_active_and_no_inputs_at_all_give_no_nan(method, inputs):
    model, _ = pooled_case()
    explanation = method(model, inputs, np.zeros((len(inputs), 2), int))
    assert explanation.heatmap.shape == (len(inputs), 2, 4, 6)
    assert not np.any(explanation.heatmap)


@every(METHODS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_near_single(method, dtype):
    model, inputs = pooled_case()
    single = method(model, inputs, 1).heatmap
    model, inputs = jax.tree.map(lambda a: jnp.asarray(a, dtype), (model, inputs))
    half = method(model, inputs, 1).heatmap
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, single, atol=0.1)


@every(METHODS)
def test_compiles_once_and_runs_under_jit_and_vmap(method):
    traced = []

    def model(x, edit=None):
        traced.append(x.shape)
        return pooled(kernel, head, x, edit)

    (kernel, head), inputs = pooled_case()[0].args, pooled_case()[1]
    eager = method(model, inputs, 1)
    before = len(traced)
    method(model, inputs + 1, np.array([0, 2]))
    assert len(traced) == before
    jitted = jax.jit(method)(pooled_case()[0], inputs, jnp.array([1, 1]))
    np.testing.assert_allclose(jitted.heatmap, eager.heatmap, atol=1e-6)
    mapped = jax.vmap(lambda x: method(model, x[None], 1).heatmap[0])(inputs)
    np.testing.assert_allclose(mapped, eager.heatmap, atol=1e-6)


def test_a_linen_model_needs_no_change():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(5, (3, 3), name="conv")(x))
            x = nn.Conv(4, (2, 2), strides=2, name="last")(x)
            return nn.Dense(CLASSES, name="head")(nn.gelu(x).reshape(len(x), -1))

    inputs = normal(6, 1, 6, 4, 2)
    variables = Net().init(jax.random.key(0), inputs)
    explanation = grad_cam(from_linen(Net(), variables, "last"), inputs, 1)
    head = variables["params"]["head"]

    def rest(activations):
        return (nn.gelu(activations).reshape(-1) @ head["kernel"] + head["bias"])[1]

    np.testing.assert_allclose(
        explanation.weights, jax.grad(rest)(explanation.activations).mean((1, 2)), atol=1e-6
    )


@every(NEED_EDIT)
def test_a_model_without_edit_is_told(method):
    with pytest.raises(TypeError, match="edit"):
        method(lambda x: (x.mean((1, 2)), x), np.ones((1, 3, 3, 2), "f"))


def test_other_mistakes_are_told():
    model, inputs = pooled_case()
    with pytest.raises(ValueError, match="0 to 2"):
        grad_cam(model, inputs, 3)
    with pytest.raises(TypeError, match="floating point"):
        grad_cam(model, inputs.astype(int), 0)
    flat = functools.partial(pooled, *model.args)
    with pytest.raises(ValueError, match="pooled"):
        grad_cam(lambda x, edit=None: (flat(x)[0], flat(x)[0]), inputs, 0)


def test_uniform_and_center_look_at_nothing():
    model, inputs = pooled_case()
    assert np.all(uniform(model, inputs).heatmap == 1)
    rows, columns = (np.exp(-((np.arange(n) + 0.5 - n / 2) ** 2) / (n**2 / 2)) for n in (4, 6))
    np.testing.assert_allclose(
        center(model, inputs).heatmap[1], reference.scale(np.outer(rows, columns)),
        atol=1e-6,
    )  # fmt: skip
