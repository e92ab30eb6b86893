"""The viewer in notebooks."""

import html
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import models, score_cam
from scorecam_jax.visualize import grids, show

LABELS = ("red, reddish", "green", "blue")


def network(inputs):
    activations = jax.nn.relu(inputs.reshape(-1, 4, 4, 4, 4, 3).mean((2, 4)))
    return 60 * activations.mean((1, 2)), activations


def pictures():
    return np.random.default_rng(0).uniform(0, 1, (2, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def explained():
    return score_cam(network, jnp.asarray(pictures()), jnp.array([[0, 2], [1, 0]]))


def test_shows_each_input_with_its_classes_and_probabilities(explained):
    probabilities = jax.nn.softmax(explained.outputs)
    viewer = show(explained, pictures(), labels=LABELS, probabilities=probabilities)
    first, second = viewer._photographs
    assert [name for name, _ in first.classes] == ["red, reddish", "blue"]
    assert [name for name, _ in second.classes] == ["green", "red, reddish"]
    assert second.classes[0][1] == pytest.approx(float(probabilities[1, 1]))
    for place, one in enumerate((first, second)):
        for target, grid in enumerate(one.maps["heatmap"]):
            assert list(grid.shape) == [4, 4]
            heatmap = grids.draw(grid, (16, 16))
            np.testing.assert_allclose(heatmap, explained.heatmap[place, target], atol=1 / 255)


def test_the_page_is_in_a_frame_over_a_picture_of_the_same(explained):
    viewer = show(explained, pictures(), labels=["</script>", "g", "b"], height=300)
    content = viewer._repr_html_()
    frame = re.search(r'<iframe [^>]*sandbox="allow-scripts"[^>]* srcdoc="([^"]*)"', content)
    page = html.unescape(frame.group(1))
    assert page.startswith("<!doctype html>")
    assert "&lt;/script&gt;" in page
    assert content.index("<img") < content.index("<iframe")
    with Image.open(io.BytesIO(viewer._repr_jpeg_())) as still:
        assert still.width > 300


def test_several_methods_can_be_switched_between(explained):
    viewer = show({"a": explained, "b": explained}, pictures())
    assert list(viewer._photographs[0].maps) == ["a", "b"]
    assert viewer._photographs[0].classes[0] == ("class 0", None)


def test_one_picture_needs_no_batch():
    one = score_cam(network, jnp.asarray(pictures()[:1]))
    for image in (pictures()[0], Image.new("RGB", (32, 32)), [pictures()[0]]):
        assert len(show(one, image)._photographs) == 1


def test_the_part_that_the_network_saw_is_marked():
    preprocess = models.Preprocess((16, 16), mean=(0.0,) * 3, std=(255.0,) * 3, fit="pad")
    wide = Image.new("RGB", (64, 32), "red")
    one = score_cam(network, jnp.asarray(preprocess(wide))[None])
    (shown,) = show(one, wide, preprocess=preprocess)._photographs
    assert list(shown.seen) == [0, 0, 64, 32]
    assert list(shown.place) == [0, 4, 16, 8]


def test_the_page_can_be_saved(explained, tmp_path):
    show(explained, pictures(), names=["x.png", "y.png"]).save(tmp_path / "page.html")
    assert "y.png" in (tmp_path / "page.html").read_text("utf-8")


def test_what_does_not_fit_is_refused(explained):
    with pytest.raises(ValueError, match="found 3 images for an explanation of 2 inputs"):
        show(explained, [*pictures(), pictures()[0]])
    with pytest.raises(ValueError, match="found 2 labels, wanted at least 3"):
        show(explained, pictures(), labels=["red", "green"])
    other = explained._replace(targets=explained.targets[:, ::-1])
    with pytest.raises(ValueError, match="b explains other targets than a"):
        show({"a": explained, "b": other}, pictures())
    with pytest.raises(ValueError, match="nothing to show"):
        show({}, pictures())
    with pytest.raises(ValueError, match="series have one spatial axis, pictures two"):
        show(explained._replace(heatmap=explained.heatmap[..., 0, 0]), pictures())
    with pytest.raises(ValueError, match="picture=0"):
        show(explained, 7 * pictures())
    assert show(explained, 7 * pictures(), picture=0)._photographs
