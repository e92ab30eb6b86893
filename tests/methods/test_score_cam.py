"""What score_cam promises, against NumPy and against itself."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from scorecam_jax import Deviation, Gradient, score_cam
from scorecam_jax.methods import variants
from tests import reference
from tests.networks import CHANNELS, CLASSES, CONSTANT, DEAD, images, network


def agrees_with_numpy(explanation, model, inputs, targets, **options):
    for row, (image, target) in enumerate(zip(inputs, targets, strict=True)):
        heatmap, weights, scores = reference.score_cam(model, image, target, **options)
        assert heatmap.max() == 1
        np.testing.assert_allclose(explanation.heatmap[row], heatmap, atol=1e-5)
        np.testing.assert_allclose(explanation.weights[row], weights, atol=1e-5)
        np.testing.assert_allclose(explanation.scores[row], scores, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_equals_numpy_on_signals_images_and_volumes(rank):
    model, inputs = network(rank), images(rank)
    explanation = score_cam(model, inputs, np.array([2, 0]))
    agrees_with_numpy(explanation, model, inputs, [2, 0])
    assert explanation.heatmap.shape == inputs.shape[:-1]
    np.testing.assert_array_equal(explanation.weights[:, [DEAD, CONSTANT]], 0)
    np.testing.assert_allclose(explanation.outputs, model(inputs)[0], atol=1e-6)
    np.testing.assert_allclose(explanation.activations, model(inputs)[1], atol=1e-6)


def test_several_targets_are_the_single_ones_stacked():
    model, inputs = network(), images()
    together = score_cam(model, inputs, np.array([[2, 0], [1, 1]]))
    for column, targets in enumerate(([2, 1], [0, 1])):
        alone = score_cam(model, inputs, np.array(targets))
        for name in ("heatmap", "weights", "scores", "targets"):
            both = getattr(together, name)[:, column], getattr(alone, name)
            np.testing.assert_allclose(*both, atol=1e-6)
    assert together.heatmap.shape == (2, 2, 9, 14)
    assert together.weights.shape == together.scores.shape == (2, 2, CHANNELS)


def test_targets_may_be_none_or_one_for_all():
    model, inputs = network(), images()
    best = model(inputs)[0].argmax(1)
    explanation = score_cam(model, inputs)
    assert explanation.targets.tolist() == best.tolist()
    np.testing.assert_array_equal(explanation.heatmap, score_cam(model, inputs, best).heatmap)
    np.testing.assert_array_equal(
        score_cam(model, inputs, 1).heatmap, score_cam(model, inputs, [1, 1]).heatmap
    )


def test_the_masked_score_may_be_any_function_of_the_outputs():
    model, inputs = network(), images()

    def sigmoid(logits):
        return 1 / (1 + np.exp(-logits))

    def several(x):
        logits, activations = model(x)
        return {"boxes": logits[:, :1], "class": [logits]}, activations

    agrees_with_numpy(
        score_cam(model, inputs, 1, score=jax.nn.sigmoid), model, inputs, [1, 1], score=sigmoid
    )
    with pytest.warns(UserWarning, match="counts as a probability"):
        identity = score_cam(model, inputs, 2, score=lambda logits: logits)
    agrees_with_numpy(identity, model, inputs, [2, 2], score=lambda logits: logits)
    with pytest.warns(UserWarning, match="counts as a probability"):
        picked = score_cam(several, inputs, 2, score=lambda outputs: outputs["class"][0])
    np.testing.assert_allclose(picked.heatmap, identity.heatmap, atol=1e-6)
    assert set(picked.outputs) == {"boxes", "class"}


@pytest.mark.parametrize("kind", ["number", "per channel", "image", "image for each input"])
def test_baseline_shows_where_the_mask_is_zero(kind):
    model, inputs = network(), images()
    baseline = {
        "number": 0.3,
        "per channel": np.array([0.5, -1], "f"),
        "image": inputs[:1] / 2,
        "image for each input": np.roll(inputs, 3, axis=1),
    }[kind]
    explanation = score_cam(model, inputs, 0, baseline=baseline)
    whole = np.broadcast_to(np.asarray(baseline), inputs.shape)
    for row in range(2):
        agrees_with_numpy(
            jax.tree.map(lambda value: value[row : row + 1], explanation),  # noqa: B023
            model,
            inputs[row : row + 1],
            [0],
            baseline=whole[row],
        )


def test_channels_n_are_those_that_deviate_most():
    model, inputs = network(), images()
    every, few = score_cam(model, inputs, 0), score_cam(model, inputs, 0, channels=Deviation(3))
    activations = np.asarray(model(inputs)[1])
    for row in range(2):
        chosen = np.argsort(-activations[row].std((0, 1)))[:3]
        others = np.setdiff1d(range(CHANNELS), chosen)
        np.testing.assert_allclose(few.weights[row][chosen], every.weights[row][chosen], atol=1e-6)
        np.testing.assert_array_equal(few.weights[row][others], 0)
        np.testing.assert_array_equal(few.scores[row][others], 0)
        total = activations[row] @ np.asarray(few.weights[row])
        np.testing.assert_allclose(few.heatmap[row], reference.finish(total, (9, 14)), atol=1e-5)
    np.testing.assert_array_equal(
        score_cam(model, inputs, 0, channels=Deviation(3)).heatmap, few.heatmap
    )
    same = score_cam(model, inputs, 0, channels=CHANNELS)
    np.testing.assert_allclose(same.heatmap, every.heatmap, atol=1e-6)


@pytest.mark.parametrize("targets", [[0], [2, 1]])
def test_gradient_chooses_what_raises_the_score_of_a_target(targets):
    model, inputs = network(), images()
    explanation = score_cam(model, inputs, [targets] * 2, channels=Gradient(2))
    _, _, head = model.args
    active = jax.nn.relu(model(inputs)[1]).mean((1, 2))
    # Softmax's derivative times the head: y is piecewise linear in the activations.
    p = jax.nn.softmax(model(inputs)[0])
    slopes = [(p[:, t, None] * (jax.nn.one_hot(t, CLASSES)[None] - p)) @ head.T for t in targets]
    effects = np.max([slope * active for slope in slopes], 0)
    assert (effects.min(1) < 0).any()
    for row in range(2):
        chosen = np.argsort(-effects[row])[:2]
        assert set(np.flatnonzero(explanation.scores[row].any(0))) == set(chosen.tolist())


def is_the_same_with(**options):
    # In double precision, where only a mistake could tell: the scaling magnifies rounding.
    with jax.enable_x64(True):
        model = jax.tree.map(lambda w: w.astype(float), network())
        inputs = jnp.asarray(images(), float)
        expected = score_cam(model, inputs, [[0, 1], [1, 2]], batch_size=1000)
        found = score_cam(model, inputs, [[0, 1], [1, 2]], **options)
        for name in ("heatmap", "weights", "scores"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 14, None])
def test_batch_size_changes_nothing(batch_size):
    is_the_same_with(batch_size=batch_size)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_inputs_are_scored_in_single(dtype):
    model, inputs = network(), images()
    half = score_cam(model, jnp.asarray(inputs, dtype), 1)
    assert half.activations.dtype == dtype
    assert half.heatmap.dtype == half.weights.dtype == half.scores.dtype == jnp.float32
    np.testing.assert_allclose(half.heatmap, score_cam(model, inputs, 1).heatmap, atol=0.05)
    np.testing.assert_array_equal(half.weights[:, [DEAD, CONSTANT]], 0)


def test_channels_first_is_the_same_transposed():
    inputs = images()
    last = score_cam(network(), inputs, 1, baseline=np.array([0.5, -1], "f"))
    first = score_cam(
        network(channels_first=True), np.moveaxis(inputs, -1, 1), 1,
        channel_axis=1, baseline=np.array([0.5, -1], "f").reshape(2, 1, 1),
    )  # fmt: skip
    np.testing.assert_allclose(first.heatmap, last.heatmap, atol=1e-6)
    assert first.activations.shape == (2, CHANNELS, 5, 7)


def test_a_plain_function_will_do():
    def model(x):
        return x.mean(1), x

    explanation = score_cam(model, np.array([[[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]), 0)
    # Masks show channel 0 where it is 2 and channel 1 where it is 1, so the first explains class 0.
    p = reference.softmax(np.array([[2 / 3, 0], [0, 1 / 3]]))[:, 0]
    np.testing.assert_allclose(explanation.weights[0], p, atol=1e-6)
    np.testing.assert_allclose(explanation.heatmap[0], [1, p[1] / (2 * p[0]), 0], atol=1e-6)


def test_under_jit_the_model_is_an_argument():
    inputs = images()
    explain = jax.jit(lambda model, x, targets: score_cam(model, x, targets, batch_size=4))
    eager = score_cam(network(), inputs, [2, 0])
    found = explain(network(), inputs, jnp.array([2, 0]))
    np.testing.assert_allclose(found.heatmap, eager.heatmap, atol=1e-6)
    halved = jax.tree.map(lambda w: w / 2, network())
    np.testing.assert_allclose(
        explain(halved, inputs, jnp.array([2, 0])).heatmap,
        score_cam(halved, inputs, [2, 0]).heatmap,
        atol=1e-6,
    )
    assert explain._cache_size() == 1


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [3, 100])
def test_under_vmap_and_scan(batch_size):
    model, inputs = network(), images(batch=3)

    def one(image, target):
        return score_cam(model, image[None], target[None], batch_size=batch_size).heatmap[0]

    targets = jnp.array([2, 0, 1])
    expected = score_cam(model, inputs, targets).heatmap
    np.testing.assert_allclose(jax.vmap(one)(inputs, targets), expected, atol=1e-6)
    scanned = jax.lax.scan(lambda _, case: (None, one(*case)), None, (inputs, targets))[1]
    np.testing.assert_allclose(scanned, expected, atol=1e-6)


@pytest.mark.slow
def test_differentiable_in_inputs_and_parameters():
    with jax.enable_x64(True):
        kernel, bias, head = (jnp.asarray(w, float) for w in network(1).args)
        # A constant channel is where Score-CAM jumps: the least change makes it a mask.
        kernel += jnp.sin(jnp.arange(kernel.size).reshape(kernel.shape))
        model = jax.tree_util.Partial(network(1).func, kernel, bias, head)
        inputs = jnp.asarray(images(1), float)
        ramp = jnp.arange(13.0)[None] ** 2 / 169

        def loss(model, inputs, remat=False, batch_size=5):
            explanation = score_cam(model, inputs, 1, remat=remat, batch_size=batch_size)
            return (explanation.heatmap * ramp).sum()

        check_grads(loss, (model, inputs), order=1, modes=["rev"], rtol=1e-5)
        slopes = jax.grad(loss, (0, 1))(model, inputs)
        assert all(jnp.abs(slope).max() > 1e-3 for slope in jax.tree.leaves(slopes))
        for options in ({"remat": True}, {"batch_size": 100}):
            again = jax.grad(lambda *args: loss(*args, **options), (0, 1))(model, inputs)  # noqa: B023
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), again, slopes)


def compilations(caplog):
    return sum(
        "_compiled" in record.getMessage() and "Finished XLA compilation" in record.getMessage()
        for record in caplog.records
    )


def test_compiles_once_for_each_shape(caplog):
    parameters = network().args
    traced = []

    def model(x):
        traced.append(x.shape)
        return jax.tree_util.Partial(network().func, *parameters)(x)

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        score_cam(model, images(), [2, 0])
        assert compilations(caplog) == 1
        traces = len(traced)
        score_cam(model, images(seed=1), np.array([1, 1]), baseline=0.5)
        score_cam(model, jnp.asarray(images(seed=2)), jnp.array([0, 1]))
        score_cam(model, images(seed=3), 2)
        assert compilations(caplog) == 1
        assert len(traced) == traces
        score_cam(model, images(batch=1), 2)
        assert compilations(caplog) == 2


def test_models_that_differ_in_weights_share_a_compilation(caplog):
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for factor in (1, 2, 3):
            score_cam(jax.tree.map(lambda w: w * factor, network()), images(batch=4), 1)  # noqa: B023
        assert compilations(caplog) == 1


def finite(explanation):
    return all(np.isfinite(value).all() for value in jax.tree.leaves(explanation))


EVERY_VARIANT = pytest.mark.parametrize("variant", variants.BY_NAME.values(), ids=variants.BY_NAME)


@EVERY_VARIANT
def test_dead_layers_and_constant_images_give_no_nan(variant):
    kernel, bias, head = network().args
    dead = jax.tree_util.Partial(network().func, kernel * 0, bias * 0, head)
    explanation = score_cam(dead, images(), 1, variant=variant)
    assert finite(explanation)
    assert not np.any(explanation.heatmap)
    for value in (0.0, 1.0):
        assert finite(score_cam(network(), np.full_like(images(), value), 1, variant=variant))
    mute = jax.tree_util.Partial(network().func, kernel, bias, head * 0)
    assert finite(score_cam(mute, images(), 1, variant=variant))


def test_sums_that_are_nowhere_positive_give_zeros():
    kernel, bias, head = network().args
    below = jax.tree_util.Partial(network().func, kernel, bias - 1000, head)
    explanation = score_cam(below, images(), 1)
    assert finite(explanation)
    assert np.any(explanation.weights)
    assert not np.any(explanation.heatmap)


@pytest.mark.parametrize("targets", [None, 1, np.zeros(0, int), np.zeros((0, 2), int)])
def test_no_inputs_give_no_heatmaps(targets):
    explanation = score_cam(network(), images(batch=0), targets)
    middle = targets.shape[1:] if isinstance(targets, np.ndarray) else ()
    assert explanation.heatmap.shape == (0, *middle, 9, 14)
    assert explanation.weights.shape == (0, *middle, CHANNELS)


def test_no_inputs_give_no_sums_of_masks():
    explanation = score_cam(network(), images(batch=0), 1, variant=variants.YISKW713)
    assert explanation.heatmap.shape == (0, 9, 14)


@pytest.mark.slow
def test_derivatives_stay_finite_where_nothing_is_live():
    kernel, bias, head = network().args
    dead = jax.tree_util.Partial(network().func, kernel * 0, bias * 0, head)
    slopes = jax.grad(lambda m, x: score_cam(m, x, 1).heatmap.sum(), (0, 1))(dead, images())
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))


def nan_image():
    broken = images()
    broken[0, 0, 0, 0] = np.nan
    return broken


@pytest.mark.parametrize(
    ("kind", "message", "inputs", "options"),
    [
        (TypeError, r"uint8.*astype", np.zeros((2, 9, 14, 2), "uint8"), {}),
        (ValueError, r"\(9, 14\).*inputs\[None\]", images()[0, ..., 0], {}),
        (ValueError, "NaN", nan_image(), {}),
        (ValueError, r"\[3\].*0 to 2", images(), {"targets": 3}),
        (ValueError, "0 to 2", images(), {"targets": [0, -1]}),
        (ValueError, r"\(3,\).*\(2, T\)", images(), {"targets": [0, 1, 2]}),
        (ValueError, r"\(2, 1, 1\)", images(), {"targets": [[[0]], [[1]]]}),
        (TypeError, "float64.*integer", images(), {"targets": 1.0}),
        (ValueError, "channels=7.* 6", images(), {"channels": Deviation(7)}),
        (ValueError, "channels=0", images(), {"channels": Deviation(0)}),
        (ValueError, "channels=-1", images(), {"channels": Gradient(-1)}),
        (ValueError, "batch_size is 0", images(), {"batch_size": 0}),
        (ValueError, "channel_axis", images(), {"channel_axis": 0}),
        (ValueError, "channel_axis", images(), {"channel_axis": 4}),
        (ValueError, r"baseline.*\(3,\)", images(), {"baseline": np.ones(3, "f")}),
        (ValueError, r"baseline.*\(3, 1", images(), {"baseline": np.ones((3, 1, 1, 1), "f")}),
        (ValueError, r"score\(outputs\)", images(), {"score": lambda outputs: outputs.sum()}),
    ],
)
def test_mistakes_are_told(kind, message, inputs, options):
    with pytest.raises(kind, match=message):
        score_cam(network(), inputs, **options)


def test_activations_without_a_grid_are_told():
    def flat(x):
        logits, activations = network()(x)
        return logits, activations.mean((1, 2))

    def tokens(x):
        logits, activations = network()(x)
        return logits, activations.reshape(len(x), -1, CHANNELS)

    with pytest.raises(ValueError, match="pooled"):
        score_cam(flat, images())
    with pytest.raises(ValueError, match="tokens"):
        score_cam(tokens, images())
    with pytest.raises(TypeError, match=r"\(outputs, activations\)"):
        score_cam(lambda x: (x, {"a": x}), images())
    with pytest.raises(TypeError, match=r"\(outputs, activations\)"):
        score_cam(lambda x: x.mean((1, 2)), images())


def test_gradient_needs_a_model_that_takes_edit():
    with pytest.raises(TypeError, match="edit"):
        score_cam(lambda x: network()(x), images(), channels=Gradient(2))


@pytest.mark.parametrize("devices", [1, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_a_mesh_of_any_size_gives_the_same(devices, batch_size, cpus):
    mesh = jax.make_mesh((devices,), ("masks",), devices=cpus[:devices])
    is_the_same_with(mesh=mesh, batch_size=batch_size)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_a_mesh_of_two_axes_under_jit_and_without_inputs(kind, cpus):
    kinds = (jax.sharding.AxisType[kind],) * 2
    mesh = jax.make_mesh((2, 4), ("host", "chip"), axis_types=kinds, devices=cpus)
    found = jax.jit(lambda model, x: score_cam(model, x, 1, mesh=mesh, batch_size=1))(
        network(), images()
    )
    np.testing.assert_allclose(found.heatmap, score_cam(network(), images(), 1).heatmap, atol=1e-6)
    assert score_cam(network(), images(batch=0), 1, mesh=mesh).heatmap.shape == (0, 9, 14)
