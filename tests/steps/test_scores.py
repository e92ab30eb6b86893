import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import score_cam
from scorecam_jax.steps import scores

RNG = np.random.default_rng(0)


def test_segmentation_is_the_mean_over_the_region():
    logits = jnp.asarray(RNG.normal(size=(2, 4, 3, 5)), jnp.float32)
    region = RNG.random((4, 3)) < 0.5
    expected = logits[:, region].mean(1)
    np.testing.assert_allclose(scores.segmentation(region)(logits), expected, rtol=1e-5)
    first = scores.segmentation(region, channel_axis=1)(jnp.moveaxis(logits, -1, 1))
    np.testing.assert_allclose(first, expected, rtol=1e-5)
    exponentials = np.exp(logits)
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    score = scores.segmentation(region, activation=jax.nn.softmax)
    np.testing.assert_allclose(score(logits), probabilities[:, region].mean(1), rtol=1e-5)


def test_segmentation_refuses_a_region_that_is_empty_or_of_another_size():
    with pytest.raises(ValueError, match="the region is empty"):
        scores.segmentation(np.zeros((4, 3), bool))
    with pytest.raises(ValueError, match=r"\(3, 4\), wanted the outputs' \(4, 3\)"):
        scores.segmentation(np.ones((3, 4), bool))(jnp.zeros((2, 4, 3, 5)))


def test_similarity_is_the_cosine_or_its_softmax():
    embeddings, references = RNG.normal(size=(2, 6)), RNG.normal(size=(3, 6))
    norms = np.linalg.norm(embeddings, axis=1)[:, None] * np.linalg.norm(references, axis=1)
    cosines = embeddings @ references.T / norms
    plain = scores.similarity(references)(jnp.array(embeddings))
    np.testing.assert_allclose(plain, cosines, rtol=1e-5, atol=1e-6)
    exponentials = np.exp(cosines / 0.1)
    softmax = scores.similarity(references, temperature=0.1)(jnp.array(embeddings))
    expected = exponentials / exponentials.sum(1, keepdims=True)
    np.testing.assert_allclose(softmax, expected, rtol=1e-4)


def test_similarity_of_nothing_is_zero_and_has_a_gradient():
    score = scores.similarity(jnp.eye(3))
    np.testing.assert_array_equal(score(jnp.zeros((1, 3))), np.zeros((1, 3)))
    gradient = jax.grad(lambda x: score(x).sum())(jnp.zeros((1, 3)))
    assert np.isfinite(gradient).all()


def test_probabilities_of_a_single_reference_are_refused():
    with pytest.raises(ValueError, match="always 1"):
        scores.similarity(jnp.ones((1, 3)), temperature=0.01)


def test_values_and_sigmoid_make_one_column_of_a_single_output():
    outputs = RNG.normal(size=3).astype(np.float32)
    np.testing.assert_array_equal(scores.values(jnp.array(outputs)), outputs[:, None])
    expected = 1 / (1 + np.exp(-outputs))[:, None]
    np.testing.assert_allclose(scores.sigmoid(jnp.array(outputs)), expected, rtol=1e-6)


def test_select_finds_keys_indices_and_attributes():
    outputs = {"a": (jnp.zeros((1, 2)), jnp.array([[0.0, 1.0]]))}
    expected = np.exp([[0, 1]]) / np.exp([0, 1]).sum()
    np.testing.assert_allclose(scores.select("a", 1)(outputs), expected, rtol=1e-6)
    complex_numbers = jnp.array([[1 + 2j]])
    result = scores.select("imag", score=scores.values)(complex_numbers)
    np.testing.assert_array_equal(result, [[2.0]])
    with pytest.raises(ValueError, match=r"no 'b' at \('b',\), only \['a'\]"):
        scores.select("b")(outputs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: scores.values,
        lambda: scores.segmentation(np.ones((4, 4)), activation=jax.nn.softmax),
        lambda: scores.select("logits", score=scores.segmentation(np.eye(4))),
        lambda: scores.detection([0, 0, 1, 1]),
        lambda: scores.similarity(np.eye(3), temperature=0.1),
    ],
)
def test_scores_built_twice_are_equal(make):
    first, second = (jax.tree.structure(make()) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


def test_explaining_by_another_region_does_not_compile_again():
    traces = []

    def model(x):
        traces.append(x)
        return {"logits": x}, jax.nn.relu(x)

    images = jnp.asarray(RNG.normal(size=(1, 4, 4, 3)), jnp.float32)

    def explain(region):
        score = scores.select("logits", score=scores.segmentation(region))
        return score_cam(model, images, 0, score=score)

    left = explain(np.eye(4)[:, ::-1])
    count = len(traces)
    right = explain(np.eye(4))
    assert len(traces) == count > 0
    assert (left.scores != right.scores).any()
    # The score of an unmasked channel is the mean of what the mask shows, over the diagonal.
    mask = jax.nn.relu(images[0, ..., 1])
    mask = (mask - mask.min()) / (mask.max() - mask.min())
    expected = np.diag(images[0, ..., 0] * mask).mean()
    np.testing.assert_allclose(right.scores[0, 1], expected, rtol=1e-5, atol=1e-6)


def test_binary_is_the_softmax_of_a_zero_and_the_logit():
    logit = RNG.normal(size=(5, 1)).astype(np.float32)
    two = np.concatenate([0 * logit, logit], 1)
    expected = np.exp(two) / np.exp(two).sum(1, keepdims=True)
    np.testing.assert_allclose(scores.binary(jnp.array(logit)), expected, rtol=1e-5)
    np.testing.assert_allclose(scores.binary(jnp.array(logit[:, 0])), expected, rtol=1e-5)
    assert scores.binary(jnp.array([[300.0], [-300.0]])).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match=r"one logit per input, and the outputs have 3"):
        scores.binary(jnp.zeros((1, 3)))


def test_contrast_takes_off_the_mean_of_the_others():
    logits = RNG.normal(size=(4, 5)).astype(np.float32)
    one = scores.contrast(3)(jnp.array(logits))
    np.testing.assert_allclose(one, logits - logits[:, [3]], rtol=1e-5, atol=1e-6)
    several = scores.contrast([1, 4], share=0.5)(jnp.array(logits))
    mean = (logits[:, [1]] + logits[:, [4]]) / 2
    np.testing.assert_allclose(several, logits - 0.5 * mean, rtol=1e-5, atol=1e-6)
    each = RNG.integers(0, 5, (5, 2))
    expected = [[row[c] - row[each[c]].mean() for c in range(5)] for row in logits]
    own = scores.contrast(each)(jnp.array(logits))
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-6)
    inner = scores.contrast(0, score=scores.select("a", score=jax.nn.sigmoid))
    sigmoid = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(
        inner({"a": jnp.array(logits)}), sigmoid - sigmoid[:, [0]], rtol=1e-4, atol=1e-6
    )


def test_nearest_are_those_with_the_closest_scores():
    logits = RNG.normal(size=(1, 7)).astype(np.float32)
    expected = []
    for c in range(7):
        distance = np.abs(logits[0] - logits[0, c])
        expected.append([d for d in np.argsort(distance, kind="stable") if d != c][:3])
    np.testing.assert_array_equal(scores.nearest(jnp.array(logits)), expected)
    with pytest.raises(ValueError, match="outputs are of 2 inputs"):
        scores.nearest(jnp.zeros((2, 7)))
    with pytest.raises(ValueError, match="wanted 1 to 6"):
        scores.nearest(jnp.array(logits), 7)


@pytest.mark.parametrize("weighted", [False, True])
def test_contrast_with_the_nearest_by_the_outputs_at_hand(weighted):
    logits = RNG.normal(size=(4, 7)).astype(np.float32)
    found = scores.contrast(share=0.6, weighted=weighted, count=2)(jnp.array(logits))
    for row, y in enumerate(logits.astype(float)):
        for c in range(7):
            near = [d for d in np.argsort(np.abs(y - y[c])) if d != c][:2]
            p = np.exp(y[near]) if weighted else np.ones(2)
            expected = y[c] - 0.6 * (p @ y[near]) / p.sum()
            np.testing.assert_allclose(found[row, c], expected, rtol=1e-4, atol=1e-5)
    few = scores.contrast(count=9)(jnp.array(logits[:, :3]))  # both others
    rest = (logits[:, :3].sum(1, keepdims=True) - logits[:, :3]) / 2
    np.testing.assert_allclose(few, logits[:, :3] - rest, rtol=1e-4, atol=1e-5)


def test_contrast_refuses_what_is_no_other_class():
    with pytest.raises(TypeError, match="float"):
        scores.contrast(0.5)
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        scores.contrast(np.zeros(0, int))
    images = jnp.ones((1, 4, 4, 3)).at[0, 1].set(2)
    for other in (3, -1):
        with pytest.raises(ValueError, match=rf"rather_than=\[{other}\].*has 3: 0 to 2"):
            score_cam(pooled, images, 1, score=scores.contrast(other))
    with pytest.raises(ValueError, match=r"wanted \(3, n\)"):
        score_cam(pooled, images, 1, score=scores.contrast([[0], [1]]))
    with pytest.raises(ValueError, match=r"scores\.binary"):
        score_cam(pooled, images[..., :1], 0, score=scores.contrast(0))


def pooled(x):
    activations = jax.nn.relu(x)
    return activations.mean((1, 2)), activations


@pytest.mark.parametrize(
    ("score", "known"),
    [
        (jax.nn.softmax, True),
        (jax.nn.sigmoid, True),
        (scores.sigmoid, True),
        (scores.binary, True),
        (functools.partial(jax.nn.softmax, axis=-1), True),
        (scores.select("a"), True),
        (scores.select("a", score=scores.select(0, score=scores.sigmoid)), True),
        (scores.segmentation(np.eye(2), activation=jax.nn.softmax), True),
        (scores.similarity(np.eye(2), temperature=0.1), True),
        (scores.values, False),
        (scores.logits, False),
        (jax.nn.log_softmax, False),
        (scores.select("a", score=scores.values), False),
        (scores.segmentation(np.eye(2)), False),
        (scores.similarity(np.eye(2)), False),
        (scores.detection([0, 0, 1, 1], activation=jax.nn.sigmoid), False),
        (scores.contrast(1, score=jax.nn.softmax), False),
        (lambda outputs: outputs, True),
        (lambda outputs: scores.detection([0, 0, 1, 1])((outputs[0], outputs["scores"])), False),
        (lambda outputs: scores.select("a", score=scores.values)(outputs.parts), False),
        (lambda outputs: jax.nn.softmax(scores.logits(outputs)), True),
        (lambda outputs: scores.sigmoid(outputs), True),
        (scores.select("a", score=lambda outputs: scores.logits(outputs)), False),
    ],
)
def test_which_scores_are_probabilities_is_known(score, known):
    assert scores.is_probability(score) == known
    leaves, tree = jax.tree.flatten(score) if isinstance(score, jax.tree_util.Partial) else ([], 0)
    if leaves:
        assert scores.is_probability(jax.tree.unflatten(tree, leaves)) == known


def test_the_models_outputs_tell_of_more_functions():
    def score(outputs):
        return scores.values(outputs.mean(1))

    assert scores.kind_of(score) is None
    assert scores.kind_of(score, lambda: jax.ShapeDtypeStruct((2, 3, 4), "float32")) is False
    assert scores.kind_of(score, lambda: jax.ShapeDtypeStruct((), "float32")) is None


def test_a_score_gets_the_same_formula_inside_a_function():
    def logits_of(outputs):
        return scores.values(outputs)

    image = jnp.asarray(RNG.uniform(size=(1, 4, 4, 3)), jnp.float32)
    expected = score_cam(pooled, image, 0, score=scores.values)
    found = score_cam(pooled, image, 0, score=logits_of)
    np.testing.assert_array_equal(found.heatmap, expected.heatmap)


def test_values_outside_0_to_1_that_count_as_probabilities_are_told():
    image = jnp.asarray(RNG.uniform(1, 2, size=(1, 4, 4, 3)), jnp.float32)
    with pytest.warns(UserWarning, match=r"variant=variants\.INCREASE.*probability to False"):
        score_cam(pooled, image, 0, score=lambda outputs: 2 * outputs)


def test_a_softmax_of_sigmoids_is_told():
    def labels(x):
        outputs, activations = pooled(x)
        return jax.nn.sigmoid(outputs), activations

    image = jnp.asarray(RNG.uniform(size=(1, 4, 4, 3)), jnp.float32)
    with pytest.warns(UserWarning, match=r"a sigmoid each.*score=scores\.values"):
        score_cam(labels, image, 0)
    score_cam(labels, image, 0, score=scores.values)


def test_a_function_may_say_that_it_gives_probabilities():
    def score(outputs):
        return outputs["probability"]

    score.probability = True
    assert scores.is_probability(score)


SINGLE = [
    None,
    jax.nn.softmax,
    jax.nn.log_softmax,
    scores.select(0),
    scores.select(0, score=jax.nn.log_softmax),
]


@pytest.mark.parametrize("score", SINGLE)
def test_a_softmax_over_a_single_class_is_refused(score):
    def model(x):
        outputs, activations = pooled(x)
        return [outputs] if isinstance(score, jax.tree_util.Partial) else outputs, activations

    image = jnp.ones((1, 4, 4, 1)).at[0, 1].set(2)
    with pytest.raises(ValueError, match=r"scores\.sigmoid.*scores\.binary.*scores\.values"):
        score_cam(model, image, score=score)
    with pytest.raises(ValueError, match=r"scores\.sigmoid"):
        jax.jit(lambda x: score_cam(model, x, 0, score=score).heatmap)(image)


def test_scores_that_are_closed_over_work_under_jit():
    def model(x):
        return {"boxes": jnp.zeros((len(x), 1, 4)) + jnp.arange(4.0).reshape(1, 1, 4), "map": x}, x

    image = jnp.asarray(RNG.uniform(size=(1, 4, 4, 3)), jnp.float32)
    region, box = jnp.eye(4), jnp.array([0.0, 1.0, 2.0, 4.0])
    references = jnp.asarray(RNG.normal(size=(2, 3)), jnp.float32)

    def detect(outputs):
        return scores.detection(box)((outputs["boxes"], outputs["map"].mean((1, 2))[:, None]))

    makes = {
        "region": lambda: scores.select("map", score=scores.segmentation(region)),
        "box": lambda: detect,
        "references": lambda: scores.select("map", score=similar),
    }

    def similar(maps):
        return scores.similarity(references)(maps.mean((1, 2)))

    similar.probability = False

    for make in makes.values():
        inside = jax.jit(lambda s: s * score_cam(model, image, 1, score=make()).heatmap)(1.0)  # noqa: B023
        outside = score_cam(model, image, 1, score=make()).heatmap
        np.testing.assert_allclose(inside, outside, atol=1e-5)
