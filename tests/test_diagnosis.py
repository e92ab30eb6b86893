"""What is said of an explanation, at and beside each threshold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import Explanation, diagnose, diagnosis, score_cam
from scorecam_jax.methods.base import LayerMap

RNG = np.random.default_rng(0)
MAPS = RNG.uniform(size=(1, 3, 3, 20))


def explanation(**changes):
    """One that nothing is to be said of: class 1 of 3, with logits."""
    weights = RNG.permutation(np.linspace(0, 1, 20))[None]
    outputs = np.array([[0.0, 4.0, 1.0]])
    confidence = np.exp(4) / np.exp(outputs).sum()
    found = Explanation(
        heatmap=RNG.uniform(size=(1, 6, 6)),
        weights=weights,
        scores=weights,
        activations=MAPS,
        outputs=outputs,
        targets=np.array([1]),
        peak=np.array([1.0]),
        confidence=np.array([confidence]),
        empty=np.array([0.3]),
    )
    found = found._replace(**changes)
    return jax.tree.map(lambda v: np.asarray(v, v.dtype if v.dtype == int else np.float32), found)


def kinds(**changes):
    return [finding.kind for finding in diagnose(explanation(**changes))]


def weights_deviating(share):
    """Weights of mean 1 whose standard deviation is `share`."""
    return 1 + share * np.where(np.arange(20) % 2, 1, -1)[None]


def test_nothing_is_said_of_a_sound_map():
    assert kinds() == []


def test_flat_weights_are_those_that_deviate_by_less_than_15_percent():
    assert diagnosis.FLAT == 0.15
    weights = weights_deviating(0.14)
    (finding,) = [f for f in diagnose(explanation(weights=weights)) if f.kind == "flat weights"]
    assert finding.figure == pytest.approx(0.14, rel=1e-4)
    assert "14 %" in finding.text
    assert finding[3:] == (0, 1)
    assert "flat weights" not in kinds(weights=weights_deviating(0.16))


def test_scores_that_differ_by_rounding_are_flat():
    assert "flat weights" in kinds(scores=50 + 1e-4 * RNG.uniform(size=(1, 20)))
    assert "flat weights" not in kinds(scores=50 + RNG.uniform(size=(1, 20)))


def test_a_map_that_is_the_sum_of_the_activations_is_noticed():
    assert "plain sum" in kinds(weights=weights_deviating(0.001))
    assert "plain sum" not in kinds()


def test_a_target_below_1_percent_is_unlikely():
    for probability, said in ((0.009, True), (0.011, False)):
        other = np.log((1 - probability) / probability)
        outputs = np.array([[other, 0.0, -50.0]])
        found = kinds(outputs=outputs, confidence=np.array([probability]), empty=np.array([0.0]))
        assert ("unlikely" in found) == said


def test_a_value_that_is_no_probability_is_not_unlikely():
    found = kinds(outputs=np.array([[9.0, 0.001, 7.0]]), confidence=np.array([0.001]), empty=None)
    assert found == []


def test_empty_and_not_finite_maps_are_told():
    assert kinds(heatmap=np.zeros((1, 6, 6))) == ["empty"]
    broken = MAPS.copy()
    broken[0, 0, 0, 0] = np.inf
    assert "not finite" in kinds(activations=broken)


def test_a_layer_with_less_than_a_tenth_of_its_channels_live_is_told():
    for live, said in ((1, True), (2, False)):
        maps = np.where(np.arange(20) < live, MAPS, 0)
        assert ("dead channels" in kinds(activations=maps)) == said


def test_a_baseline_that_scores_above_the_input_is_told():
    assert kinds(empty=np.array([0.95])) == ["baseline scores higher"]


def test_a_softmax_of_probabilities_is_told():
    outputs = np.array([[0.05, 0.9, 0.05]])
    again = np.exp(0.9) / np.exp(outputs).sum()
    found = kinds(outputs=outputs, confidence=np.array([again]))
    assert found == ["softmax of probabilities"]
    assert kinds(outputs=outputs, confidence=np.array([0.9])) == []


def test_several_targets_are_told_apart():
    one = explanation()
    names = ("heatmap", "weights", "scores", "peak", "confidence", "empty")
    two = one._replace(
        targets=np.array([[1, 2]]),
        **{name: np.stack([getattr(one, name)] * 2, 1) for name in names},
    )
    two.heatmap[0, 1] = 0
    assert [(f.kind, f.input, f.target) for f in diagnose(two)] == [("empty", 0, 2)]


@pytest.mark.parametrize("first", [False, True])
def test_the_channel_axis_is_kept_where_the_grids_side_is_the_number_of_channels(first):
    axis = 1 if first else -1

    def constant(x):
        return jnp.zeros((len(x), 3)), jax.nn.relu(x)

    def explain(x):
        return score_cam(constant, x, 0, channel_axis=axis)

    x = jnp.moveaxis(jax.random.normal(jax.random.key(1), (1, 8, 8, 8)), -1, axis)
    found = jax.jit(explain)(x)
    assert found.channel_axis == (-3 if first else -1)
    assert [finding.kind for finding in diagnose(found)] == ["flat weights", "plain sum"]
    several = jax.vmap(explain)(x[None])
    assert several.channel_axis == found.channel_axis
    stacked = jax.lax.scan(lambda carry, x: (carry, explain(x)), None, x[None])[1]
    assert jax.tree.structure(stacked) == jax.tree.structure(found)


def test_values_have_to_be_known():
    with pytest.raises(ValueError, match="compiled function"):
        jax.jit(lambda e: len(diagnose(e)))(explanation())


def of_two_layers(first, second, **changes):
    """What is said of two layers with these maps, each explained by the sound weights."""
    whole = explanation()
    pairs = {name: (getattr(whole, name),) * 2 for name in ("weights", "scores", "activations")}
    layers = tuple(LayerMap(each[None], whole.peak) for each in (first, second))
    return diagnose(whole._replace(**{**pairs, "layers": layers, **changes}))


def test_layers_whose_maps_do_not_resemble_each_other_disagree():
    assert diagnosis.DISAGREE == 0.1
    last, other = RNG.normal(size=(2, 6, 6))
    other -= (other * (last - last.mean())).mean() / last.var() * (last - last.mean())
    last, other = ((each - each.mean()) / each.std() for each in (last, other))
    for likeness, said in ((0.09, ["layers disagree"]), (0.11, [])):
        first = likeness * last + np.sqrt(1 - likeness**2) * other
        found = of_two_layers(first.astype(np.float32), last.astype(np.float32))
        assert [finding.kind for finding in found] == said
        assert [finding.figure for finding in found] == pytest.approx([likeness] * len(said))


def test_a_finer_layer_that_does_not_answer_to_the_class_is_named():
    agreed = RNG.uniform(size=(6, 6)).astype(np.float32)
    flat = np.asarray(weights_deviating(0.05), np.float32)
    sound = explanation()
    found = of_two_layers(
        agreed, agreed, weights=(flat, sound.weights), scores=(flat, sound.scores)
    )
    assert {finding.kind for finding in found} == {"detail without class"}
    assert found[0].text.startswith("layer 1 of 2: the weights deviate by 5 %")
    # Of the last layer that is what it is of a single one.
    found = of_two_layers(
        agreed, agreed, weights=(sound.weights, flat), scores=(sound.scores, flat)
    )
    assert {finding.kind for finding in found} == {"flat weights", "plain sum"}
