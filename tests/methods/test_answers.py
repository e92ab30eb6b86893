"""What a map must not depend on, and what it says for and against."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scorecam_jax
from scorecam_jax import scores
from scorecam_jax.methods import variants
from tests import reference
from tests.networks import CHANNELS, CLASSES, CONSTANT, DEAD, images, network

KEY = jax.random.key(0)
METHODS = {
    "score_cam": {},
    "is_cam": {"steps": 2},
    "ss_cam": {"key": KEY, "samples": 2},
}


def doubled(outputs):
    return 2 * outputs


doubled.probability = False


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["score_cam", *(pytest.param(name, marks=pytest.mark.slow) for name in ("is_cam", "ss_cam"))],
)
@pytest.mark.parametrize("score", [scores.values, doubled])
def test_a_constant_added_to_all_outputs_changes_no_map(name, score):
    with jax.enable_x64(True):
        model = jax.tree.map(lambda w: w.astype(float), network())
        inputs = jnp.asarray(images(), float)
        method = getattr(scorecam_jax, name)

        def explain(offset):
            def moved(x):
                outputs, activations = model(x)
                return outputs + offset, activations

            return method(moved, inputs, [[0, 1], [2, 1]], score=score, **METHODS[name])

        plain = explain(0.0)
        for offset in (50.0, -50.0):
            found = explain(offset)
            np.testing.assert_allclose(found.heatmap, plain.heatmap, atol=1e-9)
            np.testing.assert_allclose(found.weights, plain.weights, atol=1e-9)
            assert np.abs(found.scores - plain.scores).max() > 40


def test_a_region_of_a_segmentation_does_not_see_what_all_logits_share():
    image = jnp.zeros((1, 16, 16, 3)).at[0, 2:5, 2:5, 0].set(1).at[0, 10:14, 10:14, 1].set(1)

    def explain(offset):
        def model(x):
            a = jax.nn.relu(x)
            return jnp.concatenate([a[..., :1] - 0.2, 0.2 - a[..., :1]], -1) + offset, a

        score = scores.segmentation(image[0, ..., 0] > 0.5)
        return np.asarray(scorecam_jax.score_cam(model, image, 0, score=score).heatmap[0])

    expected = np.zeros((16, 16))
    expected[2:5, 2:5] = 1
    for offset in (-20.0, 0.0, 20.0):
        np.testing.assert_allclose(explain(offset), expected, atol=1e-4)


@pytest.mark.slow
def test_the_default_follows_the_score_and_a_named_variant_stays_what_it_is():
    model, inputs = network(), images()
    for score in (None, jax.nn.softmax, scores.sigmoid):
        default = scorecam_jax.score_cam(model, inputs, 1, score=score)
        named = scorecam_jax.score_cam(model, inputs, 1, score=score, variant=variants.OFFICIAL)
        np.testing.assert_array_equal(default.heatmap, named.heatmap)
        np.testing.assert_array_equal(default.weights, named.weights)
    raw = scorecam_jax.score_cam(model, inputs, 1, score=scores.values, variant=variants.OFFICIAL)
    np.testing.assert_array_equal(raw.weights[:, :DEAD], raw.scores[:, :DEAD])
    increase = scorecam_jax.score_cam(model, inputs, 1, score=scores.values)
    live = np.setdiff1d(range(CHANNELS), [DEAD, CONSTANT])
    empty = np.asarray(network()(np.zeros_like(inputs))[0])[:, 1]
    expected = np.asarray(increase.scores) - empty[:, None]
    np.testing.assert_allclose(increase.weights[:, live], expected[:, live], atol=1e-5)
    np.testing.assert_allclose(increase.weights[:, [DEAD, CONSTANT]], 0, atol=1e-6)
    np.testing.assert_allclose(increase.empty, empty, atol=1e-6)
    np.testing.assert_allclose(increase.confidence, model(inputs)[0][:, 1], atol=1e-6)


def test_signed_keeps_what_speaks_against_the_target():
    model, inputs = network(), images()
    found = scorecam_jax.score_cam(model, inputs, [[0, 1], [2, 0]], variant=variants.SIGNED)
    activations = np.asarray(model(inputs)[1], float)
    for row, column in np.ndindex(2, 2):
        total = activations[row] @ np.asarray(found.weights[row, column], float)
        resized = reference.resize(total, inputs.shape[1:3])
        expected = resized / np.abs(resized).max()
        np.testing.assert_allclose(found.heatmap[row, column], expected, atol=1e-4)
        np.testing.assert_allclose(found.peak[row, column], np.abs(total).max(), rtol=1e-4)
    assert found.heatmap.min() < -0.1
    np.testing.assert_allclose(np.abs(found.heatmap).max((2, 3)), 1, rtol=1e-6)


def test_a_signed_map_of_two_classes_is_the_other_ones_negative():
    # Of two classes, what raises the probability of one lowers that of the other.
    def model(x):
        outputs, activations = network()(x)
        return outputs[:, :2], activations

    found = scorecam_jax.score_cam(model, images(), [[0, 1]] * 2, variant=variants.SIGNED)
    np.testing.assert_allclose(found.heatmap[:, 0], -found.heatmap[:, 1], atol=1e-4)


def test_a_signed_map_of_nothing_is_zero():
    def model(x):
        return jnp.ones((len(x), 2)), 0 * x

    found = scorecam_jax.score_cam(model, images(), 0, variant=variants.SIGNED)
    np.testing.assert_array_equal(found.heatmap, 0 * images()[..., 0])


@pytest.mark.parametrize("name", ["score_cam", "grad_cam", "layer_cam"])
def test_a_contrast_shows_what_tells_two_classes_apart(name):
    # Green speaks for both classes, red for the first only.
    image = jnp.zeros((1, 16, 16, 3)).at[0, 2:6, 2:6, 0].set(1).at[0, 9:14, 9:14, 1].set(1)

    def model(x, edit=None):
        a = x if edit is None else edit(x)
        red, green, _ = jnp.moveaxis(20 * a.mean((1, 2)), -1, 0)
        return jnp.stack([red + green, green, 0 * red], 1), a

    method = getattr(scorecam_jax, name)
    plain = method(model, image, 0, score=scores.logits).heatmap[0]
    contrasted = method(model, image, 0, score=scores.contrast(1)).heatmap[0]
    assert plain[3, 3] > 0.3
    assert plain[11, 11] > 0.3
    assert contrasted[3, 3] == 1
    assert abs(contrasted[11, 11]) < 1e-5


def test_logits_that_happen_to_sum_to_one_are_no_probabilities():
    def model(x):  # the baseline's sum to zero
        return x.mean(1), x

    scorecam_jax.score_cam(model, np.array([[[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]), 0)


@pytest.mark.slow
def test_outputs_that_are_probabilities_already_are_noticed_once():
    def model(x):
        outputs, activations = network()(x)
        return {"p": jax.nn.softmax(outputs)}, activations

    score = scores.select("p")
    with pytest.warns(UserWarning, match=r"already are probabilities.*scores\.values") as told:
        scorecam_jax.score_cam(model, images(), 0, score=score, batch_size=1)
    assert len(told) == 1
    # Warnings are errors here, so these have none.
    scorecam_jax.score_cam(model, images(), 0, score=scores.select("p", score=scores.values))
    jax.jit(lambda x: scorecam_jax.score_cam(model, x, 0, score=score).heatmap)(images())


@pytest.mark.parametrize(
    "targets",
    [
        np.array([[True, False, True], [False, False, True]]),
        np.array([[1.0, 0, 0], [0, 1, 0]]),
        np.array([[1, 0, 1], [0, 0, 1]]),
        np.array([[0, 1, 0], [0, 0, 0]]),
    ],
)
def test_targets_that_mark_classes_are_refused_with_the_call_to_write(targets):
    with pytest.raises((TypeError, ValueError), match=r"numpy\.flatnonzero\(targets\[i\]\)"):
        scorecam_jax.score_cam(network(), images(), targets)


def test_both_of_two_classes_may_be_explained():
    def model(x):
        outputs, activations = network()(x)
        return outputs[:, :2], activations

    found = scorecam_jax.score_cam(model, images(), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(found.targets, [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="argmax"):
        scorecam_jax.score_cam(model, images(), [[1, 1], [1, 0]])
    assert scorecam_jax.score_cam(network(), images(), [[0, 1, 2]] * 2).targets.shape == (
        2,
        CLASSES,
    )
