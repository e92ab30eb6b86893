import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import skimage.metrics
from flax import nnx

from scorecam_jax import from_linen, from_nnx, list_layers, metrics, score_cam
from scorecam_jax.metrics.sanity import shuffle


def random(*shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(40,), (8, 9), (4, 5, 6)])
def test_spearman_is_scipys_ties_included(shape):
    a, b = np.round(random(3, *shape), 1), np.round(random(3, *shape, seed=1) + 0.1, 1)
    expected = [scipy.stats.spearmanr(x.ravel(), y.ravel())[0] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(metrics.spearman(a, b), expected, atol=1e-5)


def test_spearman_with_a_constant_map_is_zero():
    np.testing.assert_array_equal(metrics.spearman(np.ones((1, 9), "f"), random(1, 9)), 0)


@pytest.mark.parametrize("shape", [(30,), (24, 31), (12, 13, 14)])
def test_ssim_is_scikit_images(shape):
    a, b = random(2, *shape), 0.7 * random(2, *shape) + 0.3 * random(2, *shape, seed=1)
    expected = [
        skimage.metrics.structural_similarity(
            x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1
        )
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(metrics.ssim(a, b), expected, atol=1e-5)


def test_ssim_refuses_maps_smaller_than_its_window():
    with pytest.raises(ValueError, match=r"\(10, 30\)"):
        metrics.ssim(np.ones((1, 10, 30), "f"), np.ones((1, 10, 30), "f"))


class LinenNetwork(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(6, (3, 3), name="first")(x))
        x = nn.relu(nn.Conv(8, (3, 3), name="second")(x))
        return nn.Dense(4, name="head")(x.mean((1, 2)))


class NnxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.second = nnx.Conv(6, 8, (3, 3), rngs=rngs)
        self.head = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.second(nnx.relu(self.first(x))))
        return self.head(x.mean((1, 2)))


@functools.cache
def network(kind):
    inputs = jnp.asarray(random(2, 16, 18, 3))
    if kind == "nnx":
        return from_nnx(NnxNetwork(nnx.Rngs(0)), "second"), inputs
    module = LinenNetwork()
    return from_linen(module, module.init(jax.random.key(0), inputs), "second"), inputs


def recorder(seen):
    """A method whose heatmap tells which model it was asked about, by its first layer."""

    def method(model, inputs, targets):
        seen.append(model)
        return score_cam(model, inputs, targets)

    return method


def values(model):
    return {
        str(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(model)[0]
    }


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_layers_are_randomized_from_the_output_down_and_stay_so(kind):
    model, inputs = network(kind)
    before, seen = values(model), []
    layers = [layer.path for layer in reversed(list_layers(model, inputs))]
    result = metrics.parameter_randomization(
        model, inputs, method=recorder(seen), layers=layers, key=jax.random.key(0)
    )
    assert result.layers == ("head", "second", "first")
    assert result.spearman.shape == result.ssim.shape == (3, 2)
    changed = []
    for asked in seen:
        after = values(asked)
        kernels = [name for name in before if "kernel" in name]
        changed.append(
            {
                layer
                for layer in ("first", "second", "head")
                if any(layer in name and (after[name] != before[name]).any() for name in kernels)
            }
        )
        for name, value in after.items():  # the same values in another order
            np.testing.assert_array_equal(np.sort(value, None), np.sort(before[name], None))
    assert changed == [set(), {"head"}, {"head", "second"}, {"head", "second", "first"}]
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_similarities_are_those_of_the_heatmaps_for_the_first_targets():
    model, inputs = network("linen")
    seen = []
    result = metrics.parameter_randomization(
        model, inputs, method=recorder(seen), layers=["head"], key=jax.random.key(1)
    )
    original = score_cam(model, inputs)
    heatmap = score_cam(seen[-1], inputs, original.targets).heatmap
    for row, (a, b) in enumerate(zip(original.heatmap, heatmap, strict=True)):
        expected = scipy.stats.spearmanr(a.ravel(), b.ravel())[0]
        np.testing.assert_allclose(result.spearman[0, row], expected, atol=1e-4)


def test_a_layer_is_not_taken_for_one_of_the_same_name_inside_another():
    class Outer(nnx.Module):
        def __init__(self, rngs):
            self.block = NnxNetwork(rngs)
            self.head = nnx.Linear(4, 4, rngs=rngs)

        def __call__(self, x):
            return self.head(self.block(x))

    model, seen = from_nnx(Outer(nnx.Rngs(0)), "block/second"), []
    inputs = network("nnx")[1]
    metrics.parameter_randomization(
        model, inputs, method=recorder(seen), layers=["head"], key=jax.random.key(0)
    )
    before, after = values(model), values(seen[-1])
    changed = [name for name in before if (before[name] != after[name]).any()]
    assert changed
    assert not any("block" in name for name in changed)


def test_a_layer_without_parameters_is_refused_with_what_there_is():
    model, inputs = network("linen")
    with pytest.raises(ValueError, match=r"(?s)\['third'\].*params/first/kernel"):
        metrics.parameter_randomization(
            model, inputs, method=score_cam, layers=["third"], key=jax.random.key(0)
        )


def test_shuffling_keeps_the_values():
    array = jnp.arange(24.0).reshape(4, 6)
    shuffled = shuffle(jax.random.key(0), array)
    assert (shuffled != array).any()
    np.testing.assert_array_equal(np.sort(shuffled, None), np.arange(24))


def test_randomizing_all_at_once_compares_the_complexity_of_two_maps():
    model, inputs = network("linen")
    seen = []
    found = metrics.efficient_randomization(
        model, inputs, method=recorder(seen), key=jax.random.key(0)
    )
    trained, shuffled = seen
    before, after = values(trained), values(shuffled)
    for name, value in after.items():
        np.testing.assert_array_equal(np.sort(value, None), np.sort(before[name], None))
        assert "kernel" not in name or (value != before[name]).any()
    original = score_cam(trained, inputs)
    again = score_cam(shuffled, inputs, original.targets)
    complexities = [
        [scipy.stats.entropy(np.histogram(heatmap, 100)[0]) for heatmap in explanation.heatmap]
        for explanation in (original, again)
    ]
    expected = np.subtract(*complexities[::-1]) / complexities[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_function_without_parameters_cannot_be_randomized():
    with pytest.raises(ValueError, match="holds no parameters"):
        metrics.efficient_randomization(
            jax.tree_util.Partial(lambda x: (x.mean((1, 2)), x)),
            jnp.ones((1, 4, 4, 2)),
            method=score_cam,
            key=jax.random.key(0),
        )


@pytest.mark.parametrize("similarity", ["ssim", "spearman"])
def test_a_random_logit_is_that_of_any_other_class(similarity):
    inputs = jnp.asarray(random(24, 11, 12, 5))
    seen = []

    def explain(x, targets):
        seen.append(targets)
        return x[jnp.arange(len(x)), ..., targets]

    targets = np.arange(24) % 5
    heatmaps = explain(inputs, targets)
    found = metrics.random_logit(
        lambda x: (x.mean((1, 2)), x),
        inputs,
        heatmaps,
        targets,
        explain=explain,
        key=jax.random.key(0),
        similarity=similarity,
    )
    offsets = (np.asarray(seen[1]) - targets) % 5
    assert set(offsets) == {1, 2, 3, 4}
    expected = getattr(metrics, similarity)(heatmaps, explain(inputs, seen[1]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_random_logit_needs_two_classes_and_a_similarity_that_there_is():
    inputs, one = jnp.ones((1, 11, 11, 1)), {"key": jax.random.key(0), "explain": lambda x, t: x}
    asked = (lambda x: (x.mean((1, 2)), x), inputs, inputs[..., 0], 0)
    with pytest.raises(ValueError, match="a single class"):
        metrics.random_logit(*asked, score=lambda outputs: outputs, **one)
    two = (lambda x: (x.mean((1, 2)).repeat(2, 1), x), *asked[1:])
    with pytest.raises(ValueError, match="similarity is 'sim', wanted 'ssim'"):
        metrics.random_logit(*two, similarity="sim", **one)
