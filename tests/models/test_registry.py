import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models
from scorecam_jax.models import registry


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
    monkeypatch.setattr(registry, "_resource", lambda module, file: tmp_path / file)
    with pytest.raises(ValueError, match="sha256"):
        registry._checked_file("package", "weights.pth", "0" * 64)


def test_a_missing_package_names_the_extra():
    with pytest.raises(ImportError, match=r"scorecam_jax\[demo\]"):
        registry._resource("no_such_package", "file")


def test_bfloat16_stays_close(classifier, predict):
    inputs = jax.random.normal(jax.random.key(0), (1, 224, 224, 3))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), classifier.model)
    logits, activations = jax.jit(lambda m, x: m(x))(half, inputs.astype(jnp.bfloat16))
    assert logits.dtype == activations.dtype == jnp.bfloat16
    correlation = np.corrcoef(logits[0].astype(jnp.float32), predict(inputs)[0][0])[0, 1]
    assert correlation > 0.99
