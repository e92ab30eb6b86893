import csv
import functools
import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from scorecam_jax import gradient, metrics, score_cam
from scorecam_jax.evaluate.measure import (
    METHODS,
    METRICS,
    Batch,
    Metric,
    class_index,
    evaluate,
    evaluate_folder,
)
from scorecam_jax.models import Preprocess

SIZE = (16, 20)
LABELS = ("tench, Tinca tinca", "dog", "ox", "crane", "crane, machine")


@functools.cache
def model():
    mix = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)), jnp.float32)
    head = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5)), jnp.float32)

    def run(mix, head, x, edit=None):
        activations = jax.nn.relu(x[:, ::2, ::2] @ mix)
        if edit:
            activations = edit(activations)
        return activations.mean((1, 2)) @ head, activations

    return jax.tree_util.Partial(lambda weights, x, edit=None: run(*weights, x, edit), (mix, head))


class Toy(NamedTuple):
    model: Any
    preprocess: Any
    labels: tuple[str, ...] = LABELS


def toy(**options):
    return Toy(model(), Preprocess(SIZE, (127.0,) * 3, (64.0,) * 3, **options))


def batch(count, seed=0):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(count, *SIZE, 3)).astype(np.float32)
    boxes = np.zeros((count, 2, 4), np.float32)
    boxes[:, 0] = [2, 3, 10, 9]
    return Batch(inputs, generator.integers(0, 5, count), boxes)


CHEAP = ["average-drop", "energy", "box-acc"]


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
        "pointing": metrics.pointing_game(heatmaps, data.boxes, 15),
        "box-acc": metrics.max_box_acc(metrics.box_ious(heatmaps, data.boxes)),
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
        model(), [batch(2)], {"flat": gradient.uniform}, {"left": left, "l": Metric(left, "more")}
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
    with pytest.raises(ValueError, match=r"'scorecam'.*score-cam, score-cam-128"):
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
    assert {"score-cam", "score-cam-128", "grad-cam", "grad-cam++", "uniform"} <= set(METHODS)
    assert len(METRICS) == 10


@pytest.fixture
def photos(tmp_path):
    """Four photographs, one of them in a subfolder, with their boxes; the bright part is boxed."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    images, annotations = [], []
    for number, name in enumerate(("a.png", "b.jpg", "c.png", "more/d.png")):
        pixels = np.random.default_rng(number).integers(0, 60, (40, 60, 3), dtype=np.uint8)
        pixels[10:30, 20 : 40 + number] += 150
        Image.fromarray(pixels).save(folder / name)
        images.append({"id": number, "file_name": name, "width": 60, "height": 40})
        box = [20, 10, 20 + number, 20]
        annotations.append({"id": number, "image_id": number, "category_id": 2, "bbox": box})
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder, boxes


def run(photos, **options):
    folder, boxes = photos
    options = {"boxes": boxes, "methods": ["grad-cam", "uniform"], "metrics": CHEAP} | options
    return evaluate_folder(options.pop("classifier", toy(fit="stretch")), folder, **options)


def test_a_folder_becomes_a_table_and_files(photos, tmp_path):
    steps = []
    found = run(photos, output=tmp_path / "out", progress=lambda *step: steps.append(step))
    assert [row["image"] for row in found.rows[::2]] == ["a.png", "b.jpg", "c.png", "more/d.png"]
    assert not found.left_out
    assert steps == [
        (place, 8, f"{row['image']}: {row['method']}") for place, row in enumerate(found.rows)
    ]
    assert (tmp_path / "out" / "table.txt").read_text("utf-8") == found.as_text() + "\n"
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["rows"] == found.rows
    assert document["table"] == found.as_records()
    with (tmp_path / "out" / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy"]) for row in rows] == [row["energy"] for row in found.rows]
    with (tmp_path / "out" / "table.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["grad-cam", "uniform"]


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_boxes_go_where_the_photograph_goes(photos, fit):
    """The uniform map's energy is the box's share of what the network sees."""
    found = run(photos, classifier=toy(fit=fit), methods=["uniform"], metrics=["energy"])
    across = {"stretch": 20 / 60, "crop": 16 / 40, "pad": 20 / 60}[fit]  # input pixels a pixel
    down = {"stretch": 16 / 40, "crop": 16 / 40, "pad": 13 / 40}[fit]
    expected = [(20 + number) * across * 20 * down / 320 for number in range(4)]
    np.testing.assert_allclose([row["energy"] for row in found.rows], expected, rtol=1e-4)


def test_predicted_and_annotated_targets(photos):
    folder, _ = photos
    predicted = run(photos, metrics=["average-drop"], methods=["uniform"])
    annotated = run(photos, metrics=["average-drop"], methods=["uniform"], target="annotated")
    for row in predicted.rows:
        inputs = toy(fit="stretch").preprocess(Image.open(folder / row["image"]))[None]
        probabilities = np.asarray(jax.nn.softmax(model()(inputs)[0]))[0]
        assert row["target"] == probabilities.argmax()
        np.testing.assert_allclose(row["score"], probabilities.max(), rtol=1e-5)
    assert [row["target"] for row in annotated.rows] == [2] * 4


def test_an_annotated_target_is_the_class_that_covers_most_with_its_boxes(photos):
    _, boxes = photos
    content = json.loads(boxes.read_text())
    add = {"image_id": 0, "id": 9, "category_id": 1, "bbox": [0, 0, 60, 20]}
    wrong = {"image_id": 1, "id": 10, "category_id": 5, "bbox": [0, 0, 60, 20]}
    content["annotations"] += [add, wrong]
    boxes.write_text(json.dumps(content))
    found = run(photos, methods=["uniform"], metrics=["energy"], target="annotated")
    assert [row["target"] for row in found.rows] == [1, 2, 2, 2]
    np.testing.assert_allclose(found.rows[0]["energy"], 0.5, rtol=1e-5)
    (note,) = found.left_out
    assert note.what == "b.jpg"
    assert "5 is not a class" in note.why


def test_what_cannot_be_used_is_named_and_left_out(photos):
    folder, boxes = photos
    (folder / "b.jpg").write_bytes(b"not a photograph")
    whole = (folder / "c.png").read_bytes()
    (folder / "c.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (9, 9)).save(folder / "e.png")
    content = json.loads(boxes.read_text())
    content["images"][3] |= {"width": 40, "height": 60}
    content["annotations"][0]["bbox"] = [1, 2, -3, 4]
    content["images"].append({"id": 8, "file_name": "absent.jpg"})
    boxes.write_text(json.dumps(content))
    found = run(photos)
    assert [row["image"] for row in found.rows[::2]] == ["a.png", "e.png", "more/d.png"]
    assert [row["energy"] for row in found.rows] == [None] * 6
    why = {}
    for note in found.left_out:
        why[Path(note.what).name] = why.get(Path(note.what).name, "") + note.why
    assert "cannot be read" in why["b.jpg"]
    assert "cannot be read" in why["c.png"]
    assert "no boxes" in why["e.png"]
    assert "no boxes" in why["a.png"]
    assert "no area" in why["a.png, annotation 0"]
    assert "40 x 60" in why["d.png"]
    assert "1 of its 5" in why["boxes.json"]


def test_a_box_outside_the_crop_is_named(photos):
    _, boxes = photos
    content = json.loads(boxes.read_text())
    content["annotations"][0]["bbox"] = [0, 0, 4, 40]  # the crop of 60 x 40 is 50 wide
    boxes.write_text(json.dumps(content))
    found = run(photos, classifier=toy(fit="crop"), methods=["uniform"], metrics=["energy"])
    assert found.rows[0]["energy"] is None
    assert [note.what for note in found.left_out] == ["a.png"]


def test_boxes_of_a_turned_photograph_are_those_of_the_upright_one(photos):
    folder, _ = photos
    photo = Image.open(folder / "a.png").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it by a quarter
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "a.png", exif=exif)
    before = [row["energy"] for row in run(photos, metrics=["energy"]).rows]
    photo.save(folder / "a.png")
    np.testing.assert_allclose(
        [row["energy"] for row in run(photos, metrics=["energy"]).rows], before, rtol=1e-5
    )


def test_an_interrupted_run_is_carried_on_and_nothing_is_lost_or_done_twice(photos, tmp_path):
    def interrupt(done, total, what):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(photos, output=tmp_path / "out", progress=interrupt)
    kept = (tmp_path / "out" / "rows.jsonl").read_text()
    assert kept.count("\n") == 1 + 3
    steps = []
    found = run(photos, output=tmp_path / "out", progress=lambda *step: steps.append(step))
    assert (tmp_path / "out" / "rows.jsonl").read_text().startswith(kept)
    assert (tmp_path / "out" / "rows.jsonl").read_text().count("\n") == 1 + 8
    assert next(step[2] for step in steps if step[0] >= 3) == "b.jpg: uniform"
    straight = run(photos)
    for got, expected in zip(found.rows, straight.rows, strict=True):
        assert got | {"seconds": 0} == pytest.approx(expected | {"seconds": 0})
    again = run(photos, output=tmp_path / "out", progress=lambda *step: pytest.fail("done twice"))
    assert again.rows == found.rows


def test_more_methods_and_metrics_are_added_to_what_there_is(photos, tmp_path):
    run(photos, output=tmp_path / "out", methods=["uniform"], metrics=["energy"])
    steps = []
    found = run(
        photos, output=tmp_path / "out", metrics=["energy"], progress=lambda *s: steps.append(s[2])
    )
    assert found.methods == ["grad-cam", "uniform"]
    lines = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 4 + 4
    found = run(photos, output=tmp_path / "out", metrics=["pointing"], methods=["uniform"])
    assert list(found.rows[0])[5:] == ["pointing"]
    found = run(
        photos, output=tmp_path / "out", metrics=["pointing", "energy"], methods=["uniform"],
        progress=lambda *step: pytest.fail("done twice"),
    )  # fmt: skip
    assert list(found.rows[0])[5:] == ["pointing", "energy"]


def test_results_for_other_settings_are_refused(photos, tmp_path):
    run(photos, output=tmp_path / "out", settings={"model": "one"})
    with pytest.raises(ValueError, match="model was 'one' and is 'two'"):
        run(photos, output=tmp_path / "out", settings={"model": "two"})
    with pytest.raises(ValueError, match="target was 'predicted' and is 'annotated'"):
        run(photos, output=tmp_path / "out", settings={"model": "one"}, target="annotated")


def test_voc_files_name_classes(photos, tmp_path):
    folder, _ = photos
    voc = tmp_path / "voc"
    (voc / "more").mkdir(parents=True)
    for name in ("a", "more/d"):
        (voc / f"{name}.xml").write_text(
            "<annotation><object><name>Tinca_tinca</name><bndbox><xmin>21</xmin><ymin>11</ymin>"
            "<xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>"
        )
    found = run((folder, voc), methods=["uniform"], metrics=["energy"], target="annotated")
    assert [(row["image"], row["target"]) for row in found.rows] == [
        ("a.png", 0),
        ("more/d.png", 0),
    ]
    np.testing.assert_allclose(found.rows[0]["energy"], 400 / 2400, rtol=1e-5)
    assert {note.what for note in found.left_out} == {"b.jpg", "c.png"}


def test_class_names():
    assert class_index(4, LABELS) == 4
    assert class_index(5, LABELS) is None
    assert class_index(" Ox", LABELS) == 2
    assert class_index("machine", LABELS) == 4
    assert class_index("crane", LABELS) is None  # there are two
    assert class_index("cat", LABELS) is None


def test_without_boxes_only_faithfulness_is_measured(photos):
    found = run(photos, boxes=None, metrics=None, methods=["uniform"])
    assert list(found.rows[0])[5:] == [
        "average-drop", "average-increase", "average-gain", "insertion", "deletion"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="energy cannot be measured without boxes"):
        run(photos, boxes=None, metrics=["energy"])


def test_folders_with_nothing_to_measure_are_refused(photos):
    folder, boxes = photos
    (folder / "none").mkdir()
    with pytest.raises(ValueError, match="no photographs in"):
        run((folder / "none", boxes))
    with pytest.raises(ValueError, match="is not a folder"):
        run((folder / "a.png", boxes))
    with pytest.raises(ValueError, match="names none of the photographs"):
        run((folder / "more", boxes))
    with pytest.raises(ValueError, match="target is 'best'"):
        run(photos, target="best")
    for photo in folder.rglob("*.*"):
        photo.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 4 photographs.*cannot be read"):
        run(photos)
