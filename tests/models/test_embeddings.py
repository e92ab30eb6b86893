"""Heads on embeddings, compared with scikit-learn, NumPy and fits that leave a picture out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from sklearn.linear_model import Ridge

from scorecam_jax import from_function, grad_cam, models, score_cam
from scorecam_jax.models import embeddings

RNG = np.random.default_rng(0)
MIX = jnp.asarray(RNG.normal(size=(3, 8)), jnp.float32)


def network(mix, x):
    maps = jax.nn.relu(jnp.matmul(x, mix))
    return checkpoint_name(maps, "maps").mean((1, 2))


def plain(x):
    maps = jax.nn.relu(jnp.matmul(x, MIX))
    return maps.mean((1, 2)), maps


def classifier(model=None):
    model = model or from_function(network, MIX, "maps")
    return models.Classifier(model, jnp.asarray, (), (8, 8), "maps")


def picture(*shape):
    return RNG.normal(size=(*shape, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize("model", [None, plain], ids=["adapted", "plain"])
def test_a_likeness_is_the_softmax_of_cosines(model):
    x = picture(2)
    rows = np.asarray(plain(x)[0], np.float64)
    with pytest.raises(ValueError, match="another to compare"):
        models.likeness(classifier(model), {"one": picture()}, others={})
    one, two = picture(), picture()
    found = models.likeness(
        classifier(model), {"one": one}, others={"one": picture(), "two": two}, temperature=0.1
    )
    references = np.asarray(plain(np.stack([one, two]))[0], np.float64)
    cosines = (rows @ references.T) / np.outer(
        *(np.linalg.norm(r, axis=1) for r in (rows, references))
    )
    assert found.labels == ("one", "two")
    np.testing.assert_allclose(found.model(x)[0], cosines / 0.1, rtol=1e-5)


def test_a_followed_model_shows_the_same_layer_and_compiles_once():
    found = [
        models.likeness(classifier(), {"one": picture()}, others={"two": picture()})
        for _ in range(2)
    ]
    x = picture(1)
    traces = []

    @jax.jit
    def explained(model, x):
        traces.append(1)
        return score_cam(model, x, 0)

    maps = [explained(one.model, x).heatmap for one in found]
    assert len(traces) == 1
    assert float(jnp.abs(maps[0] - maps[1]).max()) > 1e-3
    np.testing.assert_allclose(found[0].model(x)[1], plain(x)[1], rtol=1e-6)


def test_gradients_reach_the_layer_through_the_head():
    x, pictures = picture(1), [picture(), picture()]
    maps, references = plain(x)[1], plain(np.stack(pictures))[0]

    def cosine(maps):
        rows = maps.mean((1, 2))
        unit = [row / jnp.linalg.norm(row, axis=1, keepdims=True) for row in (rows, references)]
        return (unit[0] @ unit[1].T / embeddings.TEMPERATURE)[0, 0]

    found = models.likeness(classifier(), dict(zip("ab", pictures, strict=True)), others={})
    expected = jax.grad(cosine)(maps).mean((1, 2))
    np.testing.assert_allclose(grad_cam(found.model, x, 0).weights, expected, rtol=1e-4, atol=1e-7)


def examples(count=5):
    """Classes that differ by a direction, noisily."""
    directions = RNG.normal(size=(3, 1, 1, 3))
    return {
        name: [(picture() + 1.5 * direction).astype("float32") for _ in range(count)]
        for name, direction in zip("abc", directions, strict=True)
    }


def test_a_head_is_a_ridge_regression_and_its_accuracy_leaves_each_example_out():
    few = examples()
    head = models.few_shot(classifier(), few)
    every = np.stack([one for pictures in few.values() for one in pictures])
    rows = np.asarray(plain(every)[0], np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    classes = np.repeat(np.arange(3), 5)
    wanted = np.eye(3)[classes]
    values = np.linalg.eigvalsh((rows - rows.mean(0)) @ (rows - rows.mean(0)).T).clip(0)

    def likelihood(ridge, scale):
        left_out = np.stack(
            [
                Ridge(alpha=ridge)
                .fit(np.delete(rows, i, 0), np.delete(wanted, i, 0))
                .predict(rows[i : i + 1])[0]
                for i in range(len(rows))
            ]
        )
        logits = scale * left_out
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return np.log(shares[np.arange(len(rows)), classes]).mean(), (
            left_out.argmax(1) == classes
        ).mean()

    tried = []
    for ridge in embeddings._RIDGES:
        for scale in embeddings._SCALES[::12]:
            tried.append((*likelihood(ridge * values.mean(), scale), ridge, scale))
    # The head's own ridge and scale are told by its weights' ratio to scikit-learn's.
    fits = {}
    for ridge in embeddings._RIDGES:
        fit = Ridge(alpha=ridge * values.mean()).fit(rows, wanted)
        ratio = (head.weights * fit.coef_.T).sum() / (fit.coef_**2).sum()
        fits[ridge] = np.abs(head.weights - ratio * fit.coef_.T).max(), ratio, fit
    chosen = min(fits, key=lambda ridge: fits[ridge][0])
    error, scale, fit = fits[chosen]
    assert error < 1e-3
    np.testing.assert_allclose(head.bias, scale * fit.intercept_, rtol=1e-3, atol=1e-3)
    best, accuracy = likelihood(chosen * values.mean(), scale)
    assert best >= max(tried)[0] - 1e-6
    assert head.accuracy == pytest.approx(accuracy)
    assert head.examples == 15


def test_a_head_tells_its_classes_apart_and_is_saved(tmp_path):
    head = models.few_shot(classifier(), examples())
    head.save(tmp_path / "head")
    again = models.Head.load(tmp_path / "head")
    np.testing.assert_array_equal(again.weights, head.weights)
    assert again[2:] == head[2:]
    found = models.with_head(classifier(), again)
    assert found.labels == ("a", "b", "c")
    x = picture(2)
    rows = np.array(plain(x)[0])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(
        found.model(x)[0], rows @ head.weights + head.bias, rtol=1e-4, atol=1e-4
    )


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found a: 1, b: 2"):
        models.few_shot(classifier(), {"a": [picture()], "b": [picture(), picture()]})
    head = models.few_shot(classifier(), examples())
    narrow = classifier(lambda x: (x.mean((1, 2)), x))
    with pytest.raises(ValueError, match="8 features, but this network's have 3"):
        models.with_head(narrow, head)
    (tmp_path / "no").write_bytes(b"no")
    with pytest.raises(ValueError, match="holds no saved classes"):
        models.Head.load(tmp_path / "no")
    with pytest.raises(ValueError, match=r"\(1, 8, 8, 3\), wanted one embedding"):
        models.embed(classifier(lambda x: (x, x)), [picture()])


@pytest.mark.parametrize(
    ("classes", "biases", "labels"), [(2, 2, 3), (2, 3, 3), (3, 2, 3), (3, 3, 2), (3, 2, 2)]
)
def test_a_saved_head_whose_parts_do_not_fit_is_refused(tmp_path, classes, biases, labels):
    names = tuple("abc"[:labels])
    models.Head(np.ones((3, classes)), np.ones(biases), names, 1.0, 6).save(tmp_path / "head")
    with pytest.raises(ValueError, match=rf"\(3, {classes}\), bias \({biases},\) and {labels} la"):
        models.Head.load(tmp_path / "head")


def test_a_truncated_head_is_refused(tmp_path):
    models.Head(np.ones((3, 2)), np.ones(2), ("a", "b"), 1.0, 6).save(tmp_path / "head")
    whole = (tmp_path / "head").read_bytes()
    (tmp_path / "head").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="holds no saved classes"):
        models.Head.load(tmp_path / "head")
