import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.program.hoist import hoist

WEIGHTS = {"kernel": jnp.arange(12.0).reshape(3, 4) / 7, "bias": jnp.arange(4.0)}
X = jnp.linspace(-1, 1, 15).reshape(5, 3)


def plain(weights, x, scale):
    return {"y": jnp.tanh(x @ jnp.sin(weights["kernel"]) * scale + weights["bias"][None])}


def jitted(weights, x, scale):
    return jax.jit(plain)(weights, x, scale)


def jitted_twice(weights, x, scale):
    """One traced program, called with weights and with inputs."""
    double = jax.jit(lambda x: 2 * x)
    return {"y": double(x) @ double(weights["kernel"]) * scale}


def with_consts(weights, x, scale):
    return {"y": x @ (weights["kernel"] * np.arange(3.0, dtype="f")[:, None]) * scale}


def with_a_branch(weights, x, scale):
    return {"y": jax.lax.cond(scale > 0, lambda w: x @ w, lambda w: -x @ w, weights["kernel"])}


def with_a_relu(weights, x, scale):
    return {"y": jax.nn.relu(x @ jax.nn.relu(weights["kernel"] - 0.5)) * scale}


@jax.custom_vjp
def product(x, kernel):
    return x @ kernel


product.defvjp(lambda x, kernel: (x @ kernel, kernel), lambda kernel, g: (g @ kernel.T, None))


def with_a_derivative_of_its_own(weights, x, scale):
    return {"y": jax.checkpoint(product)(x, product(jnp.eye(3), weights["kernel"])) * scale}


def with_a_loop(weights, x, scale):
    return {"y": jax.lax.fori_loop(0, 3, lambda i, y: y * scale, x @ weights["kernel"])}


@pytest.mark.parametrize(
    "function",
    [
        plain,
        jitted,
        jitted_twice,
        with_consts,
        with_a_branch,
        with_a_relu,
        with_a_derivative_of_its_own,
        with_a_loop,
    ],
)
def test_nothing_changes_but_the_order(function):
    shapes = jax.ShapeDtypeStruct((5, 3), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    run = hoist(function, WEIGHTS, *shapes)
    for scale in (jnp.float32(2), jnp.float32(-1)):
        expected = function(WEIGHTS, X, scale)
        np.testing.assert_allclose(run(X, scale)["y"], expected["y"], rtol=1e-6)


def operations(jaxpr):
    return [eqn.primitive.name for eqn in jaxpr.eqns]


@pytest.mark.parametrize("function", [plain, jitted])
def test_what_needs_only_weights_is_done_once(function):
    def looped(weights, xs):
        run = hoist(function, weights, xs[0], 2.0)
        return jax.lax.scan(lambda carry, x: (carry, run(x, 2.0)), None, xs)[1]

    program = jax.make_jaxpr(looped)(WEIGHTS, jnp.stack([X, X]))
    (loop,) = (eqn for eqn in program.eqns if eqn.primitive.name == "scan")
    assert operations(program.jaxpr).count("sin") == 1
    assert "sin" not in operations(loop.params["jaxpr"].jaxpr)
    assert "tanh" in operations(loop.params["jaxpr"].jaxpr)


def test_what_would_take_memory_stays_in_the_loop():
    def spread(weights, x):
        return x + jnp.broadcast_to(weights["bias"], (1000, 4))

    run = hoist(spread, WEIGHTS, jnp.zeros((1000, 4)))
    program = jax.make_jaxpr(run)(jnp.zeros((1000, 4)))
    assert max(const.size for const in program.consts) == 4


def test_a_callback_runs_each_time():
    seen = []

    def observed(weights, x):
        jax.debug.callback(lambda w: seen.append(float(w)), weights["bias"][1])
        return x

    run = hoist(observed, WEIGHTS, X)
    run(X), run(X)
    jax.effects_barrier()
    assert seen == [1.0, 1.0]


def test_derivatives_reach_the_weights():
    def loss(weights, run_later):
        run = hoist(plain, weights, X, 1.0) if run_later else lambda *args: plain(weights, *args)
        return run(X, 1.0)["y"].sum()

    ours, theirs = (jax.grad(loss)(WEIGHTS, later) for later in (True, False))
    for name, gradient in theirs.items():
        np.testing.assert_allclose(ours[name], gradient, rtol=1e-6)
