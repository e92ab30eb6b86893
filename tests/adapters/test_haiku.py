import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax.adapters import from_haiku, list_layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, 3)), jnp.float32)


def transform(forward, **options):
    transformed = hk.without_apply_rng(hk.transform(forward))
    return transformed, transformed.init(jax.random.key(0), IMAGES, **options)


def test_with_and_without_a_random_key():
    def forward(x):
        x = hk.Conv2D(4, 3, name="conv")(x)
        return hk.dropout(hk.next_rng_key(), 0.5, x).mean((1, 2))

    transformed = hk.transform(forward)
    params = transformed.init(jax.random.key(0), IMAGES)
    key = jax.random.key(1)
    outputs, _ = from_haiku(transformed, params, "conv", rng=key)(IMAGES)
    np.testing.assert_allclose(outputs, transformed.apply(params, key, IMAGES), atol=1e-6)
    with pytest.raises(ValueError, match="non-None PRNGKey"):
        from_haiku(transformed, params, "conv")(IMAGES)


def test_names_are_those_of_the_parameters():
    class Block(hk.Module):
        def __init__(self, name):
            super().__init__(name=name)
            self.conv = hk.Conv2D(4, 3, name="conv")

        def __call__(self, x):
            return jax.nn.relu(self.conv(x))

    transformed, params = transform(
        lambda x, scale: Block("block")(x).mean((1, 2)) * scale, scale=2.0
    )
    assert list(params) == ["block/~/conv"]
    model = from_haiku(transformed, params, "block/~/conv", scale=2.0)
    assert [layer.path for layer in list_layers(model, IMAGES)] == ["block/~/conv", "block"]
    outputs, activations = model(IMAGES)
    np.testing.assert_allclose(outputs, 2 * jax.nn.relu(activations).mean((1, 2)), atol=1e-6)
    with pytest.raises(ValueError, match="Nearest: 'block/~/conv'"):
        from_haiku(transformed, params, "block/conv", scale=2.0)(IMAGES)


def test_layers_inside_remat_are_read_and_edited():
    def forward(x):
        return jax.nn.relu(hk.remat(hk.Conv2D(4, 3, name="conv"))(x)).mean((1, 2))

    transformed, params = transform(forward)
    model = from_haiku(transformed, params, "conv")
    outputs, activations = model(IMAGES)
    np.testing.assert_allclose(outputs, transformed.apply(params, IMAGES), atol=1e-6)
    np.testing.assert_allclose(outputs, jax.nn.relu(activations).mean((1, 2)), atol=1e-6)
    assert not model(IMAGES, edit=lambda a: -jnp.abs(a))[0].any()


def test_layers_inside_scan_say_so():
    def forward(x):
        conv = hk.Conv2D(3, 3, name="conv")
        conv(x)
        return hk.scan(lambda x, _: (conv(x), None), x, None, length=2)[0].mean((1, 2))

    transformed, params = transform(forward)
    with pytest.raises(ValueError, match="'conv' runs inside scan"):
        from_haiku(transformed, params, "conv")(IMAGES)


def test_blocks_of_layer_stack_are_named_with_the_run():
    def forward(x):
        @hk.layer_stack(3)
        def block(x):
            return x + jax.nn.relu(hk.Conv2D(3, 3, name="conv")(x))

        return hk.Linear(4)(block(x).mean((1, 2)))

    transformed, params = transform(forward)
    (weights,) = (value for name, value in params.items() if "conv" in name)
    blocks = [IMAGES]
    for w, b in zip(weights["w"], weights["b"], strict=True):
        conv = jax.lax.conv_general_dilated(
            blocks[-1], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        blocks.append(blocks[-1] + jax.nn.relu(conv + b[None, None, None]))
    outputs, activations = from_haiku(transformed, params)(IMAGES)
    np.testing.assert_allclose(outputs, transformed.apply(params, IMAGES), atol=1e-5)
    np.testing.assert_allclose(activations, blocks[-1], rtol=1e-4, atol=1e-5)
    for index in range(3):
        named = from_haiku(transformed, params, f"conv[{index}]:relu")
        expected = blocks[index + 1] - blocks[index]
        np.testing.assert_allclose(named(IMAGES)[1], expected, rtol=1e-4, atol=1e-5)


def test_calling_super_is_one_call():
    class Doubled(hk.Conv2D):
        def __call__(self, x):
            return 2 * super().__call__(x)

    transformed, params = transform(lambda x: Doubled(4, 3, name="conv")(x).mean((1, 2)))
    outputs, activations = from_haiku(transformed, params, "conv")(IMAGES)
    np.testing.assert_allclose(outputs, activations.mean((1, 2)), atol=1e-6)
