"""The layer that is explained where none is named."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scorecam_jax import score_cam
from scorecam_jax.adapters import from_function, from_linen, from_nnx, list_layers

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)


def init(module, inputs=IMAGES):
    return jax.jit(module.init)(jax.random.key(0), inputs)


def default(module, inputs=IMAGES, **options):
    """What `layer=None` shows, and which of the listed layers that is."""
    variables = init(module, inputs)
    model = from_linen(module, variables, **options)
    shown = model(inputs)[1]
    alike = []
    for layer in list_layers(model, inputs):
        try:
            named = from_linen(module, variables, layer.path, **options)(inputs)[1]
        except ValueError:
            continue
        if named.shape == shown.shape and np.allclose(named, shown, atol=1e-6):
            alike.append(layer.path)
    return shown, alike


class Head(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(5)(x)


class Transformer(nn.Module):
    """Written inline: no module returns the residual stream. As wide as it has tokens."""

    pool: str = "class token"

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (4, 4), strides=4, name="patch")(x).reshape(len(x), -1, 16)
        if self.pool == "class token":
            token = self.param("token", nn.initializers.normal(1.0), (1, 1, 16))
            x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, 16)), x], 1)
        for i in range(2):
            x = x + nn.MultiHeadDotProductAttention(2, name=f"attention{i}")(
                nn.LayerNorm(name=f"norm{i}")(x)
            )
            x = x + nn.Dense(16)(nn.gelu(nn.Dense(8)(nn.LayerNorm(name=f"second{i}")(x))))
        x = nn.LayerNorm(name="final")(x)
        return Head()(x[:, 0] if self.pool == "class token" else x.mean(1))


@pytest.mark.slow
@pytest.mark.parametrize(("pool", "expected"), [("class token", "norm1"), ("mean", "final")])
def test_tokens_that_the_outputs_depend_on_bring_their_grid_along(pool, expected):
    shown, alike = default(Transformer(pool))
    assert shown.shape == (2, 4, 4, 16)
    assert alike == [expected]


def test_a_map_of_a_transformer_needs_neither_layer_nor_grid():
    module = Transformer()
    model = from_linen(module, init(module))
    explanation = jax.jit(score_cam)(model, IMAGES)
    assert explanation.heatmap.shape == IMAGES.shape[:3]
    assert explanation.heatmap.max() == 1


class NetworkInNetwork(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), strides=2, name="features")(x))
        return nn.Conv(5, (1, 1), name="classes")(x).mean((1, 2))


def test_class_maps_that_are_only_averaged_are_not_explained():
    shown, alike = default(NetworkInNetwork())
    assert alike == ["features:relu"]
    assert shown.min() == 0


class Segmentation(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.silu(nn.Conv(8, (3, 3), strides=2, name="encoder")(x))
        x = nn.gelu(nn.ConvTranspose(8, (3, 3), strides=(2, 2), name="decoder")(x))
        return nn.Conv(4, (1, 1), name="logits")(x)


def test_a_segmentation_is_explained_where_places_are_mixed_for_the_last_time():
    _, alike = default(Segmentation())
    assert alike == ["encoder:silu"]


class Residual(nn.Module):
    """Blocks written inline: where their paths meet is a sum, and its rectification."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="stem")(x))
        for i in range(2):
            y = nn.relu(nn.Conv(4, (3, 3), name=f"first{i}")(x))
            x = nn.relu(x + nn.Conv(4, (3, 3), name=f"second{i}")(y))
        return Head()(x.mean((1, 2)))


def test_where_paths_meet_is_explained_and_not_one_of_them():
    _, alike = default(Residual())
    assert alike == ["second1:add:relu"]


class Unnamed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), name="stem")(x)
        y = nn.Conv(4, (3, 3), name="branch")(x)
        x = jnp.where(y > 0, x * y, nn.Conv(4, (3, 3), name="other")(x))
        return Head()(x.mean((1, 2)))


def test_paths_that_meet_in_no_layer_are_an_error_that_says_where():
    module = Unnamed()
    with pytest.raises(ValueError, match=r"'stem' .* part and meet again .* around 'other'"):
        from_linen(module, init(module))(IMAGES)


def test_with_nothing_to_explain_the_error_says_what_each_layer_lacks():
    class Pooled(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(5, (3, 3), name="classes")(x)
            return nn.sigmoid(x.mean((1, 2)))

    module = Pooled()
    with pytest.raises(ValueError, match=r"'classes' \(2, 16, 16, 5\): no weights after it"):
        from_linen(module, init(module))(IMAGES)
    module = Head()
    with pytest.raises(ValueError, match=r"'Dense_0' \(2, 16, 16, 5\): places are not mixed"):
        from_linen(module, init(module))(IMAGES)


@pytest.mark.parametrize("spatial", [(16,), (8, 6, 4)])
def test_signals_and_volumes(spatial):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3,) * len(spatial), strides=2, name="features")(x))
            return Head()(x.mean(tuple(range(1, x.ndim - 1))))

    inputs = jnp.ones((2, *spatial, 3)).at[:, 1].set(0)
    shown, alike = default(Network(), inputs)
    assert shown.shape == (2, *(size // 2 for size in spatial), 4)
    assert alike == ["features:relu"]


class ChannelsFirst(nnx.Module):
    """Takes channels first and computes channels last."""

    def __init__(self, tokens):
        rngs = nnx.Rngs(0)
        self.patch = nnx.Conv(3, 8, (4, 4), strides=4, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, 5, rngs=rngs)
        self.tokens = tokens

    def __call__(self, x):
        x = self.patch(jnp.moveaxis(x, 1, -1))
        if self.tokens:
            x = x.reshape(len(x), -1, 8)
        return self.head(nnx.gelu(self.norm(x)).mean(tuple(range(1, x.ndim - 1))))


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("layer", [None, "norm:gelu"])
def test_activations_have_their_channels_where_the_image_has_them(tokens, layer):
    images = jnp.moveaxis(IMAGES, -1, 1)
    network = ChannelsFirst(tokens)
    model = from_nnx(network, layer, channel_axis=1)
    outputs, activations = model(images)
    assert model.channel_axis == 1
    expected = nnx.gelu(network.norm(network.patch(IMAGES)))
    np.testing.assert_allclose(activations, jnp.moveaxis(expected, -1, 1), atol=1e-6)
    edited, _ = model(images, edit=lambda a: a.at[:, :4].set(0))
    half = network.head(expected.at[..., :4].set(0).mean((1, 2)))
    np.testing.assert_allclose(edited, half, atol=1e-5)
    np.testing.assert_allclose(outputs, network(images), atol=1e-6)


@pytest.mark.parametrize("options", [{"grid": (4, 4)}, {}])
def test_a_forgotten_channel_axis_is_an_error(options):
    images, network = jnp.moveaxis(IMAGES, -1, 1), ChannelsFirst(tokens=bool(options))
    for layer in ("norm", "norm:gelu"):
        with pytest.raises(ValueError, match=r"\(4, 4\) like the .* channel_axis=1 to the adapter"):
            from_nnx(network, layer, **options)(images)


def test_outputs_that_the_score_does_not_read_do_not_count():
    def network(params, x):
        from jax.ad_checkpoint import checkpoint_name

        early = checkpoint_name(x @ params["first"], "early")
        late = checkpoint_name(jax.nn.relu(early @ params["second"]), "late")
        return {"aux": early.mean((1, 2)), "logits": late.mean((1, 2)) @ params["head"]}

    key = jax.random.split(jax.random.key(0), 3)
    shapes = {"first": (3, 4), "second": (4, 6), "head": (6, 5)}
    params = {
        name: jax.random.normal(k, shape)
        for k, (name, shape) in zip(key, shapes.items(), strict=True)
    }
    model = from_function(network, params)
    assert model(IMAGES)[1].shape == (2, 16, 16, 4)
    followed = model.follow_score(lambda outputs: outputs["logits"], IMAGES)
    assert followed(IMAGES)[1].shape == (2, 16, 16, 6)
    named = from_function(network, params, "early")
    assert named.follow_score(lambda outputs: outputs["logits"], IMAGES) is named


def test_a_function_that_does_not_follow_is_an_error_that_says_what_does():
    module = NetworkInNetwork()
    with pytest.raises(ValueError, match=r"not directly followed by gelu: .* 'features:relu'"):
        from_linen(module, init(module), "features:gelu")(IMAGES)
    with pytest.raises(ValueError, match="'classes' is not directly followed by relu: no function"):
        from_linen(module, init(module), "classes:relu")(IMAGES)


ACTIVATIONS = ["relu", "relu6", "silu", "gelu", "elu", "leaky_relu", "softplus", "sigmoid", "tanh"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nonlinearities_have_their_names(name):
    function = getattr(jax.nn, name)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Head()(function(nn.Conv(4, (3, 3), name="features")(x)).mean((1, 2)))

    shown, alike = default(Network())
    assert alike == [f"features:{name}"]
    conv = from_linen(Network(), init(Network()), "features")(IMAGES)[1]
    np.testing.assert_allclose(shown, function(conv), atol=1e-6)
