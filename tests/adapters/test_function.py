"""Plain functions, whose layers are what `checkpoint_name` names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from scorecam_jax import score_cam
from scorecam_jax.adapters import from_function, list_layers

COUNT, WIDTH = 4, 6
TRACES: list[tuple[int, ...]] = []
IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
KEYS = jax.random.split(jax.random.key(0), 3)
PARAMS = {
    "stem": jax.random.normal(KEYS[0], (3, WIDTH)),
    "blocks": 0.5 * jax.random.normal(KEYS[1], (COUNT, WIDTH, WIDTH)),
    "head": jax.random.normal(KEYS[2], (WIDTH, 5)),
}


def block(x, kernel):
    inner = checkpoint_name(jnp.tanh(x @ kernel), "block/inner")
    return checkpoint_name(x + inner + x.mean((1, 2), keepdims=True), "block")


def looped(params, x):
    x = checkpoint_name(x @ params["stem"], "stem")
    for kernel in params["blocks"]:
        x = block(x, kernel)
    return x.mean((1, 2)) @ params["head"]


def scanned(params, x, reverse=False, wrap=lambda f: f):
    x = checkpoint_name(x @ params["stem"], "stem")
    kernels = params["blocks"][::-1] if reverse else params["blocks"]

    def step(x, kernel):
        return block(x, kernel), x.mean()

    x, means = jax.lax.scan(wrap(step), x, kernels, reverse=reverse)
    means = means[::-1] if reverse else means
    return x.mean((1, 2)) @ params["head"] + (0 * means[0] if reverse else 0)


def by_hand(index, edit=lambda x: x):
    """Outputs and the activations of one block."""
    x = IMAGES @ PARAMS["stem"]
    for number, kernel in enumerate(PARAMS["blocks"]):
        x = x + jnp.tanh(x @ kernel) + x.mean((1, 2), keepdims=True)
        if number == index % COUNT:
            x = shown = edit(x)
    return x.mean((1, 2)) @ PARAMS["head"], shown


FUNCTIONS = {
    "loop": looped,
    "scan": scanned,
    "reverse": lambda params, x: scanned(params, x, reverse=True),
    "checkpoint": lambda params, x: scanned(params, x, wrap=jax.checkpoint),
    "jit": lambda params, x: jax.jit(scanned)(params, x),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("index", [0, 2, -1])
def test_each_run_of_a_layer_is_read_and_edited(kind, index):
    model = from_function(FUNCTIONS[kind], PARAMS, f"block[{index}]")
    outputs, activations = model(IMAGES)
    expected, shown = by_hand(index)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(activations, shown, rtol=1e-4, atol=1e-4)

    edited, _ = jax.jit(lambda x: model(x, edit=jnp.abs))(IMAGES)
    np.testing.assert_allclose(edited, by_hand(index, jnp.abs)[0], rtol=1e-4, atol=1e-4)

    def outputs_by(run):
        return jax.jit(jax.grad(lambda step: run(lambda a: a * (1 + step))[0].sum()))(0.0)

    slope = outputs_by(lambda edit: model(IMAGES, edit=edit))
    np.testing.assert_allclose(slope, outputs_by(lambda edit: by_hand(index, edit)), rtol=1e-3)


@pytest.mark.parametrize("kind", ["loop", "scan"])
def test_the_default_is_the_last_run(kind):
    model = from_function(FUNCTIONS[kind], PARAMS)
    np.testing.assert_allclose(model(IMAGES)[1], by_hand(-1)[1], rtol=1e-4, atol=1e-4)
    last = list_layers(model, IMAGES)[-1]
    assert (last.path, last.cut, last.alive, last.grid) == ("block[-1]", True, True, (8, 8))


def test_indices_are_written_at_any_name():
    for name in ("block[1]/inner", "block/inner[1]", "block[-3]/inner"):
        shown = from_function(scanned, PARAMS, name)(IMAGES)[1]
        np.testing.assert_allclose(
            shown, jnp.tanh(by_hand(0)[1] @ PARAMS["blocks"][1]), rtol=1e-4, atol=1e-5
        )


def test_a_run_that_is_not_there_is_an_error_that_says_how_many_are():
    for name in ("block", "block[4]", "block[-5]"):
        with pytest.raises(ValueError, match=r"runs inside scan .*\(4 runs\).* 'block\[-1\]'"):
            from_function(scanned, PARAMS, name)(IMAGES)
    with pytest.raises(ValueError, match=r"no layer 'blocks' .* Nearest: 'block"):
        from_function(scanned, PARAMS, "blocks")(IMAGES)


def test_scans_within_scans():
    def network(params, x):
        x = x @ params["stem"]

        def outer(x, kernels):
            return jax.lax.scan(lambda x, kernel: (block(x, kernel), None), x, kernels)[0], None

        x, _ = jax.lax.scan(outer, x, params["blocks"].reshape(2, 2, WIDTH, WIDTH))
        return x.mean((1, 2)) @ params["head"]

    for name, index in {"block[1][0]": 2, "block[0][-1]": 1, "block[-1][1]": 3}.items():
        outputs, shown = from_function(network, PARAMS, name)(IMAGES)
        expected = by_hand(index)
        np.testing.assert_allclose(outputs, expected[0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(shown, expected[1], rtol=1e-4, atol=1e-4)


def test_weights_are_arguments_and_one_program_serves_all_calls():
    def network(params, x, scale, power=1):
        TRACES.append(x.shape)
        x = checkpoint_name(jax.nn.relu(x @ params["stem"]) * scale, "stem")
        return (x**power).mean((1, 2)) @ params["head"]

    run = jax.jit(lambda model, x: model(x))
    for scale in (1.0, 2.0):
        model = from_function(network, PARAMS, None, jnp.array(scale), power=2)
        outputs, activations = run(model, IMAGES)
        expected = scale * jax.nn.relu(IMAGES @ PARAMS["stem"])
        np.testing.assert_allclose(activations, expected, rtol=1e-5)
        np.testing.assert_allclose(
            outputs, (expected**2).mean((1, 2)) @ PARAMS["head"], rtol=1e-5, atol=1e-5
        )
    assert len(TRACES) == 1
    edit = jax.jit(lambda model, x: model(x, edit=lambda a: 2 * a)[0])
    np.testing.assert_allclose(edit(model, IMAGES), 4 * outputs, rtol=1e-5, atol=1e-5)
    assert len(TRACES) == 1


def test_a_heatmap_of_a_plain_function():
    explanation = score_cam(from_function(scanned, PARAMS), IMAGES)
    assert explanation.heatmap.shape == IMAGES.shape[:3]
    assert explanation.weights.shape == (2, WIDTH)
