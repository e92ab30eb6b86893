"""The library's own sums are in float32, whatever precision a user chose for the network's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import metrics, score_cam
from scorecam_jax.program.jaxprs import bodies
from scorecam_jax.steps import interpolation, masks, scores
from tests.fuzz.explainers import EXPLAINERS

HIGHEST = jax.lax.Precision.HIGHEST
SHAPE = (12, 16)
INPUTS = np.random.default_rng(0).uniform(size=(2, *SHAPE, 3)).astype("float32")
HEATMAPS = INPUTS[..., 0]


def model(x, edit=None):
    """A network without products."""
    activations = jnp.concatenate([x, x**2], -1)[:, ::2, ::2]
    activations = activations if edit is None else edit(activations)
    return jax.nn.relu(activations).mean((1, 2)), activations


def precisions(jaxpr):
    """The precisions of all products of a program that are not of integers."""
    found = []
    for eqn in jaxpr.eqns:
        is_product = eqn.primitive.name in ("dot_general", "conv_general_dilated")
        if is_product and jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.inexact):
            found.append(eqn.params["precision"])
        for body in bodies(eqn):
            found += precisions(getattr(body, "jaxpr", body))
    return found


def has_full_precision(function, *args, products=True):
    with jax.default_matmul_precision("bfloat16"):
        found = precisions(jax.make_jaxpr(function)(*args).jaxpr)
    assert bool(found) == products
    return set(found) <= {(HIGHEST, HIGHEST)}


def test_precisions_of_products_are_found():
    def products(x):
        return jax.lax.scan(lambda total, _: (jax.jit(jnp.dot)(total, x), None), x, length=2)[0]

    assert not has_full_precision(products, jnp.eye(2))
    assert not has_full_precision(jax.grad(lambda x: products(x).sum()), jnp.eye(2))


@pytest.mark.parametrize("name", EXPLAINERS)
def test_methods(name):
    def loss(x):
        return (EXPLAINERS[name](model, x, 1).heatmap * HEATMAPS).sum()

    by_pixel = ("gradient", "gradient-times-input", "integrated-gradients", "smooth-grad")
    products = name not in ("uniform", "center", *by_pixel)
    assert has_full_precision(loss, INPUTS, products=products)
    assert has_full_precision(jax.grad(loss), INPUTS, products=products)


def test_rounds_of_interpolation():
    tolerant = interpolation.Interpolated(tolerance=0.01)
    assert has_full_precision(lambda x: score_cam(model, x, 1, channels=tolerant).heatmap, INPUTS)


@pytest.mark.parametrize("resize", [masks.resize, masks.resize_aligned])
def test_resizing(resize):
    def loss(maps):
        return (resize(maps, (24, 20)) ** 2).sum()

    assert has_full_precision(jax.grad(loss), HEATMAPS)


SCORES = {
    "segmentation": (scores.segmentation(HEATMAPS[0] > 0.5), INPUTS),
    "similarity": (scores.similarity(np.eye(3, dtype="float32") + 1), INPUTS[:, 0, 0]),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores(name):
    assert has_full_precision(*SCORES[name])


def explained(x, target):
    return score_cam(model, x, target).heatmap


MEASURES = {
    "spearman": (lambda x: metrics.spearman(HEATMAPS, x[..., 1]), False),
    "ssim": (lambda x: metrics.ssim(HEATMAPS, x[..., 1]), False),
    "deletion": (lambda x: metrics.deletion(model, x, HEATMAPS), False),
    "average drop": (lambda x: metrics.average_drop(model, x, HEATMAPS), False),
    "adcc": (lambda x: metrics.adcc(model, x, HEATMAPS, explain=explained), True),
    "road": (lambda x: metrics.road(model, x, HEATMAPS, key=jax.random.key(0)), True),
}


@pytest.mark.parametrize("name", MEASURES)
def test_metrics(name):
    measure, products = MEASURES[name]
    assert has_full_precision(measure, INPUTS, products=products)
