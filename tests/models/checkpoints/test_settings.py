"""What configurations say; that pictures come out alike is tested beside the packages."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scorecam_jax.models.checkpoints import hugging_face, timm
from scorecam_jax.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, imagenet

USUAL = imagenet(224, 256, Image.Resampling.BILINEAR)
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
CONFIG = Path("folder/config.json")
PRETRAINED = {
    "input_size": [3, 224, 288],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bicubic",
    "crop_pct": 0.95,
    "crop_mode": "squash",
}


def preprocess(settings):
    return dataclasses.replace(USUAL, **settings.preprocess)


@pytest.mark.parametrize("is_flat", [False, True], ids=["nested", "flat"])
def test_timms_configuration_in_its_new_and_its_old_form(is_flat):
    own = {"architecture": "resnet50", "num_classes": 2, "label_names": ["n01", "n02"]}
    own |= {"label_descriptions": {"n01": "tench"}, "global_pool": "avg"}
    config = own | PRETRAINED if is_flat else own | {"pretrained_cfg": PRETRAINED}
    found = timm.settings(config, CONFIG)
    assert (found.architecture, found.classes) == ("resnet50", 2)
    assert found.labels == ("tench", "n02")
    assert found.arguments == {"global_pool": "avg"}
    made = preprocess(found)
    assert (made.size, made.fit, made.resample) == ((224, 288), "stretch", Image.Resampling.BICUBIC)
    np.testing.assert_allclose(made.mean, IMAGENET_MEAN)
    np.testing.assert_allclose(made.std, IMAGENET_STD)
    assert made.zoom == 288 / 303  # 288 / .95, rounded down as timm does


def test_arguments_of_timms_that_change_nothing_in_evaluation_are_of_no_account():
    config = {"architecture": "resnet50", "model_args": {"drop_rate": 0.1, "in_chans": 3}}
    assert timm.settings(config, CONFIG).arguments == {"in_chans": 3}


@pytest.mark.parametrize(
    ("told", "size", "fit", "zoom"),
    [
        ({"size": {"height": 224, "width": 192}}, (224, 192), "stretch", 1),
        ({"size": 224}, (224, 224), "stretch", 1),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), "crop", 224 / 256),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), "stretch", 1),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224},
            (224, 224),
            "crop",
            224 / 256,
        ),
        (
            {"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": 224},
            (224, 224),
            "stretch",
            224 / 256,
        ),
        ({"size": 224, "crop_size": 224, "do_center_crop": True}, (224, 224), "crop", 1),
    ],
)
def test_sizes_and_crops_of_transformers(told, size, fit, zoom):
    made = preprocess(hugging_face.settings({}, told, (CONFIG, CONFIG)))
    assert (made.size, made.fit, made.zoom) == (size, fit, zoom)


@pytest.mark.parametrize(
    ("told", "mean", "std"),
    [
        (HALF, 127.5, 127.5),
        ({**HALF, "rescale_factor": 1 / 127.5}, 63.75, 63.75),
        ({**HALF, "do_normalize": False}, 0, 255),
    ],
)
def test_means_and_deviations_of_transformers(told, mean, std):
    made = preprocess(hugging_face.settings({}, {**told, "resample": 3}, (CONFIG, CONFIG)))
    np.testing.assert_allclose(made.mean, [mean] * 3)
    np.testing.assert_allclose(made.std, [std] * 3)
    assert made.resample == Image.Resampling.BICUBIC


def test_labels_of_transformers():
    def labels(names):
        return hugging_face.settings({"id2label": names}, {}, (CONFIG, None))

    assert labels({"1": "dog", "0": "cat"}).labels == ("cat", "dog")
    unnamed = labels({"0": "LABEL_0", "1": "LABEL_1"})
    assert (unnamed.labels, unnamed.classes) == (None, 2)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"mean": [0.5, 0.5]}, r"mean is '\[0.5, 0.5\]', wanted three numbers"),
        ({"std": [0, 1, 1]}, "std is .*, wanted three numbers from 1e-06"),
        ({"crop_pct": "all"}, "crop_pct is 'all', wanted a number from 0.01 to 1"),
        ({"crop_mode": "wide"}, "crop_mode is 'wide', wanted one of center, squash, border"),
        ({"interpolation": ["bicubic"]}, "interpolation is .*, wanted one of nearest"),
        ({"input_size": [1, 28, 28]}, "wanted three channels"),
        ({"num_classes": True}, "num_classes is True, wanted a number"),
        ({"label_names": {"0": "cat", "7": "dog"}}, "label_names: index 1 is missing"),
    ],
)
def test_wrong_values_of_timms_are_named_with_their_file(told, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        timm.settings({"architecture": "resnet50", "pretrained_cfg": told}, CONFIG)
    assert str(CONFIG) in str(caught.value)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"size": {"longest_edge": 224}}, "size is .*, wanted height and width, or shortest_edge"),
        ({"resample": 9}, "resample is 9, wanted one of"),
        ({"image_mean": "grey"}, "image_mean is 'grey', wanted three numbers"),
        ({"size": 224, "do_center_crop": True, "crop_size": 256}, "wanted a part of"),
    ],
)
def test_wrong_values_of_transformers_are_named_with_their_file(told, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        hugging_face.settings({}, told, (None, CONFIG))
    assert str(CONFIG) in str(caught.value)


def test_efficientnets_processor_divides_twice_and_may_shift():
    told = {"size": 224, **HALF, "include_top": True, "rescale_offset": True}
    made = preprocess(hugging_face.settings({}, told, (None, None)))
    values = np.array([0.0, 51.0, 255.0])
    expected = ((values / 255 - 1) - 0.5) / 0.5 / 0.5
    np.testing.assert_allclose((values - made.mean) / made.std, expected, rtol=1e-12)
