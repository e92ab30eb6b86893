import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.adapters import from_equinox


@pytest.mark.parametrize(
    ("rank", "options", "transform"),
    [
        (1, {"padding": "SAME"}, lambda f: f),
        (2, {"groups": 2}, eqx.filter_jit),
        (2, {"stride": (2, 1), "dilation": 2, "padding": ((1, 2), (0, 1))}, eqx.filter_checkpoint),
        (3, {}, lambda f: f),
    ],
)
def test_channels_first_convolutions_run_channels_last_on_a_cpu(rank, options, transform):
    kind = (eqx.nn.Conv1d, eqx.nn.Conv2d, eqx.nn.Conv3d)[rank - 1]
    conv = kind(4, 6, 3, key=jax.random.key(0), **options)
    model = eqx.nn.Sequential([eqx.nn.Lambda(transform(conv))])
    x = jax.random.normal(jax.random.key(1), (2, 4, *(7, 6, 5)[:rank]))
    adapted = from_equinox(model, "layers/0")

    def plain(x):
        return jax.vmap(conv)(x)

    np.testing.assert_allclose(jax.jit(adapted)(x)[0], jax.jit(plain)(x), atol=1e-5)
    gradients = [
        jax.jit(jax.grad(lambda x, f=f: (f(x) ** 2).sum()))
        for f in (plain, lambda x: adapted(x)[0])
    ]
    np.testing.assert_allclose(gradients[1](x), gradients[0](x), rtol=1e-4, atol=1e-4)

    first = f"[b, f, {', '.join(map(str, range(rank)))}]x"
    lowered = jax.jit(adapted).trace(x).lower
    assert first in jax.jit(plain).lower(x).as_text()
    assert first not in lowered(lowering_platforms=("cpu",)).as_text()
    assert first in lowered(lowering_platforms=("cuda",)).as_text()


def test_transposed_convolutions():
    model = eqx.nn.Sequential([eqx.nn.ConvTranspose2d(3, 4, 3, 2, key=jax.random.key(0))])
    x = jnp.ones((2, 3, 5, 4)).at[:, :, 1].set(2)
    np.testing.assert_allclose(from_equinox(model, "layers/0")(x)[0], jax.vmap(model)(x), atol=1e-5)
