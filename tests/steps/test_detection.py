"""Detectors' outputs as scores, against loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scorecam_jax import grad_cam, hires_cam, score_cam
from scorecam_jax.steps import scores
from tests import reference

RNG = np.random.default_rng(0)


def test_detection_weights_scores_by_overlap():
    low, size = RNG.random((2, 7, 2)), RNG.random((2, 7, 2))
    boxes = np.concatenate([low, low + size], -1)
    confidences = RNG.random((2, 7, 3))
    box = (0.2, 0.3, 0.9, 1.1)

    def iou(a, b):
        sides = [max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
        area = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
        return sides[0] * sides[1] / (sum(area) - sides[0] * sides[1])

    expected = [
        [max(iou(boxes[n, m], box) * confidences[n, m, c] for m in range(7)) for c in range(3)]
        for n in range(2)
    ]
    result = scores.detection(box)((jnp.array(boxes), jnp.array(confidences)))
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_detection_without_any_overlap_is_zero_even_for_boxes_without_area():
    boxes = jnp.array([[[5.0, 5.0, 6.0, 6.0], [0.5, 0.5, 0.5, 0.5], [3.0, 3.0, 2.0, 2.0]]])
    result = scores.detection([0, 0, 1, 1])((boxes, jnp.ones((1, 3, 2))))
    np.testing.assert_array_equal(result, np.zeros((1, 2)))


@pytest.mark.parametrize("box", [(0, 0, 1), (1, 0, 0, 1)])
def test_detection_refuses_what_is_no_box(box):
    with pytest.raises(ValueError, match=r"wanted \(low, low, high, high\)"):
        scores.detection(box)


RAW = np.concatenate([RNG.uniform(0, 4, (2, 5, 2)), RNG.uniform(5, 9, (2, 5, 2))], -1)
CLASSES = RNG.uniform(size=(2, 5, 3))


def test_one_array_of_detections_is_read_as_its_layout_says():
    box = [1, 2, 6, 7]
    expected = scores.detection(box)((jnp.asarray(RAW), jnp.asarray(CLASSES)))
    centers = np.concatenate([(RAW[..., :2] + RAW[..., 2:]) / 2, RAW[..., 2:] - RAW[..., :2]], -1)
    for boxes, layout in ((RAW, "corners"), (centers, "centers")):
        rows = jnp.asarray(np.concatenate([boxes, CLASSES], -1), jnp.float32)
        last = scores.detection(box, layout=layout, channel_axis=-1)(rows)
        first = scores.detection(box, layout=layout)(rows.swapaxes(1, 2))
        np.testing.assert_allclose(last, expected, rtol=1e-5)
        np.testing.assert_allclose(first, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({}, (2, 84, 10), r"shape \(2, 84, 10\).*\(N, M, 4\).*layout='centers'"),
        ({"layout": "corners"}, (2, 84), r"shape \(2, 84\), wanted for layout='corners'"),
        ({"layout": "corners", "channel_axis": -1}, (2, 84, 4), r"\(N, M, 4 \+ classes\)"),
    ],
)
def test_detections_in_another_layout_are_refused_with_the_layout_found(options, shape, message):
    with pytest.raises(ValueError, match=message):
        scores.detection([0, 0, 1, 1], **options)(jnp.zeros(shape))
    with pytest.raises(ValueError, match="'corners', 'centers'"):
        scores.detection([0, 0, 1, 1], layout="yolo")


def test_detection_applies_its_activation():
    boxes = jnp.array([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]]])
    logits = jnp.array([[[0.0], [5.0]]])
    found = scores.detection([0, 0, 2, 2], activation=jax.nn.sigmoid)((boxes, logits))
    np.testing.assert_allclose(found, [[max(0.5, 0.5 / (1 + np.exp(-5)))]], rtol=1e-6)


CLASSES_ = 3
CELLS = 6
FEATURES = RNG.normal(size=(3, 16)).astype(np.float32)
PROPOSALS = np.array(
    [[x, y, x + 3, y + 2] for x in (0, 2, 4) for y in (0, 1)], np.float32
)  # of the cells


def network(xp, images, layout):
    """A detector of six cells whose outputs are laid out as those of others."""
    x = images.reshape(len(images), CELLS, 3) @ FEATURES
    sigmoid = lambda z: 1 / (1 + xp.exp(-z))  # noqa: E731
    n, c = len(images), CLASSES_
    boxes = xp.concatenate([2 + 2 * xp.tanh(x[..., :2]), 1 + sigmoid(x[..., 2:4])], -1)
    if layout == "yolov8":
        return xp.concatenate([boxes, sigmoid(x[..., 4 : 4 + c])], -1).swapaxes(1, 2)
    if layout == "yolov5":
        return xp.concatenate([boxes, sigmoid(x[..., 4 : 5 + c])], -1)
    if layout == "detr":
        return {"pred_logits": x[..., 4 : 5 + c], "pred_boxes": sigmoid(x[..., :4])}
    if layout == "deformable-detr":
        return {"logits": x[..., 4 : 4 + c], "pred_boxes": sigmoid(x[..., :4])}
    proposals = xp.broadcast_to(xp.asarray(PROPOSALS)[None], (n, CELLS, 4))
    return {
        "class_logits": x[..., :c],
        "box_regression": x[..., 3 : 3 + 4 * c],
        "proposals": proposals,
    }


def corners(x, y, width, height):
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def softmax(logits):
    exponentials = np.exp(logits - max(logits))
    return exponentials / exponentials.sum()


def read(outputs, layout, n):
    """Image n's detections, one after the other: a box for each class, scores and objectness."""
    c = CLASSES_
    for m in range(CELLS):
        if layout == "yolov8":
            row = outputs[n, :, m]
            yield [corners(*row[:4])] * c, row[4:], 1
        elif layout == "yolov5":
            row = outputs[n, m]
            yield [corners(*row[:4])] * c, row[4] * row[5:], row[4]
        elif layout == "detr":
            probabilities = softmax(outputs["pred_logits"][n, m])
            box = corners(*outputs["pred_boxes"][n, m])
            yield [box] * c, probabilities[:-1], 1 - probabilities[-1]
        elif layout == "deformable-detr":
            box = corners(*outputs["pred_boxes"][n, m])
            yield [box] * c, 1 / (1 + np.exp(-outputs["logits"][n, m])), 1
        else:
            probabilities = softmax(outputs["class_logits"][n, m])
            x0, y0, x1, y1 = outputs["proposals"][n, m]
            boxes = []
            for k in range(c):
                dx, dy, dw, dh = outputs["box_regression"][n, m, 4 * k : 4 * k + 4]
                width, height = x1 - x0, y1 - y0
                x, y = (x0 + x1) / 2 + dx / 10 * width, (y0 + y1) / 2 + dy / 10 * height
                boxes.append(corners(x, y, width * np.exp(dw / 5), height * np.exp(dh / 5)))
            yield boxes, [0, *probabilities[1:]], 1 - probabilities[0]


def iou(a, b):
    sides = [max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


def cosine(a, b):
    return np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)


LAYOUTS = ("yolov5", "yolov8", "detr", "deformable-detr", "faster-rcnn")
BOX = np.array([0.2, 0.1, 3.0, 2.5])
PICTURES = RNG.uniform(size=(2, 2, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read_as_a_loop_reads_them(layout):
    box = BOX / 4 if "detr" in layout else BOX
    wanted = [[0.1, 0.7, 0.3], [0.0, 0.0, 1.0]]
    targets = scores.Detections([box, box], wanted)

    @jax.jit
    def ask(outputs):
        ones = [scores.prediction(m, layout=layout)(outputs) for m in range(CELLS)]
        return (
            scores.detection(box, layout=layout)(outputs),
            scores.d_rise(targets, layout=layout)(outputs),
            jnp.stack(ones, 1),
            scores.prediction(1, of_box=True, layout=layout)(outputs),
        )

    outputs = network(np, PICTURES, layout)
    of_box, again, ones, corners_of_one = ask(outputs)
    for n in range(2):
        found = list(read(outputs, layout, n))
        best = [max(iou(boxes[c], box) * p[c] for boxes, p, _ in found) for c in range(CLASSES_)]
        np.testing.assert_allclose(of_box[n], best, rtol=1e-4)
        overlaps = [max(iou(one, box) for one in boxes) for boxes, _, _ in found]
        for t in range(2):
            each = [o * cosine(p, wanted[t]) for _, p, o in found]
            expected = max(np.multiply(each, overlaps))
            np.testing.assert_allclose(again[n, t], expected, rtol=1e-4)
        np.testing.assert_allclose(ones[n], [p for _, p, _ in found], rtol=1e-4)
        expected = np.ravel(found[1][0])[: corners_of_one.shape[1]]
        np.testing.assert_allclose(corners_of_one[n], expected, rtol=1e-4)


def test_score_cam_takes_a_detection_as_its_question():
    """The scores of masked images are those that a loop over the masks finds."""
    layout = "faster-rcnn"

    def model(x):
        return network(jnp, x, layout), x

    image = jnp.asarray(PICTURES[:1])
    targets = scores.detected(network(jnp, image, layout), 1, layout=layout)
    found = score_cam(model, image, 0, score=scores.d_rise(targets, layout=layout))
    for channel in range(3):
        mask = PICTURES[0, ..., channel]
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        masked = network(np, PICTURES[:1] * mask[..., None], layout)
        expected = max(
            o * cosine(p, targets.scores[0]) * max(iou(box, targets.boxes[0]) for box in boxes)
            for boxes, p, o in read(masked, layout, 0)
        )
        np.testing.assert_allclose(found.scores[0, channel], expected, rtol=1e-4)


def test_hires_cam_of_one_prediction_is_odam():
    """The products of activations and one prediction's slopes, which are known here."""
    mixing = RNG.uniform(size=(CELLS, CELLS)).astype(np.float32)
    classes = RNG.normal(size=(3, CLASSES_)).astype(np.float32)

    def model(x, edit=None):
        x = x if edit is None else edit(x)
        logits = jnp.asarray(mixing)[None] @ x.reshape(-1, CELLS, 3) @ classes
        boxes = jnp.broadcast_to(jnp.asarray(PROPOSALS)[None], (len(x), CELLS, 4))
        return (boxes, jax.nn.sigmoid(logits)), x

    found = hires_cam(model, jnp.asarray(PICTURES), 2, score=scores.prediction(4))
    # The slope of the sigmoid is the same for all cells, and the map is scaled.
    maps = mixing[4] * (PICTURES.reshape(2, CELLS, 3) @ classes[:, 2])
    expected = [reference.finish(each, (2, 3)) for each in maps.reshape(2, 2, 3)]
    np.testing.assert_allclose(found.heatmap, expected, rtol=1e-4, atol=1e-5)


def test_grad_cam_of_a_region_is_seg_grad_cam():
    """Weights are slopes of the region's mean logit, through units that only some cells open."""
    hidden = RNG.normal(size=(3, 5)).astype(np.float32)
    classes = RNG.normal(size=(5, CLASSES_)).astype(np.float32)

    def model(x, edit=None):
        x = x if edit is None else edit(x)
        return jax.nn.relu(x @ hidden) @ classes, x

    region = np.array([[1, 0, 1], [0, 0, 1]])
    image = PICTURES[:1]
    found = grad_cam(model, jnp.asarray(image), 0, score=scores.segmentation(region))
    weights = np.zeros(3)
    for i, j in zip(*np.nonzero(region), strict=True):
        open_units = image[0, i, j] @ hidden > 0
        weights += hidden @ (open_units * classes[:, 0]) / region.sum() / CELLS
    np.testing.assert_allclose(found.weights[0], weights, rtol=1e-4)
    expected = reference.finish(image[0] @ weights, (2, 3))
    np.testing.assert_allclose(found.heatmap[0], expected, rtol=1e-4, atol=1e-5)


def test_padded_detections_count_for_their_class_and_padding_for_none():
    outputs = {
        "boxes": jnp.array([[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]]]),
        "labels": jnp.array([[2, 0, 0]]),
        "scores": jnp.array([[0.5, 0.9, 0.0]]),
    }
    found = scores.detection([0, 0, 2, 2], layout=scores.labelled(3))(outputs)
    np.testing.assert_allclose(found, [[0.45, 0, 0.5]], rtol=1e-6)
    like = scores.d_rise(scores.Detections([[0, 0, 2, 2]], [[0, 0, 1]]), layout=scores.labelled(3))
    np.testing.assert_allclose(like(outputs), [[1.0]], rtol=1e-6)


def test_detected_are_the_surest_that_do_not_overlap():
    low = RNG.uniform(size=(9, 2))
    boxes = np.concatenate([low, low + RNG.uniform(0.3, 0.6, (9, 2))], 1).astype(np.float32)
    sure = RNG.uniform(size=(9, 2)).astype(np.float32)
    kept = []
    for m in np.argsort(-sure.max(1)):
        if all(iou(boxes[m], boxes[other]) < 0.2 for other in kept):
            kept.append(int(m))
    outputs = jnp.asarray(boxes)[None], jnp.asarray(sure)[None]
    found = scores.detected(outputs, len(kept) + 1, overlap=0.2)
    assert found.index.tolist() == [*kept, kept[0]]
    assert found.classes.tolist() == [int(sure[m].argmax()) for m in [*kept, kept[0]]]
    np.testing.assert_array_equal(found.boxes, boxes[[*kept, kept[0]]])
    with pytest.raises(ValueError, match="of 2 images, wanted 1"):
        scores.detected(tuple(jnp.concatenate([each, each]) for each in outputs))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: scores.detection(BOX, layout="yolo")(o), "'yolov5', 'detr'.*scores.Detections"),
        (
            lambda o: scores.detection(BOX, layout="detr", activation=jax.nn.softmax)(o),
            "layout='detr' has its own",
        ),
        (lambda o: scores.prediction(6, layout="detr")(o), "index is 6.*0 to 5"),
        (lambda o: scores.detection(BOX, layout="yolov5")(o), r"\(N, M, 5 \+ classes\)"),
        (lambda o: scores.detection(BOX, layout="faster-rcnn")(o), "wanted.*box_regression"),
        (
            lambda o: scores.d_rise(scores.Detections([BOX], [[1, 0]]), layout="detr")(o),
            "scores of 2 classes, and the outputs of 3",
        ),
        (lambda o: scores.d_rise(scores.Detections(BOX, [1, 0, 0])), r"boxes \(4,\)"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    outputs = jax.tree.map(jnp.asarray, network(np, PICTURES, "detr"))
    with pytest.raises(ValueError, match=message):
        make(outputs)
