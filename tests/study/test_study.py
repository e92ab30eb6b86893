"""Photographs from Python: what is asked, what comes back, and what faults cost."""

import contextlib
import functools

import numpy as np
import pytest
from PIL import Image

from scorecam_jax import Interpolated, grad_cam, score_cam
from scorecam_jax.models import Classifier, VolumePreprocess
from scorecam_jax.study import pipeline, study
from scorecam_jax.study.pipeline import records
from scorecam_jax.study.record import Record
from tests.study.toy import toy

GREY = np.full((16, 20, 3), 90, np.uint8)


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


def test_photographs_that_vanish_meanwhile_are_named(tmp_path, monkeypatch):
    for seed, name in enumerate("abc"):
        picture(seed).save(tmp_path / f"{name}.png")
    read = pipeline.read_picture

    def vanishing(source, **options):
        if source.name == "b.png":
            source.path.unlink()
        return read(source, **options)

    monkeypatch.setattr(pipeline, "read_picture", vanishing)
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
