"""Folders as the packages' own functions write them: read, explained, and compared."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models, samples
from tests.cli.toy import scorecam
from tests.peers.originals import assert_logits_equal, logits_of, with_random_weights

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

pytestmark = pytest.mark.peers


def timms(name, folder, **config):
    """A folder of timm's, and its way of a photograph in."""
    timm = pytest.importorskip("timm")
    hub = pytest.importorskip("timm.models._hub")
    network = with_random_weights(timm.create_model(name, num_classes=config.pop("classes", 1000)))
    hub.save_for_hf(network, folder, safe_serialization=True, **config)
    told = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config({}, pretrained_cfg=told), is_training=False
    )
    return network, lambda image: transform(image).numpy().transpose(1, 2, 0)


def torchvisions(name, folder, torchvision):
    """A file of torchvision's, and the way in of its weights."""
    network = with_random_weights(getattr(torchvision.models, name)(weights=None))
    folder.mkdir()
    torch.save(network.state_dict(), folder / "weights.pth")
    transform = torchvision.models.get_model_weights(name).IMAGENET1K_V1.transforms()
    return network, lambda image: transform(image).numpy().transpose(1, 2, 0)


def transformers_(kind, folder, processor, **config):
    """A folder of transformers', and its way in."""
    transformers = pytest.importorskip("transformers")
    made = getattr(transformers, f"{kind}Config")(**config)
    network = getattr(transformers, f"{kind}ForImageClassification")(made)
    network = with_random_weights(network)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)

    def way_in(image):
        return processor(image, return_tensors="np").pixel_values[0].transpose(1, 2, 0)

    return network, way_in


NOISE = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
SMOOTH = Image.fromarray(NOISE).resize((768, 512), Image.Resampling.BICUBIC)
RESNET18 = {"layer_type": "basic", "depths": [2] * 4, "hidden_sizes": [64, 128, 256, 512]}
RESNET50 = {"layer_type": "bottleneck", "depths": [3, 4, 6, 3]}
B0 = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
TRANSFORMERS = {
    "resnet18": ("ResNet", RESNET18),
    "resnet50": ("ResNet", RESNET50),
    "convnext_tiny": ("ConvNext", {}),
    "efficientnet_b0": ("EfficientNet", B0),
}
NAMES = {"id2label": {0: "cat", 1: "owl"}, "label2id": {"cat": 0, "owl": 1}}


@pytest.fixture(
    params=[
        "timm resnet18",
        "timm mobilenetv3_small_100",
        "timm tf_efficientnet_b0",
        "timm efficientnet_lite0",
        "torchvision resnet18",
        "torchvision mobilenet_v3_small",
        "torchvision efficientnet_b0",
        "transformers resnet18",
        "transformers resnet50",
        "transformers convnext_tiny",
        "transformers efficientnet_b0",
    ]
)
def saved(request, tmp_path, torchvision):
    """A folder, the network that was saved to it, its way in, and the labels to be found."""
    publisher, name = request.param.split()
    folder = tmp_path / "folder"
    if publisher == "timm":
        labelled = {"classes": 2, "model_config": {"label_names": ["cat", "owl"]}}
        network, way_in = timms(name, folder, **(labelled if name == "resnet18" else {}))
        return folder, network, way_in, ["cat", "owl"] if name == "resnet18" else None
    if publisher == "torchvision":
        return folder, *torchvisions(name, folder, torchvision), None
    transformers = pytest.importorskip("transformers")
    kind, config = TRANSFORMERS[name]
    if kind == "EfficientNet":
        side = {"height": 224, "width": 224}
        processor = transformers.EfficientNetImageProcessor(size=side, resample=3)
    else:
        processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 224}, resample=3)
    return folder, *transformers_(kind, folder, processor, **config, **NAMES), ["cat", "owl"]


def test_a_folder_is_explained_as_it_is(saved, here, capsys):
    folder, network, way_in, labels = saved
    classifier = models.load(weights=folder)
    assert list(classifier.labels) == (labels or list(models.load("efficientnet_lite0").labels))
    # Six grey levels, what half a pixel makes of a smooth photograph: others resize, and crop at
    # a whole number of pixels then.
    grey = 6 / min(classifier.preprocess.std)
    np.testing.assert_allclose(classifier.preprocess(SMOOTH), way_in(SMOOTH), atol=grey)
    with Image.open(samples.path("owl")) as image:
        inputs = classifier.preprocess(image)
    logits, activations = jax.jit(lambda model, x: model(x))(classifier.model, inputs[None])
    assert_logits_equal(logits, logits_of(network, inputs[None]))
    assert activations.ndim == 4
    assert activations.shape[1:3] == (7, 7)
    arguments = ("--method", "grad-cam", "--no-cache", "--json", "--quiet")
    assert scorecam("explain", samples.path("owl"), "--weights", folder, *arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    assert told["model"] == classifier.name
    best = int(logits[0].argmax())
    assert told["photos"][0]["top"][0]["name"] == classifier.labels[best]
