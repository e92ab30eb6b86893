import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import metrics

KEY = jax.random.key(0)
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 3)), jnp.float32)


def model(x):
    return x.mean((1, 2)), x


class Explain:
    """The channel of the class, and a record of what was asked."""

    def __init__(self):
        self.inputs, self.targets = [], []

    def __call__(self, inputs, targets):
        self.inputs.append(np.asarray(inputs, np.float64))
        self.targets.append(np.asarray(targets))
        return inputs[jnp.arange(len(inputs)), :, :, targets]


def ask(metric, explain, **options):
    heatmaps = Explain()(INPUTS, jnp.array([2, 0]))
    return metric(model, INPUTS, heatmaps, np.array([2, 0]), explain=explain, key=KEY, **options)


@pytest.mark.parametrize(
    ("form", "radius", "samples"),
    [("captum", 0.02, 10), ("quantus", 0.2, 200), ("paper", 0.02, 10)],
)
def test_the_largest_and_the_mean_change_are_those_of_the_maps_that_were_asked_for(
    form, radius, samples
):
    explain = Explain()
    largest = ask(metrics.max_sensitivity, explain, form=form)
    mean = ask(metrics.average_sensitivity, Explain(), form=form)
    noise = np.stack(explain.inputs) - np.asarray(INPUTS, np.float64)
    assert len(noise) == samples
    assert radius * 0.95 < np.abs(noise).max() <= radius * 1.001
    assert abs(noise.mean()) < radius / 10
    changes = np.stack(
        [np.linalg.norm(noise[:, row, :, :, one], axis=(1, 2)) for row, one in ((0, 2), (1, 0))]
    )
    if form != "paper":
        own = [np.linalg.norm(INPUTS[row, :, :, one]) for row, one in ((0, 2), (1, 0))]
        changes /= np.array(own)[:, None]
    np.testing.assert_allclose(largest, changes.max(1), rtol=1e-3)
    np.testing.assert_allclose(mean, changes.mean(1), rtol=1e-3)


def test_the_best_class_of_the_input_itself_is_compared():
    explain = Explain()
    targets = np.asarray(model(INPUTS)[0]).argmax(1)
    heatmaps = Explain()(INPUTS, jnp.asarray(targets))
    metrics.max_sensitivity(model, INPUTS, heatmaps, explain=explain, key=KEY, samples=3)
    np.testing.assert_array_equal(explain.targets, [targets] * 3)


def test_a_map_that_ignores_the_input_never_changes():
    found = metrics.max_sensitivity(
        model, INPUTS, jnp.ones((2, 5, 6)), explain=lambda x, t: jnp.ones((2, 5, 6)), key=KEY
    )
    np.testing.assert_array_equal(found, 0)


def test_an_empty_map_has_a_finite_change():
    found = metrics.average_sensitivity(
        model,
        INPUTS,
        jnp.zeros((2, 5, 6)),
        explain=lambda x, t: jnp.full((2, 5, 6), 0.5),
        key=KEY,
        samples=1,
    )
    np.testing.assert_allclose(found, 0.5 * np.sqrt(30), rtol=1e-6)


def test_what_makes_no_sense_is_refused():
    for options, message in (
        ({"form": "captain"}, "form is 'captain', wanted one of 'captum'"),
        ({"radius": 0.0}, "radius is 0.0"),
        ({"samples": 0}, "samples is 0"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            ask(metrics.max_sensitivity, Explain(), **options)
    with pytest.raises(TypeError, match="no option 'batch_size'"):
        ask(metrics.max_sensitivity, Explain(), batch_size=3)
