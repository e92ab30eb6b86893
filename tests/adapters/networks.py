"""One tiny network, in NumPy and with the same weights in every framework.

Two blocks of 3x3 convolution, batch norm and ReLU; the mean over space; dropout; a dense layer.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scorecam_jax.adapters import from_equinox, from_haiku, from_keras, from_linen, from_nnx

WIDTHS = (3, 4, 6)
CLASSES = 5
EPSILON = 1e-5


class BlockWeights(NamedTuple):
    kernel: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def make_weights() -> tuple[list[BlockWeights], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    blocks = []
    for inputs, outputs in itertools.pairwise(WIDTHS):
        norm = (
            1 + 0.1 * normal(outputs),
            normal(outputs),
            normal(outputs),
            1 + normal(outputs) ** 2,
        )
        blocks.append(BlockWeights(0.3 * normal(3, 3, inputs, outputs), normal(outputs), *norm))
    return blocks, normal(WIDTHS[-1], CLASSES), normal(CLASSES)


BLOCKS, HEAD, BIAS = make_weights()


def reference_block(x: np.ndarray, w: BlockWeights, tap: Any = 0.0) -> np.ndarray:
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    x = np.einsum("nhwcij,ijck->nhwk", windows, w.kernel) + w.bias + tap
    return np.maximum((x - w.mean) / np.sqrt(w.variance + EPSILON) * w.scale + w.shift, 0)


def reference_activations(x: np.ndarray, tap: Any = 0.0) -> np.ndarray:
    """The last block's output, with `tap` added to the first convolution's."""
    first = reference_block(x.astype(np.float64), BLOCKS[0], tap)
    return reference_block(first, BLOCKS[1])


def reference_head(activations: np.ndarray) -> np.ndarray:
    return activations.mean((1, 2)) @ HEAD + BIAS


class Network(NamedTuple):
    """The network in one framework.

    Attributes:
        adapt: `(layer, **options) -> Model`.
        predict: the framework's own forward pass, in its own layout.
        state: () -> the contents of the user's model, as (repr, leaves).
        channel_axis: the channel axis of inputs and activations.
    """

    adapt: Callable[..., Any]
    predict: Callable[[jax.Array], jax.Array]
    state: Callable[[], Any]
    channel_axis: int

    def native(self, array: Any) -> jax.Array:
        return jnp.moveaxis(jnp.asarray(array, jnp.float32), -1, self.channel_axis)

    def channels_last(self, array: Any) -> np.ndarray:
        return np.moveaxis(np.asarray(array), self.channel_axis, -1)


class LinenBlock(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(self.width, (3, 3), name="conv")(x)
        return nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))


class LinenNetwork(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        x = LinenBlock(WIDTHS[1], name="first")(x, train)
        x = LinenBlock(WIDTHS[2], name="last")(x, train).mean((1, 2))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(CLASSES, name="head")(x)


def linen() -> Network:
    module = LinenNetwork()
    params, stats = {"head": {"kernel": jnp.array(HEAD), "bias": jnp.array(BIAS)}}, {}
    for name, w in zip(("first", "last"), BLOCKS, strict=True):
        params[name] = {
            "conv": {"kernel": jnp.array(w.kernel), "bias": jnp.array(w.bias)},
            "norm": {"scale": jnp.array(w.scale), "bias": jnp.array(w.shift)},
        }
        stats[name] = {"norm": {"mean": jnp.array(w.mean), "var": jnp.array(w.variance)}}
    variables = {"params": params, "batch_stats": stats}
    return Network(
        lambda layer, **options: from_linen(module, variables, layer, train=False, **options),
        lambda x: module.apply(variables, x, train=False),
        lambda: (repr(module), variables),
        -1,
    )


class NnxBlock(nnx.Module):
    def __init__(self, w: BlockWeights, rngs: nnx.Rngs):
        inputs, outputs = w.kernel.shape[2:]
        self.conv = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(outputs, rngs=rngs)
        self.conv.kernel.set_value(jnp.array(w.kernel))
        self.conv.bias.set_value(jnp.array(w.bias))
        self.norm.scale.set_value(jnp.array(w.scale))
        self.norm.bias.set_value(jnp.array(w.shift))
        self.norm.mean.set_value(jnp.array(w.mean))
        self.norm.var.set_value(jnp.array(w.variance))

    def __call__(self, x):
        return nnx.relu(self.norm(self.conv(x)))


class NnxNetwork(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first = NnxBlock(BLOCKS[0], rngs)
        self.last = NnxBlock(BLOCKS[1], rngs)
        self.dropout = nnx.Dropout(0.5)
        self.head = nnx.Linear(WIDTHS[-1], CLASSES, rngs=rngs)
        self.head.kernel.set_value(jnp.array(HEAD))
        self.head.bias.set_value(jnp.array(BIAS))

    def __call__(self, x):
        x = self.last(self.first(x)).mean((1, 2))
        return self.head(self.dropout(x))


def nnx_() -> Network:
    model = NnxNetwork(nnx.Rngs(0))
    return Network(
        lambda layer, **options: from_nnx(model, layer, **options),
        lambda x: nnx.view(model, deterministic=True, use_running_average=True)(x),
        lambda: tuple(nnx.split(model)),
        -1,
    )


class EquinoxBlock(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm

    def __init__(self, w: BlockWeights, key: jax.Array):
        inputs, outputs = w.kernel.shape[2:]
        conv = eqx.nn.Conv2d(inputs, outputs, 3, padding=1, key=key)
        values = jnp.array(w.kernel.transpose(3, 2, 0, 1)), jnp.array(w.bias)[:, None, None]
        self.conv = eqx.tree_at(lambda conv: (conv.weight, conv.bias), conv, values)
        norm = eqx.nn.BatchNorm(outputs, "batch", EPSILON, mode="ema")
        values = jnp.array(w.scale), jnp.array(w.shift)
        self.norm = eqx.tree_at(lambda norm: (norm.weight, norm.bias), norm, values)

    def __call__(self, x, state):
        x, state = self.norm(self.conv(x), state)
        return jax.nn.relu(x), state


class EquinoxNetwork(eqx.Module):
    first: EquinoxBlock
    last: EquinoxBlock
    dropout: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array):
        self.first, self.last = (EquinoxBlock(w, key) for w in BLOCKS)
        self.dropout = eqx.nn.Dropout(0.5)
        head = eqx.nn.Linear(WIDTHS[-1], CLASSES, key=key)
        values = jnp.array(HEAD.T), jnp.array(BIAS)
        self.head = eqx.tree_at(lambda head: (head.weight, head.bias), head, values)

    def __call__(self, x, state):
        x, state = self.first(x, state)
        x, state = self.last(x, state)
        return self.head(self.dropout(x.mean((1, 2)))), state


def equinox() -> Network:
    model, state = eqx.nn.make_with_state(EquinoxNetwork)(jax.random.key(0))
    for block, w in zip((model.first, model.last), BLOCKS, strict=True):
        statistics = jnp.array(w.mean), jnp.array(w.variance)
        state = state.set(block.norm.ema_state_index, statistics)
        state = state.set(block.norm.ema_first_time_index, jnp.array(False))
    return Network(
        lambda layer, **options: from_equinox(model, layer, state=state, **options),
        lambda x: jax.vmap(lambda x: eqx.nn.inference_mode(model)(x, state)[0])(x),
        lambda: (repr(model), model, state),
        1,
    )


class HaikuBlock(hk.Module):
    def __init__(self, width: int, name: str):
        super().__init__(name=name)
        self.width = width

    def __call__(self, x, train):
        x = hk.Conv2D(self.width, 3, name="conv")(x)
        norm = hk.BatchNorm(True, True, 0.9, eps=EPSILON, name="norm")
        return jax.nn.relu(norm(x, is_training=train))


def haiku_forward(x, train=True):
    x = HaikuBlock(WIDTHS[1], "first")(x, train)
    x = HaikuBlock(WIDTHS[2], "last")(x, train).mean((1, 2))
    if train:
        x = hk.dropout(hk.next_rng_key(), 0.5, x)
    return hk.Linear(CLASSES, name="head")(x)


def haiku() -> Network:
    transformed = hk.transform_with_state(haiku_forward)
    params: dict = {"head": {"w": jnp.array(HEAD), "b": jnp.array(BIAS)}}
    state: dict = {}
    for name, w in zip(("first", "last"), BLOCKS, strict=True):
        broadcast = [jnp.array(v)[None, None, None] for v in w[2:]]
        params[f"{name}/conv"] = {"w": jnp.array(w.kernel), "b": jnp.array(w.bias)}
        params[f"{name}/norm"] = {"scale": broadcast[0], "offset": broadcast[1]}
        for key, value in zip(("mean_ema", "var_ema"), broadcast[2:], strict=True):
            average = {"counter": jnp.array(1), "hidden": value, "average": value}
            state[f"{name}/norm/~/{key}"] = average
    return Network(
        lambda layer, **options: from_haiku(
            transformed, params, layer, state=state, train=False, **options
        ),
        lambda x: transformed.apply(params, state, None, x, train=False)[0],
        lambda: (params, state),
        -1,
    )


def keras() -> Network:
    import keras

    def block(name: str, w: BlockWeights) -> Any:
        inputs = keras.Input((None, None, w.kernel.shape[2]))
        x = keras.layers.Conv2D(w.kernel.shape[3], 3, padding="same", name="conv")(inputs)
        x = keras.layers.BatchNormalization(epsilon=EPSILON, name="norm")(x)
        model = keras.Model(inputs, keras.layers.ReLU(name="relu")(x), name=name)
        model.set_weights(list(w))
        return model

    inputs = keras.Input((None, None, WIDTHS[0]))
    x = block("last", BLOCKS[1])(block("first", BLOCKS[0])(inputs))
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    head = keras.layers.Dense(CLASSES, name="head")
    model = keras.Model(inputs, head(x))
    head.set_weights([HEAD, BIAS])
    return Network(
        lambda layer, **options: from_keras(model, layer, **options),
        lambda x: model(x, training=False),
        lambda: (
            [(type(layer), layer.get_config()) for layer in model._flatten_layers()],
            [variable.value for variable in model.variables],
        ),
        -1,
    )


NETWORKS = {"linen": linen, "nnx": nnx_, "equinox": equinox, "haiku": haiku, "keras": keras}
