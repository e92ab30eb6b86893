"""Every metric on heatmaps and images of every kind: in its range, whatever the batch's order."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from scorecam_jax import grad_cam, metrics
from scorecam_jax.study import METRICS
from scorecam_jax.study.registry import Case
from tests.fuzz.cases import BATCH, DTYPES, SHAPE, network, recipes
from tests.fuzz.fuzzing import fuzz

SOME, MANY = 30, 500
RANGES = {
    "average-drop": (0, 100),
    "average-increase": (0, 100),
    "average-gain": (0, 100),
    "insertion": (0, 1),
    "deletion": (0, 1),
    "adcc": (0, 1),
    "road": (-0.5, 0.5),
    "energy": (0, 1),
    "pointing": (0, 1),
    "box-acc": (0, 1),
    "box-iou": (0, 1),
    "faithfulness": (-1, 1),
    "infidelity": (0, 1),
    "arcc": (0, 1),
    "max-sensitivity": (0, 1e38),
    "random-logit": (-1, 1),
    "gini": (0, 1),
    "entropy": (0, 3.88),
    "auc": (0, 1),
    "relevance-rank": (0, 1),
    "top-k": (0, 1),
    "region-iou": (0, 1),
    "spearman": (-1, 1),
    "ssim": (-1, 1),
}
# Those that compile long, or are of metrics that have a cheaper sibling here.
RARE = {"road", "arcc", "max-sensitivity", "infidelity", "top-k", "entropy"}
BY_PLACE = {"road", "arcc", "random-logit"}  # what they draw belongs to an image's place
HALVES = {"average-gain", "spearman", "energy"}

HEATMAPS = {
    "zeros": lambda random: np.zeros(SHAPE),
    "ones": lambda random: np.ones(SHAPE),
    "constant": lambda random: np.full(SHAPE, 0.3),
    "one pixel": lambda random: (np.arange(48) == random.integers(48)).reshape(SHAPE) * 1.0,
    "ties": lambda random: random.integers(0, 3, SHAPE) / 2,
    "faint": lambda random: random.uniform(0, 1e-30, SHAPE),
    "denormal": lambda random: random.uniform(0, 1e-42, SHAPE),
    "one ulp apart": lambda random: 1 - random.integers(0, 2, SHAPE) * 2.0**-24,
    "random": lambda random: random.uniform(0, 1, SHAPE),
}


def _measure(name, case, heatmaps, others, boxes):
    if name == "spearman":
        return metrics.spearman(heatmaps, others)
    if name == "ssim":
        return metrics.ssim(*(maps.repeat(2, 1).repeat(2, 2) for maps in (heatmaps, others)))
    model = jax.tree_util.Partial(network, case.parameters)

    def explain(inputs, targets):
        return grad_cam(model, inputs, targets).heatmap

    arguments = model, case.inputs, heatmaps, case.targets, boxes, explain, {"batch_size": 128}
    return METRICS[name].measure(Case(*arguments))


def cases():
    assert METRICS.keys() < RANGES.keys()
    for name in RANGES:
        for dtype in DTYPES:
            if name not in RARE and (dtype == "float32" or name in HALVES):
                yield pytest.param(name, dtype, SOME, id=f"{name}-{dtype}")
            marks = pytest.mark.fuzz
            yield pytest.param(name, dtype, MANY, id=f"{name}-{dtype}-many", marks=marks)


@pytest.mark.parametrize(("name", "dtype", "count"), [*cases()])
def test_metrics(name, dtype, count):
    program = jax.jit(lambda *arguments: _measure(name, *arguments))
    kinds = st.tuples(*[st.sampled_from(list(HEATMAPS))] * BATCH * 2)

    @fuzz(count, f"{name} {dtype}")
    @hypothesis.given(recipes, kinds)
    def check(recipe, kinds):
        random = np.random.default_rng(recipe.seed)
        maps = np.stack([HEATMAPS[kind](random) for kind in kinds]).astype(dtype)
        boxes = random.integers(0, 9, (BATCH, 2, 4)).astype("float32")
        heatmaps, others = maps[:BATCH], maps[BATCH:]
        case = recipe.make(dtype)
        found = np.asarray(program(case, heatmaps, others, boxes), float)
        low, high = RANGES[name]
        assert np.isfinite(found).all()
        assert low <= found.min()
        assert found.max() <= high
        if name in BY_PLACE:
            return
        turned = case._replace(inputs=case.inputs[::-1].copy(), targets=case.targets[::-1].copy())
        again = program(turned, *(values[::-1].copy() for values in (heatmaps, others, boxes)))
        atol = 1e-4 * high + 100 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(np.asarray(again, float)[::-1], found, rtol=0, atol=atol)

    check()
