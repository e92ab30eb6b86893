"""Photographs from Python: what is asked, what comes back, and what faults cost."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from scorecam_jax import Interpolated, from_nnx, grad_cam, score_cam
from scorecam_jax.models import (
    Classifier,
    SeriesPreprocess,
    SpectrogramPreprocess,
    VolumePreprocess,
)
from scorecam_jax.reading.annotations import Annotation
from scorecam_jax.study import material, study
from scorecam_jax.study.page import photographs
from scorecam_jax.study.pipeline import records
from scorecam_jax.study.record import Record
from scorecam_jax.visualize import grids
from scorecam_jax.visualize.series import plot_area
from tests.study.toy import toy

GREY = np.full((16, 20, 3), 90, np.uint8)


class Layered(nnx.Module):
    def __init__(self, rngs):
        self.early = nnx.Conv(3, 4, (3, 3), strides=2, rngs=rngs)
        self.late = nnx.Conv(4, 4, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.late(nnx.relu(self.early(x)))).mean((1, 2)))


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 20, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def found():
    """Pictures in memory, with one class named and the likeliest one."""
    pictures = {"a": picture(0), "b": np.asarray(picture(1))}
    methods = {
        "grad": grad_cam,
        "few": functools.partial(score_cam, channels=Interpolated(64)),
        "all": score_cam,
    }
    return study(toy(fit="stretch"), pictures, methods=methods, targets="dog", top=1)


def test_pictures_in_memory_are_explained_as_the_method_itself_does(found):
    classifier = toy(fit="stretch")
    for seed, record in enumerate(found.records):
        inputs = classifier.preprocess(picture(seed))[None]
        indices = [one.index for one in record.targets]
        assert indices[0] == 1
        expected = grad_cam(classifier.model, inputs, np.array([indices]))
        np.testing.assert_allclose(record.results["grad"].heatmaps, expected.heatmap[0], atol=1e-5)
        np.testing.assert_allclose(record.results["grad"].peaks, expected.peak[0], rtol=1e-4)
        assert record.top[0].probability == max(one.probability for one in record.top)


def test_a_method_that_is_another_is_not_run_again(found):
    assert found.plan.run == ["grad", "few"]
    assert [tuple(note) for note in found.remarks] == [
        ("all", "is few on this network, and is not run again")
    ]
    for record in found.records:
        assert list(record.results) == ["grad", "few", "all"]
        assert record.results["all"] is record.results["few"]


def test_records_become_a_page_and_a_viewer(found):
    page = found.report(title="Two pictures")
    assert "<h1>Two pictures</h1><p>2 photographs" in page
    assert found.show()._repr_html_().startswith("<div")


def test_boxes_of_pictures_in_memory_are_measured_at_each_layer():
    boxes = {"a": Annotation([(2, 3, 10, 9)], ["dog"])}
    options = {"methods": ["grad-cam"], "metrics": ["energy"], "targets": "annotated"}
    network = Layered(nnx.Rngs(0))
    classifier = toy(fit="stretch")._replace(model=from_nnx(network))
    found = study(classifier, {"a": picture(0)}, boxes=boxes, layers="all", **options)
    (record,) = found.records
    assert list(record.results) == ["late:relu", "early:relu"]
    for layer, result in record.results.items():
        model = from_nnx(network, layer)
        inputs = classifier.preprocess(picture(0))[None]
        heatmap = grad_cam(model, inputs, np.array([1])).heatmap
        np.testing.assert_allclose(result.heatmaps, heatmap, atol=1e-5)
        inside = np.asarray(heatmap)[0, 3:12, 2:12].sum() / heatmap.sum()
        assert result.metrics["energy"] == pytest.approx(float(inside), abs=1e-5)
    assert '"named":[["grad-cam","late:relu"],["grad-cam","early:relu"]]' in found.report()


def test_photographs_that_vanish_meanwhile_are_named(tmp_path, monkeypatch):
    for seed, name in enumerate("abc"):
        picture(seed).save(tmp_path / f"{name}.png")
    read = material.read_picture

    def vanishing(source, **options):
        if source.name == "b.png":
            source.path.unlink()
        return read(source, **options)

    monkeypatch.setattr(material, "read_picture", vanishing)
    found = study(toy(fit="stretch"), tmp_path, methods=["uniform"])
    assert [record.name for record in found.records] == ["a.png", "c.png"]
    assert [tuple(note) for note in found.left_out] == [("b.png", "no such file")]
    (tmp_path / "a.png").unlink()
    page = found.report()
    assert "<b>a.png</b>" in page


def test_what_a_users_preprocessing_refuses_costs_that_photograph():
    preprocess = toy(fit="stretch").preprocess

    def picky(image):
        if image.getpixel((0, 0)) == (90, 90, 90):
            raise ValueError("grey pictures are not taken")
        return preprocess(image)

    classifier = toy(fit="stretch")._replace(preprocess=picky)
    found = study(classifier, {"grey": GREY, "b": picture(1)}, methods=["uniform"])
    assert [tuple(note) for note in found.left_out] == [("grey", "grey pictures are not taken")]


def test_a_network_of_volumes_gets_the_volume(tmp_path):
    volume = np.zeros((4, 8, 8), np.float32)
    volume[3, 4:, 4:] = 100.0
    np.save(tmp_path / "scan.npy", volume)

    def network(x, edit=lambda a: a):
        activations = edit(np.float32([[[[[1, -1]]]]]) * x[:, ::2, ::2, ::2].repeat(2, -1) + 1e-3)
        return activations.mean((1, 2, 3)), activations

    preprocess = VolumePreprocess((4, 8, 8), std=100.0)
    classifier = Classifier(network, preprocess, ("bright", "dark"), (4, 8, 8), "grid")
    found = study(classifier, tmp_path / "scan.npy", methods=["grad-cam"], targets=0)
    (record,) = found.records
    assert record.size == (4, 8, 8)
    heatmap = record.results["grad-cam"].heatmaps[0]
    expected = grad_cam(network, preprocess(volume)[None], 0).heatmap[0]
    np.testing.assert_allclose(heatmap, expected, atol=1e-5)
    assert "scan.npy" in found.report()


def of_series(shape):
    """A network that tells a wiggle from a plateau, and its way in."""

    def network(x, edit=lambda a: a):
        values = x.reshape(len(x), 8, 4, 2)
        maps = jnp.stack([jnp.ptp(values, 2).mean(-1), values.mean((2, 3))], -1)
        grid = (8,) if len(shape) == 1 else (1, 8)
        activations = edit(jax.nn.relu(maps.reshape(-1, *grid, 2)))
        return activations.mean(tuple(range(1, activations.ndim - 1))), activations

    preprocess = SeriesPreprocess(32, channels=2, rate=10, row=len(shape) == 2)
    return Classifier(network, preprocess, ("wiggle", "plateau"), shape, "grid")


@pytest.mark.parametrize("shape", [(32,), (1, 32)])
def test_a_network_of_series_gets_the_series(tmp_path, shape):
    steps = np.arange(48)
    series = np.stack([(steps > 24) * 1.0, (steps < 20) * (-1.0) ** steps], -1)
    classifier = of_series(shape)
    assert classifier.takes == "series"
    np.savetxt(tmp_path / "a.csv", series, delimiter=",", header="a,b", comments="")
    found = study(classifier, tmp_path, methods=["grad-cam"], targets="wiggle")
    again = study(classifier, {"a.csv": series}, methods=["grad-cam"], targets="wiggle")
    assert "the network takes 2" in " ".join(
        note.why for note in study(classifier, {"b": series[:, :1], "a": series}).left_out
    )
    (record,), (same,) = found.records, again.records
    assert record.size == same.size == (48,)
    heatmap = record.results["grad-cam"].heatmaps
    np.testing.assert_allclose(heatmap, same.results["grad-cam"].heatmaps, atol=1e-6)
    expected = grad_cam(classifier.model, classifier.preprocess(series)[None], 0).heatmap
    np.testing.assert_allclose(heatmap, expected, atol=1e-5)
    whole = classifier.preprocess.restore(heatmap[0], (48,))
    assert whole[8:20].mean() > 0.5 > whole[28:].max()
    shown, _ = photographs(found.plan, found.records, found.evaluation())
    left, _, right, _ = plot_area(2)
    pixels = (right - left) / 48
    assert shown[0].seen[::2] == pytest.approx([left + 8 * pixels, left + 40 * pixels])
    assert shown[0].place == [0, 0, 32, 1]
    drawn = grids.draw(shown[0].maps["grad-cam"][0], (1, 32))
    np.testing.assert_allclose(drawn.ravel(), heatmap.ravel(), atol=2 / 255)
    assert "<p>1 series, grad-cam</p>" in found.report()


def test_a_network_of_spectrograms_gets_sound(tmp_path):
    preprocess = SpectrogramPreprocess(16, rate=1000, window=32, hop=16)

    def network(x, edit=lambda a: a):
        halves = x.reshape(-1, 2, 8, 4, 4).mean((2, 4))
        activations = edit(halves[..., None] * jnp.eye(2)[None, :, None] + 1e-3)
        return activations.mean((1, 2)), activations

    classifier = Classifier(network, preprocess, ("high", "low"), preprocess.size, "grid")
    at = np.arange(400) / 1000
    pitch = np.where(at < 0.15, 50, 350)
    found = study(
        classifier, {"a": np.sin(2 * np.pi * pitch * at)}, methods=["grad-cam"], targets="high"
    )
    (record,) = found.records
    assert record.size == (16, 16)
    (shown,), _ = photographs(found.plan, found.records, found.evaluation())
    assert shown.axes
    left, top, right, bottom = shown.seen
    assert (right - left) % 16 == (bottom - top) % 16 == 0
    values = grids.draw(shown.maps["grad-cam"][0], (16, 16))
    assert values[:8, 10:].mean() > 4 * values[8:].mean()  # high is above, and late
    page = found.report()
    assert 'class="stack axes"' in page
    assert "<p>1 series, grad-cam</p>" in page


def test_unknown_wishes_are_refused():
    for options, message in (
        ({"targets": "cat"}, "no class is called 'cat'"),
        ({"targets": ["folder", "annotated"]}, "give one of them"),
        ({"targets": "annotated"}, "name their file with boxes"),
        ({"top": 9}, "top is 9, but the model knows only 5 classes"),
        ({"metrics": ["energy"]}, "energy cannot be measured without boxes"),
        ({"methods": ["scorecam"]}, "no method is called 'scorecam'"),
    ):
        with pytest.raises(ValueError, match=message):
            study(toy(), {"a": GREY}, **options)


def test_the_class_of_a_folder_is_explained(tmp_path):
    for folder, seed in (("ox", 0), ("dog", 1), ("plane", 2)):
        (tmp_path / folder).mkdir()
        picture(seed).save(tmp_path / folder / "1.png")
    found = study(toy(fit="stretch"), tmp_path, methods=["uniform"], targets="folder")
    classes = {record.name: record.targets[0].index for record in found.records}
    assert classes == {"dog/1.png": 1, "ox/1.png": 2}
    (note,) = found.left_out
    assert note.what == "plane/1.png"
    assert "not called after a class" in note.why


def test_a_study_that_is_stopped_closes_its_reader():
    found = study(toy(fit="stretch"), {"a": picture(0)}, methods=["uniform"])
    each = records(found.plan, [record.item for record in found.records])
    with contextlib.closing(each):
        assert isinstance(next(each), Record)
