import functools
import threading

import jax
import numpy as np
import pytest

from scorecam_jax import diagnose, metrics, score_cam
from scorecam_jax.methods.controls import uniform
from scorecam_jax.study import METRICS, OFFERED, Batch, Metric, evaluate
from tests.study.toy import CHEAP, batch, model


@pytest.mark.slow
def test_rows_hold_what_the_metrics_say_of_each_image():
    data = batch(2)
    found = evaluate(model(), [data], ["grad-cam", "score-cam"], list(METRICS))
    assert [(row["image"], row["method"]) for row in found.rows] == [
        ("0", "grad-cam"), ("1", "grad-cam"), ("0", "score-cam"), ("1", "score-cam")
    ]  # fmt: skip
    heatmaps = score_cam(model(), data.inputs, data.targets).heatmap
    asked = (model(), data.inputs, heatmaps, data.targets)
    key = jax.random.key(0)
    probabilities = np.asarray(jax.nn.softmax(model()(data.inputs)[0]))
    expected = {
        "target": data.targets,
        "score": probabilities[np.arange(2), data.targets],
        "average-drop": metrics.average_drop(*asked, mute=0.5),
        "average-increase": metrics.average_increase(*asked, mute=0.5),
        "average-gain": metrics.average_gain(*asked, mute=0.5),
        "deletion": metrics.deletion(*asked, key=key),
        "insertion": metrics.insertion(*asked, key=key),
        "road": metrics.road(*asked, key=key),
        "adcc": metrics.adcc(*asked, explain=lambda x, t: score_cam(model(), x, t).heatmap),
        "energy": metrics.energy_pointing_game(heatmaps, data.boxes),
        "pointing": metrics.pointing_game(heatmaps, data.boxes, 15 * 16 / 224),
        "box-acc": metrics.max_box_acc(metrics.box_ious(heatmaps, data.boxes)),
        "box-iou": metrics.box_ious(heatmaps, data.boxes, (0.2,))[:, 0],
        "faithfulness": metrics.faithfulness_correlation(*asked, key=key, cells=9),
        "infidelity": metrics.infidelity(*asked, key=key),
        "gini": metrics.gini(heatmaps),
        "auc": metrics.roc_auc(heatmaps, data.boxes),
    }
    for column, values in expected.items():
        got = [row[column] for row in found.rows[2:]]
        np.testing.assert_allclose(got, values, rtol=1e-3, atol=1e-5, err_msg=column)


def test_columns_are_means_over_the_images_of_all_batches():
    found = evaluate(model(), [batch(2), tuple(batch(2, 1))], ["uniform", "score-cam"], CHEAP)
    assert found.methods == ["uniform", "score-cam"]
    assert [column.name for column in found.columns] == [*CHEAP, "seconds"]
    assert sorted({row["image"] for row in found.rows}) == ["0", "1", "2", "3"]
    for column in found.columns:
        for method in found.methods:
            values = [row[column.name] for row in found.rows if row["method"] == method]
            figure = column.figures[method]
            assert figure.count == 4
            assert figure.low <= figure.mean <= figure.high
            np.testing.assert_allclose(figure.mean, np.mean(values))
    energy = found.columns[1].figures["uniform"].mean
    np.testing.assert_allclose(energy, 90 / 320, rtol=1e-5)
    record = found.as_records()[0]
    assert record["method"] == "uniform"
    assert record["energy"] == energy
    assert record["energy_count"] == 4


def test_your_own_methods_and_metrics_have_their_names():
    def left(case):
        return case.heatmaps[:, :, :10].sum((1, 2)) / case.heatmaps.sum((1, 2))

    found = evaluate(
        model(), [batch(2)], {"flat": uniform}, {"left": left, "l": Metric(left, "more")}
    )
    assert [row["left"] for row in found.rows] == [0.5, 0.5]
    assert "l ↑" in found.as_text()


def test_images_without_boxes_have_no_localization():
    data = batch(2)
    data.boxes[1] = 0
    found = evaluate(model(), [data, Batch(data.inputs)], ["uniform"], CHEAP)
    assert [row["energy"] is None for row in found.rows] == [False, True, True, True]
    assert [column.figures["uniform"].count for column in found.columns] == [4, 1, 1, 4]


def test_the_next_batch_is_loaded_in_a_thread():
    threads = []

    def loader():
        for seed in range(2):
            threads.append(threading.current_thread())
            yield batch(1, seed)

    evaluate(model(), loader(), ["uniform"], ["energy"])
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_an_error_of_the_loader_comes_through():
    def loader():
        yield batch(1)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        evaluate(model(), loader(), ["uniform"], ["energy"])


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"'scorecam'.*score-cam, .*grad-cam, .*score-cam-64"):
        evaluate(model(), [], ["scorecam"])
    with pytest.raises(ValueError, match=r"'energy'.*list of names"):
        evaluate(model(), [], ["uniform"], "energy")
    with pytest.raises(ValueError, match="one of each"):
        evaluate(model(), [batch(2)._replace(names=["a"])], ["uniform"], ["energy"])
    with pytest.raises(ValueError, match="not all classes"):
        evaluate(model(), [Batch(batch(1).inputs, 9)], ["uniform"], [])


def test_a_metric_that_gives_no_value_for_each_image_is_refused():
    with pytest.raises(ValueError, match=r"'mean' gave shape \(\), wanted .* \(2,\)"):
        evaluate(model(), [batch(2)], ["uniform"], {"mean": lambda case: case.heatmaps.mean()})


def test_every_named_method_and_metric_is_there_once():
    assert {"score-cam", "score-cam-64", "grad-cam", "grad-cam++", "uniform"} <= set(OFFERED)
    assert METRICS.keys() == metrics.ENTRIES.keys()
    assert {entry.function for entry in metrics.ENTRIES.values()} <= set(metrics.__all__)


def recorder():
    """A method that notes which options it is called with."""
    seen = {}

    def method(model, inputs, targets=None, *, score=None, batch_size=None, key, channel_axis=-1):
        seen.update(score=score, batch_size=batch_size, key=key)
        return uniform(model, inputs, targets)

    return method, seen


def test_options_reach_the_methods_that_take_them():
    method, seen = recorder()
    loader, metrics = [batch(1)], ["average-drop"]
    evaluate(model(), loader, {"own": method, "u": uniform}, metrics, batch_size=3)
    assert seen["batch_size"] == 3
    assert seen["score"] is None
    assert (seen["key"] == jax.random.key(0)).all()
    evaluate(model(), loader, {"own": method}, metrics, score=jax.nn.sigmoid)
    assert seen["score"] is jax.nn.sigmoid
    own = functools.partial(method, score=jax.nn.softmax, batch_size=7, key=jax.random.key(1))
    evaluate(model(), loader, {"own": own}, metrics, score=jax.nn.sigmoid, batch_size=3)
    assert seen["score"] is jax.nn.softmax
    assert seen["batch_size"] == 7
    assert (seen["key"] == jax.random.key(1)).all()


def test_a_score_changes_heatmaps_and_metrics_alike():
    """A yes/no model says nothing under a softmax, and something under a sigmoid."""
    generator = np.random.default_rng(0)
    inputs = np.zeros((4, 24, 24, 3), np.float32)
    boxes = np.zeros((4, 1, 4), np.float32)
    for index in range(4):
        row, column = generator.integers(0, 10, 2)
        inputs[index, row : row + 4, column : column + 4, 0] = 1
        inputs[index, 15:20, 15:20, 1] = 1
        boxes[index, 0] = column, row, 4, 4

    def yes_or_no(x):
        activations = jax.nn.relu(x)
        return 300 * activations[..., :1].mean((1, 2)) - 3, activations

    loader = [(inputs, np.zeros(4, int), boxes)]
    found = [
        evaluate(yes_or_no, loader, methods, ["energy", "average-drop"], score=jax.nn.sigmoid).rows
        for methods in (
            ["score-cam"],
            {"score-cam": functools.partial(score_cam, score=jax.nn.sigmoid)},
        )
    ]
    drop = ("seconds",)
    plain, own = (
        [{name: value for name, value in row.items() if name not in drop} for row in rows]
        for rows in found
    )
    assert plain == own
    assert min(row["energy"] for row in plain) > 0.5


def test_scores_that_are_not_finite_are_refused():
    broken = jax.tree.map(lambda array: array * np.nan, model())
    with pytest.raises(ValueError, match=r"score of image '0' is nan: look for NaN .* weights"):
        evaluate(broken, [batch(1)], ["uniform"], [])


@pytest.mark.slow
def test_several_inputs_go_with_their_image():
    """Each image has a gain beside it. Measured alone or in one batch, the figures are equal."""
    base = model()

    def gained(inputs, edit=None):
        image, gain = inputs
        outputs, activations = base(image, edit)
        return outputs * gain, activations

    data = batch(2)
    gains = np.array([[0.5], [2.0]], np.float32)
    together = [((data.inputs, gains), data.targets, data.boxes)]
    alone = [
        ((data.inputs[one], gains[one]), data.targets[one], data.boxes[one])
        for one in (slice(0, 1), slice(1, 2))
    ]
    names = ["average-drop", "insertion", "adcc", "energy"]
    found = [evaluate(gained, each, ["score-cam", "grad-cam"], names) for each in (together, alone)]
    plain = evaluate(base, [data], ["score-cam"], names)
    rows = [sorted(each.rows, key=lambda row: (row["image"], row["method"])) for each in found]
    for both, one in zip(*rows, strict=True):
        assert (both["image"], both["method"]) == (one["image"], one["method"])
        for name in ("score", *names):
            np.testing.assert_allclose(both[name], one[name], rtol=1e-3, atol=1e-5)
    assert plain.rows[0]["score"] != found[0].rows[0]["score"]


def test_what_diagnose_finds_is_told_and_counted():
    def unlikely(inputs, edit=None):
        outputs, activations = base(inputs, edit)
        return outputs - 12 * jax.nn.one_hot(2, 5)[None], activations

    base, data = model(), batch(2)
    targets = np.array([2, int(base(data.inputs)[0][1].argmax())])
    if targets[1] == 2:
        targets[1] = int((base(data.inputs)[0][1]).argsort()[-2])
    found = evaluate(unlikely, [(data.inputs, targets)], ["score-cam", "center"], [])
    for index in (0, 1):
        explanation = score_cam(unlikely, data.inputs[index : index + 1], int(targets[index]))
        expected = [[one.kind, one.text] for one in diagnose(explanation)]
        assert found.rows[index]["findings"] == expected
        assert ("unlikely" in dict(expected)) is (index == 0)
    assert found.findings["score-cam"]["unlikely"] == 1
    assert found.findings["center"] == {}
