"""Checkpoints as they lie on disk, of the smallest network that is bundled."""

import json

import numpy as np
import pytest

from scorecam_jax import models
from scorecam_jax.models.checkpoints.fill import wanted
from scorecam_jax.models.checkpoints.folder import stored
from scorecam_jax.models.checkpoints.recognise import unwrapped
from scorecam_jax.models.registry import entry, known_as
from tests.models.checkpoints.files import write_tensors

CLASSES = 3
TIMM = {"architecture": "mobilenetv3_small_100", "num_classes": CLASSES}


def tensors_of(name):
    """Random weights of a bundled network, by its usual publisher's names."""
    found = entry(name)
    layout = found.layouts[0]
    rng = np.random.default_rng(0)
    shapes = wanted(lambda rngs: found.network(rngs, classes=CLASSES), layout.names)
    return {key: rng.uniform(0.1, 1, shape).astype(np.float32) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def timms():
    return tensors_of("mobilenetv3_small_100")


@pytest.fixture(scope="module")
def torchvisions():
    return tensors_of("mobilenet_v3_small")


@pytest.fixture
def folder(tmp_path, timms):
    """A folder as timm writes it."""
    write_tensors(tmp_path / "model.safetensors", timms)
    (tmp_path / "config.json").write_text(json.dumps(TIMM))
    return tmp_path


def change_config(folder, **changes):
    (folder / "config.json").write_text(json.dumps(TIMM | changes))


def test_a_folder_is_enough(folder):
    change_config(
        folder,
        label_names=["red", "green", "blue"],
        pretrained_cfg={"input_size": [3, 160, 160], "mean": [0.5] * 3, "std": [0.25] * 3},
    )
    classifier = models.load(weights=folder)
    assert classifier.name == "mobilenetv3_small_100"
    assert classifier.labels == ("red", "green", "blue")
    assert classifier.input_size == classifier.preprocess.size == (160, 160)
    assert classifier.preprocess.mean == (127.5,) * 3
    assert classifier.preprocess.std == (63.75,) * 3
    assert classifier.layer == "head"


def test_prompts_may_wait_until_the_network_is_known(folder):
    asked = []
    classifier = models.load(weights=folder, prompts=asked.append)
    assert asked == [classifier.name] == ["mobilenetv3_small_100"]
    with pytest.raises(ValueError, match=r"has no text tower.*choose one of clip_vit_b32"):
        models.load(weights=folder, prompts=lambda name: ["a cat"])


def test_labels_that_are_given_come_first(folder, tmp_path):
    change_config(folder, label_names=["red", "green", "blue"])
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\n")
    classifier = models.load(weights=folder, labels=tmp_path / "names.txt")
    assert classifier.labels == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("mobilenetv3_small_100.lamb_in1k.safetensors", "mobilenetv3_small_100"),
        ("tf_mobilenetv3_small_100-37f49e2b.safetensors", "tf_mobilenetv3_small_100"),
    ],
)
def test_a_files_name_tells_networks_of_the_same_tensors_apart(tmp_path, timms, file, name):
    write_tensors(tmp_path / file, timms)
    classifier = models.load(weights=tmp_path / file)
    assert (classifier.name, classifier.labels[-1]) == (name, "class 2")


def test_the_tensors_tell_which_network_it_is(tmp_path, torchvisions):
    write_tensors(tmp_path / "best.safetensors", torchvisions)
    assert models.load(weights=tmp_path).name == "mobilenet_v3_small"


@pytest.mark.parametrize("name", ["MODEL.SAFETENSORS", "MODEL.NPZ"])
def test_suffixes_may_be_in_capitals(tmp_path, name):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    with (tmp_path / name).open("wb") as file:
        np.savez(file, **tensors)
    if name.endswith("S"):
        write_tensors(tmp_path / name, tensors)
    np.testing.assert_array_equal(stored(tmp_path).tensors()["a"], tensors["a"])


def test_an_index_in_capitals_is_an_index(shards):
    (shards / SECOND).rename(shards / SECOND.upper())
    index = (shards / INDEX).rename(shards / INDEX.upper())
    index.write_text(index.read_text().replace(SECOND, SECOND.upper()))
    assert stored(index).tensors().keys() == {"a", "b"}


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.", "model._orig_mod.", "timm_model."])
def test_what_trainers_put_before_every_name_is_dropped(torchvisions, prefix):
    wrapped = {f"{prefix}{name}": value for name, value in torchvisions.items()}
    assert unwrapped(wrapped).keys() == torchvisions.keys()
    partly = {**wrapped, "epoch": np.ones(1)}
    assert unwrapped(partly).keys() == partly.keys()


def test_networks_that_nothing_tells_apart_are_asked_for(tmp_path, timms):
    write_tensors(tmp_path / "best.safetensors", timms)
    both = "fit mobilenetv3_small_100 and tf_mobilenetv3_small_100, which compute differently"
    with pytest.raises(ValueError, match=both):
        models.load(weights=tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_classes": 4}, "config.json states 4 classes, but the weights .* have 3"),
        ({"num_classes": 0}, "states 0 classes, but the weights in .* have 3"),
        ({"label_names": ["red", "green"]}, "has 3 classes, but 2 labels were given"),
        ({"architecture": "resnet51"}, "no model 'resnet51'. Did you mean .*resnet50"),
        ({"architecture": "resnet18"}, r"does not fit ResNet; missing: conv1\.weight"),
        ({"model_args": {"in_chans": 1}}, "in_chans is 1, but the bundled network supports only 3"),
        ({"global_pool": "max"}, "global_pool is 'max', but the bundled network supports only avg"),
        ({"model_args": {"output_stride": 8}}, "created with the argument 'output_stride', which"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, changes, complaint):
    change_config(folder, **changes)
    with pytest.raises(ValueError, match=complaint):
        models.load(weights=folder)


def test_a_name_that_does_not_fit_is_refused(folder):
    with pytest.raises(ValueError, match=r"describes mobilenetv3_small_100, but resnet18 was"):
        models.load("resnet18", weights=folder)
    with pytest.raises(ValueError, match=r"does not fit ResNet; missing: conv1\.weight"):
        models.load("resnet18", weights=write_file(folder))


def write_file(folder):
    """The same weights without a configuration."""
    return (folder / "model.safetensors").rename(folder / "weights.safetensors")


def test_tensors_of_no_known_network_are_refused(tmp_path):
    write_tensors(tmp_path / "weights.safetensors", {"layer.weight": np.ones((2, 2), "f4")})
    with pytest.raises(ValueError, match=r"\('layer.weight', ...\) match no bundled network"):
        models.load(weights=tmp_path)


def test_neither_name_nor_weights():
    with pytest.raises(ValueError, match="neither a name nor weights were given"):
        models.load()


def test_which_file_of_a_folder_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*: wanted model\.safetensors"):
        stored(tmp_path)
    (tmp_path / "last.pth").touch()
    assert stored(tmp_path).files == (tmp_path / "last.pth",)
    (tmp_path / "best.pth").touch()
    with pytest.raises(ValueError, match=r"2 checkpoints in .*: best\.pth, last\.pth; give the"):
        stored(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    (tmp_path / "config.json").touch()
    assert stored(tmp_path).files == (tmp_path / "pytorch_model.bin", tmp_path / "config.json")
    # Whatever a folder of many networks holds beside it is not this one's.
    assert stored(tmp_path / "last.pth").files == (tmp_path / "last.pth",)


INDEX = "model.safetensors.index.json"
FIRST, SECOND = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))


@pytest.fixture
def shards(tmp_path):
    """A checkpoint of two tensors in two files."""
    held = {FIRST: {"a": np.ones((2, 3), "f4")}, SECOND: {"b": np.zeros(4, "f4")}}
    for file, tensors in held.items():
        write_tensors(tmp_path / file, tensors)
    weight_map = {name: file for file, tensors in held.items() for name in tensors}
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_checkpoint_in_several_files_is_read_as_one(shards):
    for named in (shards, shards / INDEX):
        files = stored(named)
        assert [file.name for file in files.files] == [INDEX, "config.json", FIRST, SECOND]
        tensors = files.tensors()
        assert {name: value.shape for name, value in tensors.items()} == {"a": (2, 3), "b": (4,)}


@pytest.mark.parametrize(
    ("weight_map", "complaint"),
    [
        ({"a": FIRST, "c": "model-00003-of-00003.safetensors"}, "1 are not in .*: model-00003-of"),
        ({"a": FIRST, "c": SECOND}, f"{SECOND} has no 'c', contrary to .*from the same"),
        ({"a": "../other.safetensors"}, "names the file '../other.safetensors', wanted"),
        ({"a": "model.bin"}, "wanted files .safetensors in the same folder"),
        ({}, "it has no weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_told(shards, weight_map, complaint):
    (shards / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises((FileNotFoundError, ValueError), match=complaint):
        stored(shards).tensors()


def test_a_tensor_in_two_files_is_told(shards):
    write_tensors(shards / SECOND, {"b": np.zeros(4, "f4"), "a": np.ones(1, "f4")})
    with pytest.raises(ValueError, match=f"{SECOND} repeats 'a'"):
        stored(shards).tensors()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_a_configuration_or_an_index_that_is_none_is_named(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json (is not valid JSON|holds a list)"):
        models.load(weights=folder)
    (folder / INDEX).write_text(text)
    with pytest.raises(ValueError, match=r"index\.json (is not valid JSON|holds a list)"):
        stored(folder / INDEX).tensors()


@pytest.mark.parametrize(
    ("name", "publisher", "wanted"),
    [
        ("ResNet-50", None, "resnet50"),
        ("resnet50.a1_in1k", "timm", "resnet50"),
        ("timm/resnet50.a1_in1k", None, "resnet50"),
        ("tf_efficientnet_lite0", "timm", "efficientnet_lite0"),
        ("efficientnet_lite0", "timm", "timm_efficientnet_lite0"),
        ("efficientnet_lite0", None, "efficientnet_lite0"),
        ("efficientnet_v2_s", None, "efficientnet_v2_s"),
        ("efficientnetv2_s", None, "efficientnetv2_s"),
    ],
)
def test_names_of_every_publisher_are_taken(name, publisher, wanted):
    assert known_as(name, publisher) == wanted
