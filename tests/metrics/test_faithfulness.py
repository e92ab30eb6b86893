import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import metrics, score_cam

SHAPES = {"signal": (12,), "image": (7, 9), "volume": (3, 4, 5)}


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def uniform(*shape):
    return jnp.asarray(np.random.default_rng(1).random(shape), jnp.float32)


@functools.cache
def network(rank):
    """Looks at places as well as at values, so that no two masks have the same score."""
    shape = SHAPES[["signal", "image", "volume"][rank - 1]]
    place, mix = normal(1, *shape, 4), normal(3, 4)

    def model(x):
        activations = jax.nn.relu(x @ mix + place)
        return activations.mean(range(1, rank + 1)) * 9, activations

    return model


@pytest.fixture(params=list(SHAPES))
def case(request):
    shape = SHAPES[request.param]
    return network(len(shape)), normal(2, *shape, 3), uniform(2, *shape)


@pytest.fixture
def image():
    return network(2), normal(2, *SHAPES["image"], 3), uniform(2, *SHAPES["image"])


def probability(model, inputs, targets):
    logits = np.asarray(model(jnp.asarray(inputs, jnp.float32))[0], np.float64)
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    return probabilities[np.arange(len(inputs)), targets]


def best(model, inputs):
    return np.asarray(model(inputs)[0]).argmax(1)


def curve(model, inputs, heatmaps, targets, counts, baseline, *, delete):
    """Every masked input built one at a time, in NumPy."""
    inputs, heatmaps = np.asarray(inputs), np.asarray(heatmaps)
    baseline = np.broadcast_to(baseline, inputs.shape)
    scores = []
    for count in counts:
        shown = inputs.copy() if delete else baseline.copy()
        for image, heatmap in enumerate(heatmaps):
            order = np.argsort(-heatmap, axis=None, kind="stable")[:count]
            where = np.unravel_index(order, heatmap.shape)
            shown[image][where] = (baseline if delete else inputs)[image][where]
        scores.append(probability(model, shown, targets))
    return np.stack(scores, 1)


def test_drop_increase_and_gain_follow_from_two_passes(case):
    model, inputs, heatmaps = case
    targets = np.array([2, 0])
    p = probability(model, inputs, targets)
    o = probability(model, inputs * heatmaps[..., None], targets)
    drop, increase, gain = (
        metric(model, inputs, heatmaps, targets)
        for metric in (metrics.average_drop, metrics.average_increase, metrics.average_gain)
    )
    np.testing.assert_allclose(drop, 100 * np.maximum(p - o, 0) / p, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(increase, 100 * (o > p))
    np.testing.assert_allclose(gain, 100 * np.maximum(o - p, 0) / (1 - p), rtol=1e-4, atol=1e-4)


def test_the_best_class_is_the_default_target(image):
    model, inputs, heatmaps = image
    for metric in (metrics.average_drop, metrics.deletion):
        explicit = metric(model, inputs, heatmaps, best(model, inputs))
        np.testing.assert_allclose(metric(model, inputs, heatmaps), explicit, rtol=1e-6)


def test_muting_zeroes_the_least_salient_share():
    model, heatmaps = network(1), jnp.linspace(0.1, 1, 12)[None]
    inputs = normal(1, 12, 3)
    muted = np.where(np.arange(12) < 6, 0, heatmaps)
    np.testing.assert_allclose(
        metrics.average_drop(model, inputs, heatmaps, 1, mute=0.5),
        metrics.average_drop(model, inputs, jnp.asarray(muted), 1),
        rtol=1e-6,
    )


def test_a_map_of_ones_changes_no_score_not_even_by_rounding(image):
    model, inputs, heatmaps = image
    ones = jnp.ones_like(heatmaps)
    for metric in (metrics.average_drop, metrics.average_increase, metrics.average_gain):
        np.testing.assert_array_equal(metric(model, inputs, ones), 0)
        np.testing.assert_array_equal(metric(model, inputs, ones, mute=0.5), 0)


def test_an_empty_map_leaves_the_baselines_score(image):
    model, inputs, heatmaps = image
    targets, baseline = np.array([1, 1]), np.array([0.5, -0.5, 1.0], np.float32)
    p = probability(model, inputs, targets)
    o = probability(model, np.broadcast_to(baseline, inputs.shape), targets)
    drop = metrics.average_drop(
        model, inputs, jnp.zeros_like(heatmaps), targets, baseline=jnp.asarray(baseline)
    )
    np.testing.assert_allclose(drop, 100 * np.maximum(p - o, 0) / p, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [0.07, 5])
def test_curves_equal_those_of_masked_inputs_built_one_by_one(case, step):
    model, inputs, heatmaps = case
    pixels, targets = heatmaps[0].size, np.array([3, 1])
    if isinstance(step, int):
        counts = [*range(0, pixels, step), pixels]
    else:
        shares = [*np.arange(0, 1, step), 1]
        counts = sorted({round(share * pixels) for share in shares})
    shares, scores = metrics.deletion_curve(model, inputs, heatmaps, targets, step=step)
    np.testing.assert_allclose(shares, np.array(counts) / pixels)
    expected = curve(model, inputs, heatmaps, targets, counts, 0.0, delete=True)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)

    shares, scores = metrics.insertion_curve(
        model, inputs, heatmaps, targets, step=step, baseline=0.3
    )
    expected = curve(model, inputs, heatmaps, targets, counts, np.float32(0.3), delete=False)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    area = np.trapezoid(expected, np.array(counts) / pixels, axis=1)
    got = metrics.insertion(model, inputs, heatmaps, targets, step=step, baseline=0.3)
    np.testing.assert_allclose(got, area, rtol=1e-4)


def test_a_percent_a_step_makes_101_scores_and_224_pixels_make_225():
    model = lambda x: (x.mean((1, 2)), x)  # noqa: E731
    inputs, heatmaps = jnp.ones((1, 224, 224, 1)), jnp.ones((1, 224, 224))
    for step, count in ((0.01, 101), (224, 225)):
        shares, scores = metrics.deletion_curve(
            model, inputs, heatmaps, 0, step=step, score=lambda outputs: outputs
        )
        assert scores.shape == (1, count)
        np.testing.assert_allclose(scores[0], 1 - shares, atol=1e-5)


def test_insertion_starts_from_the_blurred_input():
    model = network(2)
    inputs = normal(1, 7, 9, 3)
    _, scores = metrics.insertion_curve(model, inputs, jnp.ones((1, 7, 9)), 2)
    blurred = metrics.blur(inputs)
    np.testing.assert_allclose(scores[:, 0], probability(model, blurred, [2]), rtol=1e-5)
    np.testing.assert_allclose(scores[:, -1], probability(model, inputs, [2]), rtol=1e-5)


def test_equal_pixels_are_read_in_order_or_drawn():
    seen = jnp.arange(100.0)[None, :, None]
    model = lambda x: (x.sum(1) / 100, x)  # noqa: E731
    plain = {"score": lambda outputs: outputs, "step": 10}
    flat = jnp.ones((1, 100))
    _, in_order = metrics.deletion_curve(model, seen, flat, 0, **plain)
    np.testing.assert_allclose(in_order[0, 1], (4950 - 45) / 100, rtol=1e-5)
    _, drawn = metrics.deletion_curve(model, seen, flat, 0, key=jax.random.key(0), **plain)
    assert abs(drawn[0, 5] - 24.75) < 6  # half the sum is left after half the pixels
    ordered = jnp.arange(100.0)[None] / 100
    _, a = metrics.deletion_curve(model, seen, ordered, 0, key=jax.random.key(0), **plain)
    _, b = metrics.deletion_curve(model, seen, ordered, 0, **plain)
    np.testing.assert_array_equal(a, b)


def test_options_do_not_change_the_result(image):
    model, inputs, heatmaps = image
    expected = metrics.deletion(model, inputs, heatmaps, step=0.1)
    by_ones = metrics.deletion(model, inputs, heatmaps, step=0.1, batch_size=1)
    np.testing.assert_allclose(by_ones, expected, rtol=1e-5)

    def channels_first(x):
        return jax.tree.map(
            lambda y: jnp.moveaxis(y, -1, 1) if y.ndim > 2 else y, model(jnp.moveaxis(x, 1, -1))
        )

    turned = metrics.deletion(
        channels_first, jnp.moveaxis(inputs, -1, 1), heatmaps, step=0.1, channel_axis=1
    )
    np.testing.assert_allclose(turned, expected, rtol=1e-5)
    jitted = jax.jit(lambda x, h: metrics.deletion(model, x, h, step=0.1))(inputs, heatmaps)
    np.testing.assert_allclose(jitted, expected, rtol=1e-5)


def test_a_mesh_shares_the_steps_of_a_curve(cpus):
    model, inputs, heatmaps = network(1), normal(2, 12, 3), uniform(2, 12)
    mesh = jax.sharding.Mesh(np.array(cpus[:3]), ("devices",))
    np.testing.assert_allclose(
        metrics.insertion(model, inputs, heatmaps, mesh=mesh),
        metrics.insertion(model, inputs, heatmaps),
        rtol=1e-5,
    )


@pytest.mark.usefixtures("cpus")
def test_the_masks_of_a_curve_never_exist_all_at_once():
    model = lambda x: (x.mean((1, 2)), x)  # noqa: E731

    def temporary_bytes(step):
        run = jax.jit(lambda x, h: metrics.deletion(model, x, h, 0, step=step, batch_size=2))
        x, h = jnp.ones((1, 128, 128, 3)), jnp.ones((1, 128, 128))
        return run.lower(x, h).compile().memory_analysis().temp_size_in_bytes

    few, many = temporary_bytes(0.1), temporary_bytes(0.005)
    assert many - few < 10 * 128 * 128 * 4  # ten masks; there are 190 more


@pytest.mark.parametrize("metric", ["adcc", "constant"])
def test_adcc_combines_correlation_size_and_drop(image, metric):
    model, inputs, heatmaps = image
    targets = best(model, inputs)

    def explain(x, t):
        if metric == "constant":
            return jnp.ones(x.shape[:-1])
        return score_cam(model, x, t).heatmap

    got = metrics.adcc(model, inputs, heatmaps, explain=explain)
    shown = inputs * heatmaps[..., None]
    again = np.asarray(explain(shown, jnp.asarray(targets)))
    p, o = probability(model, inputs, targets), probability(model, shown, targets)
    for index, heatmap in enumerate(np.asarray(heatmaps)):
        constant = metric == "constant"
        pearson = 0 if constant else np.corrcoef(heatmap.ravel(), again[index].ravel())[0, 1]
        drop = max(p[index] - o[index], 0) / p[index]
        parts = [(1 + pearson) / 2, 1 - heatmap.mean(), 1 - drop]
        np.testing.assert_allclose(got[index], 3 / sum(1 / part for part in parts), rtol=1e-4)


def test_adcc_of_a_map_of_ones_is_zero():
    model, inputs = network(1), jnp.ones((1, 12, 3))
    got = metrics.adcc(model, inputs, jnp.ones((1, 12)), explain=lambda x, t: jnp.ones((1, 12)))
    np.testing.assert_array_equal(got, 0)


def test_arcc_is_the_harmonic_mean_of_coherency_simplicity_and_twice_road():
    # The class is how bright the left half is.
    model = lambda x: (jnp.stack([x[:, :, :8].mean((1, 2, 3)), jnp.zeros(len(x))], 1), x)  # noqa: E731
    left = jnp.arange(16)[None, None, :, None] < 8
    inputs = jnp.where(left, 4.0, 0.0) + uniform(2, 16, 16, 1)
    heatmaps = uniform(2, 16, 16) * 0.1 + jnp.stack([left[0, ..., 0], ~left[0, ..., 0]]) * 0.8
    explain, key = (lambda x, t: x[..., 0]), jax.random.key(1)
    got = metrics.arcc(model, inputs, heatmaps, 0, explain=explain, key=key, fractions=(0.5,))
    removal = metrics.road(model, inputs, heatmaps, 0, key=key, fractions=(0.5,))
    again = np.asarray(inputs[..., 0] * heatmaps)[0]
    coherency = (1 + np.corrcoef(heatmaps[0].ravel(), again.ravel())[0, 1]) / 2
    parts = [coherency, 1 - heatmaps[0].mean(), 2 * removal[0]]
    assert 0.05 < removal[0] < 0.5
    np.testing.assert_allclose(got[0], 3 / sum(1 / part for part in parts), rtol=1e-4)
    assert removal[1] < 0  # the wrong half
    assert got[1] == 0


def test_road_is_the_halved_difference_of_two_orders(case):
    model, inputs, heatmaps = case
    targets, fractions = np.array([1, 2]), (0.25, 0.5)
    got = metrics.road(
        model, inputs, heatmaps, targets, key=jax.random.key(0), fractions=fractions, noise=0
    )
    total = 0
    for fraction in fractions:
        count = round(fraction * heatmaps[0].size)
        for sign, maps in ((-1, heatmaps), (1, -heatmaps)):
            order = np.argsort(-np.asarray(maps).reshape(2, -1), axis=1)
            shown = np.ones((2, heatmaps[0].size), bool)
            np.put_along_axis(shown, order[:, :count], False, axis=1)
            filled = metrics.impute(
                inputs, jnp.asarray(shown.reshape(heatmaps.shape)), key=jax.random.key(1), noise=0
            )
            total = total + sign * probability(model, filled, targets)
    np.testing.assert_allclose(got, total / 4, rtol=1e-3, atol=1e-5)


def test_road_tells_the_right_map_from_the_wrong_one():
    """The class is how bright the left half is: only that half matters."""
    model = lambda x: (jnp.stack([x[:, :, :8].mean((1, 2, 3)), jnp.zeros(len(x))], 1), x)  # noqa: E731
    noise = uniform(1, 16, 16, 1)
    inputs = jnp.where(jnp.arange(16)[None, None, :, None] < 8, 4 + noise, noise)
    left = jnp.broadcast_to(1 - jnp.arange(16.0) / 16, (1, 16, 16))
    right, key = 1 - left, jax.random.key(1)
    assert metrics.road(model, inputs, left, 0, key=key)[0] > 0.05
    assert metrics.road(model, inputs, right, 0, key=key)[0] < -0.05


def test_what_does_not_fit_is_refused():
    model, inputs = network(2), jnp.ones((2, 7, 9, 3))
    with pytest.raises(ValueError, match=r"heatmaps have shape \(2, 9, 7\), wanted \(2, 7, 9\)"):
        metrics.average_drop(model, inputs, jnp.ones((2, 9, 7)))
    with pytest.raises(ValueError, match="one class per input"):
        metrics.average_drop(model, inputs, jnp.ones((2, 7, 9)), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="not all classes"):
        metrics.deletion(model, inputs, jnp.ones((2, 7, 9)), 4)
    for step in (0, 0.0, 1.0, 64):
        with pytest.raises(ValueError, match="step is"):
            metrics.insertion(model, inputs, jnp.ones((2, 7, 9)), step=step)
    with pytest.raises(ValueError, match="fractions are"):
        metrics.road(
            model, inputs, jnp.ones((2, 7, 9)), key=jax.random.key(0), fractions=(0.5, 1.0)
        )


@pytest.mark.parametrize("metric", [metrics.average_drop, metrics.insertion])
def test_scores_that_depend_on_the_other_images_are_refused(image, metric):
    model, inputs, heatmaps = image

    def of_a_batch(x):
        outputs, activations = model(x)
        return outputs - outputs.mean(0, keepdims=True), activations

    assert metric(model, inputs, heatmaps).shape == (2,)
    with pytest.raises(ValueError, match="depend on the images that are beside it"):
        metric(of_a_batch, inputs, heatmaps)
