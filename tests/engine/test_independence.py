"""Models that score an image by what is beside it are refused; others are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import check_model, eigen_cam, per_input, score_cam, scores
from scorecam_jax.engine import independence
from tests.adapters.test_arguments import ADAPTERS, IMAGES, META, plain
from tests.networks import images, network


def joined(images):
    return plain(images, META)


def looked_up(images):
    return plain(images, META[jnp.arange(len(images)) % 3])


@pytest.mark.parametrize("model", [joined, looked_up])
def test_rows_that_are_closed_over_are_refused_with_what_to_write(model):
    found = r"array of shape \(3, 4\) with one row for each of the 3 images.*per_input\(array\)"
    for explain in (score_cam, eigen_cam, check_model):
        with pytest.raises(ValueError, match=found):
            explain(model, IMAGES)


def test_they_are_refused_under_jit_where_the_program_tells():
    with pytest.raises(ValueError, match="per_input"):
        jax.jit(lambda x: score_cam(joined, x, 0).heatmap)(IMAGES)


def test_rows_that_are_declared_are_not_refused():
    check_model(ADAPTERS["linen"](per_input(META)), IMAGES)
    check_model(lambda inputs: plain(*inputs), (IMAGES, META))


def outputs_of(x):
    return network()(x)[0]


def drawn_anew(x):
    shape = jax.eval_shape(outputs_of, x)
    noise = jax.pure_callback(lambda: np.random.normal(size=shape.shape).astype("f"), shape)
    return outputs_of(x) + noise, network()(x)[1]


def dropped_out(x):
    outputs, activations = network()(x)
    kept = jax.random.bernoulli(jax.random.key(0), 0.5, outputs.shape)
    return outputs * kept, activations


def centred(outputs):
    return outputs - outputs.mean(0, keepdims=True)


@pytest.mark.parametrize(
    ("model", "score", "message"),
    [
        (dropped_out, scores.values, "random numbers of shape .* dropout.*deterministic=True"),
        (network(), centred, "rows meet in 'reduce_sum'.*score each row by itself"),
        (drawn_anew, scores.values, "two equal calls"),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_scores_that_depend_on_more_than_the_image(model, score, message, batch):
    with pytest.raises(ValueError, match=message):
        score_cam(model, images(batch=batch), 0, score=score)


def test_a_sure_network_is_no_excuse():
    def sure(x):
        outputs, activations = network()(x)
        return 1e3 * (outputs - outputs.mean(0, keepdims=True)), activations

    with pytest.raises(ValueError, match="rows meet"):
        check_model(sure, images())


def test_what_the_program_does_not_show_is_run_once(monkeypatch):
    def one_by_one(x):
        outputs = jax.lax.map(lambda one: outputs_of(one[None])[0], x)
        return outputs, network()(x)[1]

    tried = []
    run = independence._try

    def noted(*args):
        tried.append(run(*args))
        return tried[-1]

    monkeypatch.setattr(independence, "_try", noted)
    for seed in (0, 1):
        check_model(one_by_one, images(seed=seed))
    check_model(network(), images())
    assert tried == [True]
