"""Segmentation masks in the place of boxes, from the files to the figures."""

import numpy as np
import pytest
from PIL import Image

from scorecam_jax import grad_cam, metrics
from scorecam_jax.reading.annotation_files.outlines import Outline
from scorecam_jax.reading.annotations import Annotation
from scorecam_jax.study import evaluate
from scorecam_jax.study.study import study
from tests.study.toy import batch, model, toy

MEASURED = ["energy", "pointing", "auc", "box-iou"]


def photograph(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (32, 40, 3)).astype(np.uint8)


def test_batches_may_have_masks_instead_of_boxes():
    data = batch(2)
    masks = np.random.default_rng(0).random((2, 16, 20)) > 0.8
    masks[:, :, :3] = False
    found = evaluate(model(), [data._replace(boxes=masks)], ["grad-cam"], MEASURED)
    heatmaps = grad_cam(model(), data.inputs, data.targets).heatmap
    boxes = metrics.boxes_from_masks(masks)[:, None]
    for name, expected in (
        ("energy", metrics.energy_pointing_game(heatmaps, masks)),
        ("auc", metrics.roc_auc(heatmaps, masks)),
        ("box-iou", metrics.implied_box_iou(heatmaps, boxes)),
    ):
        np.testing.assert_allclose([row[name] for row in found.rows], expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["polygons", "png"])
def test_outlines_are_measured_where_the_network_sees_them(tmp_path, kind):
    corner = Outline([[4.0, 4.0, 36.0, 4.0, 36.0, 10.0, 12.0, 10.0, 12.0, 30.0, 4.0, 30.0]])
    mask = np.zeros((32, 40), bool)
    mask[4:10, 4:36] = mask[10:30, 4:12] = True
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.fromarray(photograph()).save(folder / "a.png")
    Image.fromarray(photograph(1)).save(folder / "b.png")
    if kind == "png":
        boxes = folder / "masks"
        boxes.mkdir()
        Image.fromarray(mask).save(boxes / "a.PNG")
    else:
        boxes = {"a.png": Annotation([(4.0, 4.0, 32.0, 26.0)], [None], outlines={0: corner})}
    found = study(toy(), folder, methods=["grad-cam"], metrics=MEASURED, boxes=boxes)
    assert [record.name for record in found.records] == ["a.png", "b.png"]
    record, other = found.records
    heatmap = record.results["grad-cam"].heatmaps
    seen = mask[1::2, 1::2][None]  # the input has half the resolution
    got = record.results["grad-cam"].metrics
    np.testing.assert_allclose(got["energy"], metrics.energy_pointing_game(heatmap, seen)[0])
    np.testing.assert_allclose(got["auc"], metrics.roc_auc(heatmap, seen)[0])
    box = np.array([[[2, 2, 16, 13]]], np.float32)
    np.testing.assert_allclose(got["box-iou"], metrics.implied_box_iou(heatmap, box)[0])
    assert other.results["grad-cam"].metrics["energy"] is None
