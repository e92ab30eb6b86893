"""Deep feature factorization of layers that are made of known parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.methods.dff import dff, find_concepts
from scorecam_jax.steps.factors import factorize
from tests import reference

RNG = np.random.default_rng(0)
VECTORS = RNG.uniform(0, 1, (3, 6)).astype("float32")  # three parts of six channels
VECTORS[:, :3] = 2 * np.eye(3)
HEAD = RNG.normal(size=(6, 4)).astype("float32")


def planted():
    """Maps of three parts, each alone in some place, which makes the factors unique."""
    maps = RNG.uniform(0, 0.4, (2, 4, 5, 3)).astype("float32")
    for part in range(3):
        maps[part % 2, part] = 0
        maps[part % 2, part, 1, part] = 1
    return maps


MAPS = planted()


IMAGES = MAPS.repeat(2, 1).repeat(2, 2)
SHIFT = np.float32([0, 0, 0, 0, 0, 1.5])


def network(x, edit=None):
    """A layer that is the sum of the parts in the image, less a number in one channel."""
    layer = x[:, ::2, ::2] @ VECTORS - SHIFT[None, None, None]
    layer = layer if edit is None else edit(layer)
    return layer.mean((1, 2)) @ HEAD, layer


def test_factors_of_known_parts_are_found():
    matrix = MAPS.reshape(-1, 3) @ VECTORS
    shares, vectors = jax.jit(factorize, static_argnums=1)(jnp.asarray(matrix), 3)
    np.testing.assert_allclose(shares @ vectors, matrix, atol=1e-3)
    order = np.argmax(vectors[:, :3], 1)
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(vectors, VECTORS[order], atol=2e-2)
    np.testing.assert_allclose(shares, MAPS.reshape(-1, 3)[:, order], atol=2e-2)


def test_factors_miss_no_more_than_multiplicative_updates_do():
    matrix = RNG.uniform(size=(30, 12)).astype("float32")
    shares, vectors = factorize(jnp.asarray(matrix), 4)
    assert shares.min() >= 0
    assert vectors.min() >= 0
    np.testing.assert_allclose(shares.max(0), 1, atol=1e-6)
    best = np.inf
    for seed in range(3):  # Lee and Seung's, from three random starts
        random = np.random.default_rng(seed)
        s, v = random.uniform(size=(30, 4)), random.uniform(size=(4, 12))
        for _ in range(500):
            s *= matrix @ v.T / (s @ v @ v.T)
            v *= s.T @ matrix / (s.T @ s @ v)
        best = min(best, ((matrix - s @ v) ** 2).sum())
    assert ((matrix - shares @ vectors) ** 2).sum() < 1.05 * best


def test_concepts_of_a_batch_and_their_scores():
    found = find_concepts(network, IMAGES, concepts=3)
    order = np.argmax(found.vectors[:, :3], 1)
    assert sorted(order) == [0, 1, 2]
    for concept, part in enumerate(order):
        for row in range(2):
            expected = reference.resize(MAPS[row, ..., part].astype(float), (8, 10))
            np.testing.assert_allclose(found.heatmaps[row, concept], expected, atol=0.1)
        expected = np.asarray(found.vectors[concept]) @ HEAD
        np.testing.assert_allclose(found.scores[concept], expected, atol=1e-4)
    # The least of each channel is taken off ahead of the factors, and is in the vectors again.
    layer = np.asarray(network(IMAGES)[1], float)
    shares = np.moveaxis(np.asarray(found.heatmaps), 1, -1)
    assert layer[..., 5].min() - 1e-4 <= found.vectors[:, 5].min() < 0
    assert shares.max() <= 1


def test_dff_shows_the_concept_that_speaks_most_for_the_target():
    found = dff(network, IMAGES, [[0, 1], [2, 3]], concepts=3)
    assert found.scores.shape == (2, 2, 3)
    for row in range(2):
        alone = find_concepts(network, IMAGES[row : row + 1], concepts=3)
        for column, target in enumerate(found.targets[row]):
            own = alone.scores[:, target]
            np.testing.assert_allclose(found.scores[row, column], own, atol=1e-3)
            expected = reference.scale(np.asarray(alone.heatmaps[0, np.argmax(own)], float))
            np.testing.assert_allclose(found.heatmap[row, column], expected, atol=1e-3)


def test_what_cannot_be_factorised_is_told():
    with pytest.raises(ValueError, match="concepts=0, wanted at least 1"):
        find_concepts(network, IMAGES, concepts=0)

    def several(x, edit=None):
        outputs, layer = network(x, edit and edit[1])
        return outputs, (layer, layer)

    with pytest.raises(ValueError, match="factorises one layer, and the model has 2"):
        find_concepts(several, IMAGES)
