import numpy as np
import pytest
from PIL import Image

from scorecam_jax.app.engine import answers
from scorecam_jax.app.files import write
from scorecam_jax.app.pictures import Style, draw, implied_box, likeliest, shown, told
from scorecam_jax.app.question import Question
from scorecam_jax.visualize import overlay
from tests.app import toy
from tests.cli.toy import read


def answer(photo, last=True, **asked):
    found = answers(toy.networks(), Question(photo, **asked))
    return list(found)[-1] if last else next(found)


def test_the_picture_is_the_photograph_under_its_heatmap(photo):
    found = answer(photo, target="tiger")
    preprocess = toy.classifier().preprocess
    (result,) = found.record.results.values()
    image = read(photo).resize((240, 200), Image.Resampling.NEAREST)  # 5 times its size
    heatmap = preprocess.restore(result.heatmaps[0], image.size)
    expected = overlay(image, heatmap, colormap="viridis", alpha=0.5)
    drawn = draw(found, Style("viridis", 0.5))
    seen = np.s_[20:180]  # the rest is bleached
    np.testing.assert_array_equal(np.asarray(drawn)[seen], np.asarray(expected)[seen])
    assert shown(Image.new("RGB", (3000, 1500))).size == (1024, 512)
    assert found.photo.size == (48, 40)


def test_a_threshold_frames_the_high_part(photo):
    found = answer(photo, target="tiger")
    (result,) = found.record.results.values()
    heatmap = result.heatmaps[0]
    peak = np.unravel_index(heatmap.argmax(), heatmap.shape)
    box = implied_box(found, 1.0)
    # A pixel of the input is 2 x 2 pixels of the photograph, whose 4th row is the first seen.
    top, left = 2 * peak[0] + 4, 2 * peak[1]
    high = heatmap == heatmap.max()
    assert box[:2] == (left, top) or high.sum() > 1
    assert implied_box(found, 0.01) == (0.0, 4.0, 48.0, 36.0) or (heatmap < 0.01).any()
    plain, framed = (np.asarray(draw(found, Style(threshold=t)), int) for t in (0.0, 0.5))
    changed = np.abs(plain - framed).max(-1) > 0
    assert changed.any()
    left, top, right, bottom = (round(5 * edge) for edge in implied_box(found, 0.5))
    inside = changed[top + 5 : bottom - 5, left + 5 : right - 5]
    assert not inside.any()


def test_what_is_told(photo):
    first, last = answer(photo, last=False, target="tiger"), answer(photo, target="tiger")
    assert "a map from 16 of 100 masks, ± 0." in told(first)[0]
    assert told(last)[0].endswith("the exact map, of all 100 masks.")
    assert told(last)[0].startswith("tiger, ")
    probabilities = likeliest(last)
    assert set(probabilities) == {"red panda", "tiger", "crane (2)", "crane (3)", "blue jay"}
    assert sum(probabilities.values()) == pytest.approx(1)
    boxed = answer(photo, target="tiger", method="grad-cam", box=(0.0, 4.0, 24.0, 36.0))
    assert "on 50.0% of what the network sees" in told(boxed)[1]


@pytest.mark.parametrize("asked", [{}, {"method": "grad-cam", "rather_than": "tiger"}])
def test_the_files_hold_the_map_and_python_draws_it_again(photo, asked):
    found = answer(photo, target="blue jay", **asked)
    source = {"name": "tests.app.toy:classifier", "weights": None}
    (photo.parent / "kept").mkdir()
    picture, report, heatmap, program = write(found, Style(), photo.parent / "kept", source)
    (result,) = found.record.results.values()
    whole = toy.classifier().preprocess.restore(result.heatmaps[0], (48, 40))
    np.testing.assert_array_equal(np.load(heatmap), whole[None])
    assert "photo.png" in report.read_text("utf-8")
    assert read(picture).width > 48
    exec(compile(program.read_text(), str(program), "exec"), {})
    made = np.asarray(read(photo.parent / picture.name), int)
    expected = np.asarray(overlay(read(photo), whole), int)
    assert np.abs(made - expected).max() <= 1
