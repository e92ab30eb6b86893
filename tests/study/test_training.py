"""Heatmaps of a fixed batch while a network is trained."""

import logging
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from scorecam_jax import from_nnx, grad_cam, score_cam
from scorecam_jax.study import HeatmapLog
from scorecam_jax.visualize import overlay


class Network(nnx.Module):
    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.features = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.features(x)).mean((1, 2)))


class TensorBoardX:
    def __init__(self):
        self.written = {}

    def add_image(self, tag, img_tensor, global_step=None, walltime=None, dataformats="CHW"):
        assert dataformats == "HWC"
        self.written[tag, global_step] = img_tensor


class Clu:
    def __init__(self):
        self.written = {}

    def write_images(self, step, images):
        for tag, batch in images.items():
            (self.written[tag, step],) = batch


def images():
    return np.random.default_rng(0).uniform(size=(2, 16, 24, 3)).astype(np.float32)


def test_all_steps_are_one_compilation(caplog):
    models = [from_nnx(Network(seed), "features") for seed in range(4)]
    log = HeatmapLog(images(), [0, 2], every=5)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for step in range(16):
            assert log(step, models[step // 5]) == (step % 5 == 0)
            finished = [one.getMessage() for one in caplog.records if "Finished XLA" in one.msg]
            if not step:
                assert sum("_compiled" in one for one in finished) == 1
                caplog.clear()
        assert not finished
    assert log.steps == [0, 5, 10, 15]


@pytest.mark.parametrize("writer", [TensorBoardX, Clu])
def test_each_step_and_the_strip_go_to_the_writer_and_to_files(tmp_path, writer):
    board = writer()
    options = {"writer": board, "folder": tmp_path, "names": ["a", "b"], "labels": "xyz"}
    log = HeatmapLog(images(), [0, 2], every=10, method=grad_cam, **options)
    networks = [from_nnx(Network(seed), "features") for seed in (0, 1)]
    for number, network in enumerate(networks):
        log(10 * number, network)
    tags = {f"heatmaps{kind}/{name}" for kind in ("", " over time") for name in "ab"}
    assert set(board.written) == {(tag, step) for tag in tags for step in (0, 10)}
    for step, network in zip((0, 10), networks, strict=True):
        heatmap = np.asarray(grad_cam(network, images(), np.array([0, 2])).heatmap[1])
        wanted = np.asarray(overlay(images()[1], heatmap)).repeat(10, 0).repeat(10, 1)
        with Image.open(tmp_path / "b" / f"{step:06d}.png") as file:
            found = np.asarray(file)
        np.testing.assert_array_equal(found, board.written["heatmaps/b", step])
        places = [found[y : y + 160, 8:248] for y in range(len(found) - 160)]
        assert any(np.array_equal(place, wanted) for place in places)
    with Image.open(tmp_path / "b.png") as file:
        np.testing.assert_array_equal(np.asarray(file), np.asarray(log.strip(1)))
    assert log.strip(1).width > 2 * 240


def test_a_long_training_makes_a_strip_of_bounded_length():
    def uniform(model, inputs, targets):
        return SimpleNamespace(heatmap=np.ones(inputs.shape[:-1]), targets=targets)

    log = HeatmapLog(np.zeros((1, 8, 8, 3), np.float32), 0, every=1, method=uniform)
    for step in range(40):
        log(step, len)
    assert len(log.steps) == 40
    panels = (log.strip().width - 8) / (256 + 8)
    assert 6 <= panels <= 13
    assert log._kept[0][0] == "step 0"
    assert log._latest[0] == "step 39"


def test_series_are_drawn_as_lines():
    def model(x):
        return x.mean(1), x

    log = HeatmapLog(np.ones((1, 32, 2), np.float32), 1, method=score_cam)
    log(0, model)
    assert log.strip().width > 800


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0; wanted a number of steps"),
        ({"writer": object()}, "the writer is a object; wanted one with add_image"),
        ({"names": ["a"]}, "found 1 names for 2 images"),
        ({"images": images() - 5}, "must be finite, in .* picture="),
    ],
)
def test_mistakes_are_told_before_the_training(options, message):
    with pytest.raises(ValueError, match=message):
        HeatmapLog(**{"images": images(), **options})
    with pytest.raises(ValueError, match="nothing was explained yet"):
        HeatmapLog(images()).strip()
