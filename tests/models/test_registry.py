import functools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.models import loading, packages, registry
from scorecam_jax.models.networks import vit


def test_names_can_be_asked_for():
    with pytest.raises(ValueError, match="efficientnet_lite0"):
        models.load("lenet")


def test_the_classifier_is_complete(classifier, predict):
    assert classifier.input_size == (224, 224)
    assert len(classifier.labels) == 1000
    assert classifier.labels[0] == "tench, Tinca tinca"
    logits, activations = predict(jnp.zeros((2, 224, 224, 3)))
    assert logits.shape == (2, 1000)
    assert activations.shape == (2, 7, 7, 1280)
    assert 0 <= activations.min() < activations.max() <= 6


@pytest.mark.parametrize(("photograph", "wanted"), [("chelsea", "cat"), ("coffee", "espresso")])
def test_the_network_recognises_photographs(classifier, predict, photograph, wanted):
    data = pytest.importorskip("skimage.data")
    image = Image.fromarray(getattr(data, photograph)())
    logits, _ = predict(classifier.preprocess(image)[None])
    assert wanted in classifier.labels[int(logits.argmax())]


def test_the_animals_are_recognised_and_no_box_is_cut(classifier, predict, animals):
    right = 0
    for path, boxes, category in animals:
        with Image.open(path) as image:
            logits, _ = predict(classifier.preprocess(image)[None])
            carried = classifier.preprocess.boxes(boxes, image.size)
            scale = np.array(image.size) / 224
        np.testing.assert_allclose(carried[:, 2:] * scale, boxes[:, 2:], atol=1)
        right += int(logits[0].argmax()) == category
    assert right >= 0.9 * len(animals)


def test_a_checkpoint_that_was_altered_is_refused(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").write_bytes(b"something else")
    monkeypatch.setattr(packages, "resource", lambda module, file, install: tmp_path / file)
    with pytest.raises(ValueError, match="sha256"):
        packages.checked_file("package", "weights.pth", "0" * 64)


def test_a_missing_package_names_the_extra():
    with pytest.raises(ImportError, match=r"scorecam_jax\[demo\]"):
        packages.resource("no_such_package", "file")


def test_bfloat16_stays_close(classifier, predict):
    inputs = jax.random.normal(jax.random.key(0), (1, 224, 224, 3))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), classifier.model)
    logits, activations = jax.jit(lambda m, x: m(x))(half, inputs.astype(jnp.bfloat16))
    assert logits.dtype == activations.dtype == jnp.bfloat16
    correlation = np.corrcoef(logits[0].astype(jnp.float32), predict(inputs)[0][0])[0, 1]
    assert correlation > 0.99


OWN_MODULE = """
from typing import NamedTuple

import jax.numpy as jnp
from jax.tree_util import Partial
from scorecam_jax.models import Classifier, Preprocess

def network(inputs, edit=lambda activations: activations):
    activations = edit(inputs[:, ::4, ::4])
    return activations.mean((1, 2)), activations

def make(layer="grid"):
    preprocess = Preprocess((8, 12), mean=(0.0,) * 3, std=(255.0,) * 3)
    labels = ("red", "green", "blue")
    return Classifier(Partial(network), preprocess, labels, (8, 12), layer)

def two_labels():
    return make()._replace(labels=("red", "green"))

def embedding():
    return make()._replace(labels=())

class It(NamedTuple):
    boxes: object
    classes: object

def detector():
    return embedding()._replace(model=lambda x: (It(x, x), x))

def maps():
    return embedding()._replace(model=lambda x: (x, x))

def no_classifier():
    return network

def needs_an_argument(path):
    return make()

number = 3
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "kept_apart").mkdir()
    (tmp_path / "kept_apart" / "own.py").write_text(OWN_MODULE)
    (tmp_path / "kept_apart" / "broken.py").write_text("import no_such_package_at_all")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own_module")
def test_a_classifier_of_ones_own_is_loaded_by_its_function():
    classifier = models.load("kept_apart.own:make")
    assert classifier.labels == ("red", "green", "blue")
    logits, _ = classifier.model(np.ones((1, 8, 12, 3)) * np.array([1, 2, 3.0]))
    np.testing.assert_allclose(logits, [[1, 2, 3]])
    assert models.load("kept_apart.own:make", layer="other").layer == "other"
    assert models.random("kept_apart.own:make").labels == classifier.labels
    assert models.packaged_weights("kept_apart.own:make") is None
    assert models.load("kept_apart.own:embedding").labels == ()


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("no_such_module:make", {}, "no module 'no_such_module'.*PYTHONPATH"),
        ("kept_apart.other:make", {}, "no module 'kept_apart.other'"),
        ("kept_apart.own:other", {}, r"own\.py\) has no function 'other'"),
        ("kept_apart.own:number", {}, "no function 'number'"),
        ("kept_apart.own:no_classifier", {}, "returned a function; it must return a"),
        ("kept_apart.own:two_labels", {}, r"2 labels.*\(8, 12\).*shape \(1, 3\)"),
        ("kept_apart.own:detector", {}, r"0 labels.*are of type It, wanted \(1, features\)"),
        ("kept_apart.own:maps", {}, r"0 labels.*\(1, 8, 12, 3\), wanted \(1, features\): an emb"),
        ("kept_apart.own:needs_an_argument", {}, "missing a required argument: 'path'"),
        ("kept_apart.own:make", {"weights": "a.pth"}, "cannot be called with weights"),
        ("kept_apart.own:", {}, "form package.module:function"),
        (":make", {}, "form package.module:function"),
        ("C:\\model.py:make", {}, "form package.module:function"),
    ],
)
def test_what_is_wrong_with_ones_own_is_told(name, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        models.load(name, **options)


@pytest.mark.usefixtures("own_module")
def test_what_ones_own_module_cannot_import_is_told_as_it_is():
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        models.load("kept_apart.broken:make")


def test_networks_of_torchvisions_have_their_counterpart_there():
    for name in models.names():
        known = registry.entry(name).counterpart
        publishers = {layout.publisher for layout in registry.entry(name).layouts}
        if known is None:
            # Swin's windows have no layer of tokens whose patches lie row by row.
            assert "torchvision" not in publishers or registry.entry(name).file == "swin"
        elif known.module == "torchvision.models":
            assert loading.counterpart(name) == known
            assert "torchvision" in publishers
    for name in ("my.module:make", "timm_efficientnet_lite0", "swin_t"):
        with pytest.raises(ValueError, match="no known counterpart"):
            loading.counterpart(name)


@pytest.mark.parametrize(
    ("size", "sides", "grid"), [(None, (224, 224), (16, 16)), (42, (42, 42), (3, 3)),
                                ((28, 56), (28, 56), (2, 4))]
)  # fmt: skip
def test_inputs_have_the_size_that_is_asked_for(monkeypatch, size, sides, grid):
    make = functools.partial(vit.ViT, 8, 1, 2)  # instead of one of 384 features
    monkeypatch.setattr(vit, "vit_small", lambda patch, **options: make(patch, **options))
    classifier = models.random("dinov2_vits14", "blocks/0/norm1", size=size)
    assert classifier.input_size == classifier.preprocess.size == sides
    inputs = jax.ShapeDtypeStruct((1, *classifier.input_shape), "float32")
    outputs, activations = jax.eval_shape(classifier.model, inputs)
    assert (outputs.shape, activations.shape) == ((1, 8), (1, *grid, 8))


def test_sizes_that_are_none_are_refused():
    with pytest.raises(ValueError, match="size is 0, wanted the input's height and width"):
        models.random("resnet18", size=0)
    for call in (models.random, models.load):
        with pytest.raises(ValueError, match=r"my\.module:make sets its input size itself"):
            call("my.module:make", size=64)


def test_flax_is_imported_when_a_network_is_made():
    code = "import sys, scorecam_jax.models.registry as r; r.names(); print('flax' in sys.modules)"
    source = Path(registry.__file__).parents[2]
    # A package of that name without contents keeps what else the package imports out of it.
    code = (
        "import sys, types; package = types.ModuleType('scorecam_jax'); "
        f"package.__path__ = [{str(source / 'scorecam_jax')!r}]; "
        "sys.modules['scorecam_jax'] = package; "
    ) + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
