"""Photographs' way in, as configurations tell it, against the packages that wrote them."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from scorecam_jax.models.checkpoints import hugging_face, timm
from scorecam_jax.models.preprocess import imagenet

pytestmark = pytest.mark.peers

USUAL = imagenet(224, 256, Image.Resampling.BILINEAR)
NOISE = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
WIDE = Image.fromarray(NOISE).resize((768, 512), Image.Resampling.BICUBIC)
PHOTOGRAPHS = pytest.mark.parametrize("photograph", [WIDE, WIDE.rotate(90, expand=True)])


def assert_alike(settings, photograph, theirs):
    """What half a pixel makes of a smooth photograph is allowed: others crop whole pixels."""
    ours = dataclasses.replace(USUAL, **settings.preprocess)
    difference = np.abs(ours(photograph) - theirs) * np.asarray(ours.std, np.float32)
    assert difference.shape == (*ours.size, 3)
    assert difference.max() < 6
    assert difference.mean() < 1.5


@PHOTOGRAPHS
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop", [1.0, 0.95, 0.8])
@pytest.mark.parametrize("size", [(224, 224), (160, 256)])
def test_timms(torchvision, photograph, mode, crop, size):
    peer = pytest.importorskip("timm")
    config = {
        "input_size": [3, *size],
        "interpolation": "bicubic",
        "crop_pct": crop,
        "crop_mode": mode,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
    }
    transform = peer.data.create_transform(
        **peer.data.resolve_data_config({}, pretrained_cfg=config), is_training=False
    )
    found = timm.settings({"architecture": "resnet50", "pretrained_cfg": config}, None)
    assert_alike(found, photograph, transform(photograph).numpy().transpose(1, 2, 0))


@PHOTOGRAPHS
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ViT", {}),
        ("DeiT", {}),
        ("CLIP", {}),
        ("Siglip", {}),
        ("Bit", {"size": {"shortest_edge": 256}}),
        ("ConvNext", {"size": {"shortest_edge": 224}}),
        ("ConvNext", {"size": {"shortest_edge": 384}}),
        ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.95, "do_normalize": False}),
        ("MobileNetV2", {}),
    ],
)
def test_transformers(tmp_path, photograph, kind, options):
    peer = pytest.importorskip("transformers")
    processor = getattr(peer, f"{kind}ImageProcessor")(**options)
    processor.save_pretrained(tmp_path)
    told = json.loads((tmp_path / "preprocessor_config.json").read_text())
    theirs = processor(photograph, return_tensors="np").pixel_values[0].transpose(1, 2, 0)
    assert_alike(hugging_face.settings({}, told, (None, None)), photograph, theirs)
