"""Heatmaps of several layers, fused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import Deviation, from_nnx, grad_cam, score_cam
from scorecam_jax.methods.fusion import fuse_layers


class Network(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.second = nnx.Conv(4, 6, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(6, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.second(nnx.relu(self.first(x)))).mean((1, 2)))


IMAGES = jax.random.uniform(jax.random.key(1), (2, 16, 24, 3))


@pytest.mark.parametrize("method", [score_cam, grad_cam])
@pytest.mark.parametrize(("fuse", "expected"), [(jnp.mean, np.mean), (jnp.prod, np.prod)])
def test_heatmaps_are_those_of_each_layer_fused(method, fuse, expected):
    network = Network()
    both = fuse_layers(
        from_nnx(network, ["first", "second"]), IMAGES, [1, 3], fuse=fuse, method=method
    )
    each = [method(from_nnx(network, layer), IMAGES, [1, 3]) for layer in ("first", "second")]
    fused = expected(np.stack([e.heatmap for e in each]), axis=0)
    low, high = fused.min((1, 2), keepdims=True), fused.max((1, 2), keepdims=True)
    np.testing.assert_allclose(both.heatmap, (fused - low) / (high - low), atol=1e-5)
    assert [weights.shape for weights in both.weights] == [(2, 4), (2, 6)]


@pytest.mark.slow
def test_all_layers_explain_the_same_best_class():
    model = from_nnx(Network(), ["first", "second"])
    explanation = fuse_layers(model, IMAGES, channels=Deviation(3))
    np.testing.assert_array_equal(explanation.targets, model(IMAGES)[0].argmax(1))


@pytest.mark.slow
def test_layers_share_the_masks_that_are_scored_and_the_fused_map_has_a_deviation():
    model = from_nnx(Network(), ["first", "second"])
    fused = score_cam(model, IMAGES, [1, 3], channels=3)
    assert sum(scored.sum(1) for scored in fused.scored).tolist() == [3, 3]
    assert fused.deviation.shape == fused.heatmap.shape
    assert (fused.deviation.max((1, 2)) > 0).all()
    assert (fused.layers[0].deviation.max((1, 2)) > 0).all()


def test_a_model_of_one_layer_is_refused():
    with pytest.raises(TypeError, match="several layers"):
        fuse_layers(from_nnx(Network(), "first"), IMAGES)
