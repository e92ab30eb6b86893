import itertools
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from scorecam_jax import METHODS, samples, score_cam, scores
from scorecam_jax.app.engine import answers, boxed, in_turn, samples_like
from scorecam_jax.app.question import Question, plan_of, suggestions
from tests.app import toy
from tests.cli.toy import read


def heatmap_of(answer):
    (result,) = answer.record.results.values()
    return result.heatmaps[0]


def inputs_of(path):
    classifier = toy.classifier()
    return classifier.preprocess(read(path))[None]


def test_a_map_appears_at_once_and_becomes_the_exact_one(photo):
    found = list(answers(toy.networks(), Question(photo, target="tiger")))
    assert [one.scored for one in found] == [16, 32, 48, 64, toy.CHANNELS]
    assert [one.exact for one in found] == [False] * 4 + [True]
    made = [one for one, other in itertools.pairwise([*found, None])
            if other is None or other.record is not one.record]  # fmt: skip
    assert [one.scored for one in made] == [48, 64, toy.CHANNELS]
    expected = score_cam(toy.classifier().model, inputs_of(photo), [1])
    np.testing.assert_allclose(heatmap_of(found[-1]), expected.heatmap[0], atol=1e-5)
    assert np.corrcoef(heatmap_of(found[0]).ravel(), heatmap_of(found[-1]).ravel())[0, 1] > 0.9
    assert not np.allclose(heatmap_of(found[0]), heatmap_of(found[-1]))
    assert found[-1].record.targets[0].index == 1


def test_the_likeliest_class_and_other_methods(photo):
    (found,) = answers(toy.networks(), Question(photo, method="grad-cam", rather_than="blue jay"))
    model, inputs = toy.classifier().model, inputs_of(photo)
    best = int(model(inputs)[0].argmax())
    assert found.exact
    assert found.record.targets[0].index == best
    expected = METHODS["grad-cam"](model, inputs, [best], score=scores.contrast(4))
    np.testing.assert_allclose(heatmap_of(found), expected.heatmap[0], atol=1e-5)


def test_nothing_goes_on_once_the_iterator_is_closed(photo):
    each = answers(toy.networks(), Question(photo))
    next(each)
    each.close()
    assert list(each) == []


def test_once_it_is_closed_nothing_is_computed(photo):
    networks = toy.networks()
    each = answers(networks, Question(photo))
    next(each)
    networks.close(0)
    with pytest.raises(ValueError, match="was closed"):
        next(each)


def test_several_questions_are_answered_in_turn(photo):
    asked = [Question(photo, target="tiger"), Question(photo, target="blue jay")]
    found = list(in_turn(toy.networks(), asked))
    assert [place for place, _ in found] == [0, 1] * 5
    assert [answer.question for _, answer in found] == asked * 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "tigre"}, "no class is called 'tigre'"),
        ({"target": "crane"}, "may mean several"),
        ({"target": "tiger", "rather_than": "tiger"}, "nothing tells a class from itself"),
        ({"method": "sore-cam"}, "no method is called 'sore-cam'"),
        ({"photo": Path("torn.png")}, "not an image"),
        ({"photo": Path("gone.png")}, "no such file"),
    ],
)
def test_what_is_wrong_is_told(photo, change, message):
    Path("torn.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=message):
        next(answers(toy.networks(), Question(photo)._replace(**change)))


def test_classes_of_one_name_are_told_apart(photo):
    assert suggestions("crane", toy.LABELS) == ["crane (2)", "crane (3)"]
    plan, _ = plan_of(Question(photo, target="crane (3)"), toy.classifier(), "photo", (48, 40))
    assert plan.targets.named == (3,)


def test_a_box_is_measured_without_another_pass(photo):
    networks = toy.networks()
    *_, found = answers(networks, Question(photo, target="tiger"))
    # The input has half the photograph's pixels along each side, from its 4th row on.
    measured = boxed(networks, found, (8.0, 12.0, 32.0, 28.0))
    heatmap = heatmap_of(found)
    (result,) = measured.record.results.values()
    assert result.metrics["energy"] == pytest.approx(
        heatmap[4:12, 4:16].sum() / heatmap.sum(), rel=1e-4
    )
    assert np.shares_memory(heatmap_of(measured), heatmap)
    again = boxed(networks, measured, None)
    assert again.record.boxes == []
    assert again.question.box is None
    with pytest.raises(ValueError, match="does not see this box"):
        boxed(networks, found, (8.0, 0.0, 32.0, 2.0))


def test_a_box_asks_a_network_of_places_about_a_region(photo):
    # Rows 12 to 28 and columns 8 to 32 are rows 1, 2 and columns 1 to 3 of its 4 x 6 places.
    question = Question(photo, "tiger", method="grad-cam", box=(8.0, 12.0, 32.0, 28.0))
    (found,) = answers(toy.of_places(), question)
    region = np.zeros((4, 6), bool)
    region[1:3, 1:4] = True
    model = toy.of_places().usual.model
    score = scores.segmentation(region, activation=jax.nn.softmax)
    expected = METHODS["grad-cam"](model, inputs_of(photo), [1], score=score)
    np.testing.assert_allclose(heatmap_of(found), expected.heatmap[0], atol=1e-5)
    assert boxed(toy.of_places(), found, (0.0, 4.0, 8.0, 12.0)) is None


def test_a_box_asks_a_detector_about_the_box_that_it_fits(photo):
    networks = toy.of_boxes()
    left, right = (0.0, 4.0, 24.0, 36.0), (24.0, 4.0, 48.0, 36.0)
    outputs, _ = networks.usual.model(inputs_of(photo))
    for box, place in ((left, 0), (right, 1)):
        _, score = plan_of(Question(photo, "tiger", box=box), networks.usual, "photo", (48, 40))
        np.testing.assert_allclose(score(outputs), outputs[1][:, place], rtol=1e-5)
    with pytest.raises(ValueError, match="click two corners"):
        next(answers(networks, Question(photo)))


def test_a_copy_of_a_sample_is_known(tmp_path):
    copy = shutil.copy(samples.path("owl"), tmp_path / "mine.jpg")
    assert samples_like(Path(copy)) == [samples.path("owl")]
    assert samples_like(toy.save_photo(tmp_path / "photo.png")) == []
