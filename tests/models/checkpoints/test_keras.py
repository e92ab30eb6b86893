"""Keras's files: of its own networks with random weights, against what Keras answers."""

import json
import zipfile

import jax
import numpy as np
import pytest

from scorecam_jax import models
from scorecam_jax.models.checkpoints import keras as keras_files

h5py = pytest.importorskip("h5py", reason="the extra h5 is not installed")

# Keras, about NumPy, when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(0)

# Of keras.applications: the name, the side, what it is here, and how photographs are prepared.
NETWORKS = {
    "ResNet50": ("resnet", 64, "resnet50"),
    "VGG16": ("vgg16", 224, "vgg16"),
    "EfficientNetB1": ("efficientnet", 75, "tf_efficientnet_b1"),
    "EfficientNetV2S": ("efficientnet_v2", 72, "tf_efficientnetv2_s"),
    "MobileNetV3Small": ("mobilenet_v3", 75, "tf_mobilenetv3_small_100"),
    "MobileNetV3Large": ("mobilenet_v3", 72, "tf_mobilenetv3_large_100"),
    "DenseNet121": ("densenet", 72, "densenet121"),
    "ConvNeXtTiny": ("convnext", 64, "convnext_tiny"),
}


@pytest.fixture
def keras(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with jax.numpy_rank_promotion("allow"):  # as Keras expects
        yield pytest.importorskip("keras")


def randomised(network):
    """All weights drawn anew, so that none is one or zero; those of photographs stay."""
    for weight in network.weights:
        kind, shape = weight.path.rpartition("/")[2], weight.shape
        if "normalization" in weight.path.split("/")[-2][:13] and kind in (
            "mean",
            "variance",
            "count",
        ):
            continue
        if len(shape) > 1:
            fan = np.prod(shape[:2] if kind == "kernel" and shape[-1] == 1 else shape[:-1])
            value = RNG.normal(0, fan**-0.5, shape)
        elif kind == "moving_variance":
            value = RNG.uniform(0.5, 2, shape)
        elif kind in ("bias", "beta", "moving_mean"):
            value = RNG.uniform(-0.2, 0.2, shape)
        else:
            value = RNG.uniform(0.5, 1, shape)
        weight.assign(value)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_keras(keras, tmp_path, name):
    module, side, found = NETWORKS[name]
    options = {"weights": None, "classes": 5, "classifier_activation": None}
    original = randomised(getattr(keras.applications, name)(input_shape=(side, side, 3), **options))
    original.save(tmp_path / "network.keras")
    classifier = models.load(weights=tmp_path / "network.keras")
    assert (classifier.name, classifier.input_size) == (found, (side, side))
    photographs = RNG.uniform(0, 255, (2, side, side, 3)).astype(np.float32)
    prepared = getattr(keras.applications, module).preprocess_input(photographs.copy())
    expected = np.asarray(original(prepared, training=False))
    way = classifier.preprocess
    inputs = (photographs - np.float32(way.mean)) / np.float32(way.std)
    logits, activations = jax.jit(lambda model, x: model(x))(classifier.model, inputs)
    assert activations.ndim == 4
    assert np.ptp(expected) > 0.02
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def older(path, weights, config=None):
    """A file as Keras 2 writes it; with a configuration, of a whole network."""
    with h5py.File(path, "w") as file:
        root = file
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
            root = file.create_group("model_weights")
        for name, values in weights.items():
            layer = name.rpartition("/")[0]
            group = root.require_group(layer)
            told = [each for each in weights if each.rpartition("/")[0] == layer]
            group.attrs["weight_names"] = [f"{each}:0" for each in told]
            group.create_dataset(f"{name}:0", data=values)
    return path


@pytest.fixture(scope="module")
def weights():
    """A convolution of each kind, a product and a batch norm, whose names hold a slash."""
    return {
        "Conv/kernel": RNG.normal(size=(3, 3, 4, 2)).astype("f4"),
        "block/depthwise/depthwise_kernel": RNG.normal(size=(3, 3, 4, 1)).astype("f4"),
        "head/kernel": RNG.normal(size=(4, 5)).astype("f4"),
        "head/bias": RNG.normal(size=5).astype("f4"),
        "norm/moving_mean": RNG.normal(size=2).astype("f4"),
    }


def test_the_older_form_is_read_with_pytorchs_axes(tmp_path, weights):
    for config in (None, {}):
        found = models.load_checkpoint(older(tmp_path / "old.h5", weights, config))
        conv, depthwise = weights["Conv/kernel"], weights["block/depthwise/depthwise_kernel"]
        for i, o in np.ndindex(4, 2):
            np.testing.assert_array_equal(found["Conv.weight"][o, i], conv[:, :, i, o])
        for c in range(4):
            expected = depthwise[:, :, c, 0]
            np.testing.assert_array_equal(found["block/depthwise.weight"][c, 0], expected)
        np.testing.assert_array_equal(found["head.weight"], weights["head/kernel"].T)
        np.testing.assert_array_equal(found["head.bias"], weights["head/bias"])
        np.testing.assert_array_equal(found["norm.running_mean"], weights["norm/moving_mean"])


def newer(path, kinds):
    """The weights of Keras 3: of each class of a layer, its name and its weights."""
    with h5py.File(path, "w") as file:
        for kind, (name, values) in kinds.items():
            group = file.create_group(f"layers/{kind}/vars")
            group.attrs["name"] = name
            for number, value in enumerate(values):
                group.create_dataset(str(number), data=np.asarray(value, "f4"))
    return path


def test_the_newer_form_is_read_alone_and_in_its_zip(tmp_path):
    kernel = RNG.normal(size=(2, 2, 3, 4)).astype("f4")
    kinds = {
        "conv2d_12": ("stem", [kernel, np.arange(4)]),
        "batch_normalization": ("bn", [np.ones(4), np.zeros(4), np.full(4, 2), np.full(4, 3)]),
        "normalization": ("normalization", [[1, 2, 3], [4, 9, 16], 0]),
    }
    alone = newer(tmp_path / "model.weights.h5", kinds)
    layers = [
        {"class_name": "InputLayer", "config": {"batch_shape": [None, 32, 48, 3]}},
        {"class_name": "Rescaling", "config": {"scale": 0.5, "offset": 1.0}},
        {"class_name": "Normalization", "config": {"name": "normalization", "mean": None}},
        {"class_name": "Conv2D", "config": {"name": "stem"}},
        {"class_name": "Rescaling", "config": {"scale": 9.0, "offset": 9.0}},
    ]
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
        archive.write(alone, "model.weights.h5")
    for path in (alone, tmp_path / "model.keras", tmp_path / "IN.H5", tmp_path / "IN.KERAS"):
        if path.stem == "IN":  # capitals
            original = alone if path.suffix == ".H5" else tmp_path / "model.keras"
            path.write_bytes(original.read_bytes())
        found = models.load_checkpoint(path)
        np.testing.assert_array_equal(found["stem.weight"], kernel.transpose(3, 2, 0, 1))
        np.testing.assert_array_equal(found["bn.running_var"], np.full(4, 3))
    told = keras_files.settings(tmp_path / "model.keras").preprocess
    assert told["size"] == (32, 48)
    values = np.arange(256)[:, None]
    expected = (values * 0.5 + 1 - [1, 2, 3]) / [2, 3, 4]
    np.testing.assert_allclose((values - told["mean"]) / told["std"], expected)


def test_efficientnets_weights_alone_tell_what_is_made_of_photographs(tmp_path):
    """Keras's own file has ImageNet's deviations as variances, and Keras divides twice."""
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    kinds = {"normalization": ("normalization", [mean, deviation, 0])}
    told = keras_files.settings(newer(tmp_path / "b0.weights.h5", kinds)).preprocess
    np.testing.assert_allclose(told["mean"], np.multiply(255, mean), rtol=1e-6)
    np.testing.assert_allclose(told["std"], np.multiply(255, deviation), rtol=1e-6)


def test_biases_and_epsilons_are_folded_into_batch_norms():
    named = ("conv.bias", "bn.running_mean", "bn.running_var", "bn.weight", "bn.bias")
    bias, mean, variance, weight, shift = RNG.uniform(0.1, 1, (5, 3))
    checkpoint = dict(zip(named, (bias, mean, variance, weight, shift), strict=True))
    found = keras_files.folded({f"a_{name}": value for name, value in checkpoint.items()})
    assert "a_conv.bias" not in found
    x = RNG.normal(size=(7, 3))
    expected = (x + bias - mean) / np.sqrt(variance + 1.001e-5) * weight + shift
    scale = weight / np.sqrt(found["a_bn.running_var"] + 1e-5)
    np.testing.assert_allclose((x - found["a_bn.running_mean"]) * scale + shift, expected)


def damaged(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda folder: damaged(folder / "a.h5", b"\x89HDF\r\n\x1a\n..."), "is not a Keras file"),
        (lambda folder: damaged(folder / "a.keras", b"PK"), r"damaged or truncated \(BadZip"),
        (lambda folder: older(folder / "a.h5", {}), "holds no weights of named Keras layers"),
        (lambda folder: compressed(folder / "a.h5"), "incomplete, or compressed"),
        (lambda folder: linked(folder / "a.h5"), "the weights 'a/kernel:0' are missing"),
    ],
)
def test_what_is_no_file_of_keras_is_refused(tmp_path, make, complaint):
    with pytest.raises(ValueError, match=complaint):
        models.load_checkpoint(make(tmp_path))


def compressed(path):
    """A few bytes that would become a gigabyte."""
    with h5py.File(path, "w") as file:
        group = file.create_group("a")
        group.attrs["weight_names"] = ["a/kernel:0"]
        group.create_dataset("a/kernel:0", (2**14, 2**14), "f4", chunks=(64, 64))
    return path


def linked(path):
    """Weights that lie in another file."""
    with h5py.File(path, "w") as file:
        group = file.create_group("a")
        group.attrs["weight_names"] = ["a/kernel:0"]
        group.create_group("a")["kernel:0"] = h5py.ExternalLink("/etc/passwd", "x")
    return path
