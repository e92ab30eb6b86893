import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import sklearn.metrics

from scorecam_jax import metrics
from scorecam_jax.metrics.localization import cover


def blobs(*shape, seed=0, smoothness=2):
    """Smooth random maps with several hills of different heights."""
    noise = np.random.default_rng(seed).random(shape)
    rank = len(shape) - 1
    smooth = scipy.ndimage.gaussian_filter(noise, (0, *(smoothness,) * rank))
    low = smooth.min(tuple(range(1, rank + 1)), keepdims=True)
    return (smooth - low).astype(np.float32)


def test_energy_is_the_share_of_the_sum_inside_rows_and_columns():
    heatmaps = np.random.default_rng(0).random((3, 20, 30)).astype(np.float32)
    boxes = np.array([[[2, 3, 10, 5]], [[0, 0, 30, 20]], [[25, 15, 5, 5]]], np.float32)
    inside = [heatmaps[0, 3:8, 2:12], heatmaps[1], heatmaps[2, 15:20, 25:30]]
    expected = [part.sum() / whole.sum() for part, whole in zip(inside, heatmaps, strict=True)]
    np.testing.assert_allclose(metrics.energy_pointing_game(heatmaps, boxes), expected, rtol=1e-5)


def test_energy_counts_overlapping_boxes_once_and_empty_ones_never():
    heatmaps = np.random.default_rng(0).random((1, 9, 9)).astype(np.float32)
    boxes = np.array([[[1, 1, 4, 4], [3, 3, 4, 4], [0, 0, 0, 0], [8, 8, 0, 1]]], np.float32)
    inside = np.zeros((9, 9), bool)
    inside[1:5, 1:5] = inside[3:7, 3:7] = True
    expected = heatmaps[0][inside].sum() / heatmaps.sum()
    np.testing.assert_allclose(metrics.energy_pointing_game(heatmaps, boxes), [expected], rtol=1e-5)


def test_the_uniform_maps_energy_is_the_boxes_share_of_the_area():
    boxes = np.array([[[1.3, 2.6, 7.25, 3.5]]], np.float32)
    energy = metrics.energy_pointing_game(np.ones((1, 12, 16), np.float32), boxes)
    np.testing.assert_allclose(energy, [7.25 * 3.5 / (12 * 16)], rtol=1e-5)


def test_the_energy_of_an_empty_map_is_zero():
    boxes = np.ones((1, 1, 4), np.float32)
    np.testing.assert_array_equal(metrics.energy_pointing_game(np.zeros((1, 5, 5), "f"), boxes), 0)


def test_boxes_have_as_many_sides_as_the_map_has_axes_last_axis_first():
    volume = np.random.default_rng(0).random((1, 5, 6, 7)).astype(np.float32)
    box = np.array([[[1, 2, 3, 4, 3, 2]]], np.float32)  # x, y, z, width, height, depth
    expected = volume[0, 3:5, 2:5, 1:5].sum() / volume.sum()
    np.testing.assert_allclose(metrics.energy_pointing_game(volume, box), [expected], rtol=1e-5)
    signal = np.arange(8, dtype=np.float32)[None]
    box = np.array([[[6, 2]]], np.float32)
    np.testing.assert_allclose(metrics.energy_pointing_game(signal, box), [13 / 28], rtol=1e-5)
    np.testing.assert_array_equal(metrics.pointing_game(signal, box), 1)


def test_cover_agrees_with_counting_fine_subpixels():
    generator = np.random.default_rng(0)
    boxes = np.concatenate(
        [generator.uniform(0, 6, (4, 1, 2)), generator.uniform(1, 5, (4, 1, 2))], 2
    )
    boxes = np.round(boxes * 20) / 20  # edges at twentieths of a pixel
    fine = (np.arange(8 * 20) + 0.5) / 20
    for box, got in zip(boxes[:, 0], cover(jnp.asarray(boxes, jnp.float32), (7, 8)), strict=True):
        x, y, width, height = box
        rows = ((y < fine[: 7 * 20]) & (fine[: 7 * 20] < y + height)).reshape(7, 20).mean(1)
        columns = ((x < fine) & (fine < x + width)).reshape(8, 20).mean(1)
        np.testing.assert_allclose(got, np.outer(rows, columns), atol=1e-5)


@pytest.mark.parametrize(("place", "hit"), [((4, 6), 1), ((6, 4), 0), ((3, 9), 1), ((3, 10), 0)])
def test_the_maximum_counts_by_row_and_column(place, hit):
    heatmap = np.full((1, 12, 12), 0.5, np.float32)
    heatmap[0][place] = 1
    box = np.array([[[5, 2, 5, 4]]], np.float32)  # rows 2 to 5, columns 5 to 9
    assert metrics.pointing_game(heatmap, box)[0] == hit


@pytest.mark.parametrize(("size", "hit"), [(224, 1), (448, 1), (48, 0)])
def test_the_tolerance_that_has_a_name_scales_with_the_input(size, hit):
    heatmap = np.zeros((1, size, size + 9), np.float32)
    heatmap[0, 5, 5] = 1
    box = np.array([[[19, 0, 4, size]]], np.float32)  # 13.5 pixels from the maximum
    assert metrics.tolerance_of(heatmap.shape[1:]) == 15 * size / 224
    assert metrics.scaled_pointing_game(heatmap, box)[0] == hit


def test_the_uniform_map_of_a_small_input_does_not_point_everywhere():
    box = np.array([[[20, 20, 8, 8]]], np.float32)
    rows, columns = np.indices((48, 48)) + 0.5
    distance = np.hypot(np.maximum(abs(columns - 24) - 4, 0), np.maximum(abs(rows - 24) - 4, 0))
    expected = (distance <= 15 * 48 / 224).mean()
    got = metrics.scaled_pointing_game(np.ones((1, 48, 48), np.float32), box)
    np.testing.assert_allclose(got, [expected], rtol=1e-5)


def test_the_implied_boxs_iou_is_that_with_the_best_box():
    heatmap = np.zeros((1, 10, 12), np.float32)
    heatmap[0, 2:6, 3:9], heatmap[0, 3, 4], heatmap[0, 8, 1] = 0.5, 1, 0.9
    boxes = np.array([[[3, 2, 6, 2], [5, 2, 6, 4], [0, 0, 0, 0]]], np.float32)
    np.testing.assert_allclose(metrics.implied_box_iou(heatmap, boxes), [12 / 24], rtol=1e-6)
    boxes[0, 1] = [4, 2, 6, 4]
    np.testing.assert_allclose(metrics.implied_box_iou(heatmap, boxes), [20 / 28], rtol=1e-6)


def test_tolerance_is_the_distance_to_the_nearest_box():
    box = np.array([[[10, 10, 4, 4], [0, 0, 0, 0]]], np.float32)
    for place in np.ndindex(24, 24):
        heatmap = np.zeros((1, 24, 24), np.float32)
        heatmap[0][place] = 1
        centre = np.array(place) + 0.5
        distance = np.linalg.norm(centre - np.clip(centre, 10, 14))
        assert metrics.pointing_game(heatmap, box, 5)[0] == (distance <= 5), place


def test_a_flat_map_hits_as_often_as_a_blind_guess():
    box = np.array([[[0, 0, 4, 3]]], np.float32)
    got = metrics.pointing_game(np.ones((1, 6, 8), np.float32), box)
    np.testing.assert_allclose(got, [12 / 48])


def largest_part(heatmap, threshold):
    high = heatmap >= threshold * heatmap.max()
    labels, count = scipy.ndimage.label(high, np.ones((3,) * heatmap.ndim))
    sizes = [(labels == label + 1).sum() for label in range(count)]
    slices = scipy.ndimage.find_objects(labels)[int(np.argmax(sizes))][::-1]
    return [one.start for one in slices] + [one.stop - one.start for one in slices]


@pytest.mark.parametrize("shape", [(40,), (23, 31), (9, 10, 11)])
def test_boxes_enclose_scipys_largest_component(shape):
    heatmaps = blobs(8, *shape, smoothness=1.5)
    for threshold in (0.3, 0.5, 0.7, 0.85):
        got = metrics.boxes_from_heatmap(heatmaps, threshold)
        expected = [largest_part(heatmap, np.float32(threshold)) for heatmap in heatmaps]
        np.testing.assert_array_equal(got, expected)


def test_a_winding_component_is_one():
    spiral = np.zeros((15, 15), np.float32)
    row, column, steps = 0, -1, [15, 14, 14, 12, 12, 10, 10, 8, 8, 6, 6, 4, 4]
    for turn, length in enumerate(steps):
        for _ in range(length):
            row += (0, 1, 0, -1)[turn % 4]
            column += (1, 0, -1, 0)[turn % 4]
            spiral[row, column] = 1
    assert scipy.ndimage.label(spiral, np.ones((3, 3)))[1] == 1
    np.testing.assert_array_equal(metrics.boxes_from_heatmap(spiral[None], 0.5), [[0, 0, 15, 15]])


def test_an_empty_map_has_an_empty_box():
    np.testing.assert_array_equal(
        metrics.boxes_from_heatmap(np.zeros((1, 5, 6), "f"), 0.2), [[0] * 4]
    )


def test_iou_agrees_with_counting_pixels():
    generator = np.random.default_rng(1)
    boxes = np.concatenate(
        [generator.integers(0, 10, (50, 2)), generator.integers(1, 10, (50, 2))], 1
    )
    masks = np.zeros((50, 20, 20), bool)
    for mask, (x, y, width, height) in zip(masks, boxes, strict=True):
        mask[y : y + height, x : x + width] = True
    a, b = masks[:25], masks[25:]
    expected = (a & b).sum((1, 2)) / (a | b).sum((1, 2))
    got = metrics.box_iou(jnp.asarray(boxes[:25]), jnp.asarray(boxes[25:]))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_array_equal(metrics.box_iou(jnp.zeros((1, 4)), jnp.zeros((1, 4))), 0)


def test_box_ious_are_the_best_of_any_box_at_each_threshold():
    heatmaps = blobs(3, 20, 25)
    boxes = np.array([[[3, 4, 9, 8], [0, 0, 0, 0]]] * 3, np.float32)
    boxes[1, 1] = [10, 2, 12, 12]
    got = metrics.box_ious(heatmaps, boxes, (0.4, 0.6))
    for row, heatmap in enumerate(heatmaps):
        for column, threshold in enumerate((0.4, 0.6)):
            found = jnp.asarray(largest_part(heatmap, np.float32(threshold)), jnp.float32)
            each = [metrics.box_iou(found, jnp.asarray(box)) for box in boxes[row]]
            np.testing.assert_allclose(got[row, column], max(each), rtol=1e-6)


def test_max_box_acc_leaves_the_image_itself_out_of_the_choice():
    ious = np.random.default_rng(0).random((12, 5)).astype(np.float32)
    right, expected = ious >= 0.4, []
    for image in range(12):
        accuracy = np.delete(right, image, 0).mean(0)
        expected.append(right[image][np.isclose(accuracy, accuracy.max())].mean())
    np.testing.assert_allclose(metrics.max_box_acc(ious, 0.4), expected, rtol=1e-6)


def painted(boxes, shape):
    """Boxes with whole edges as masks."""
    masks = np.zeros((len(boxes), *shape), bool)
    for mask, of_image in zip(masks, boxes, strict=True):
        for box in of_image.astype(int):
            rank = len(shape)
            mask[
                tuple(slice(a, a + n) for a, n in zip(box[:rank], box[rank:], strict=True))[::-1]
            ] = True
    return masks


BOXES = np.array([[[3, 2, 9, 7], [15, 11, 4, 5]], [[1, 4, 6, 8], [0, 0, 0, 0]]], np.float32)


@pytest.mark.parametrize(
    "metric",
    [
        "energy_pointing_game", "scaled_pointing_game", "relevance_rank_accuracy",
        "top_k_intersection", "roc_auc", "region_iou",
    ],
)  # fmt: skip
def test_masks_of_boxes_are_measured_as_the_boxes_are(metric):
    heatmaps = np.concatenate([blobs(2, 16, 20), 1 - blobs(2, 16, 20, seed=3)])
    boxes = np.concatenate([BOXES] * 2)
    function = getattr(metrics, metric)
    found = function(heatmaps, painted(boxes, (16, 20)))
    np.testing.assert_allclose(found, function(heatmaps, boxes), rtol=1e-5)


def test_the_distance_from_a_mask_is_that_from_its_pixels_squares():
    mask = np.random.default_rng(0).random((1, 9, 11)) > 0.97
    lows = np.argwhere(mask[0])
    for place in np.ndindex(9, 11):
        heatmap = np.zeros((1, 9, 11), np.float32)
        heatmap[0][place] = 1
        centre = np.array(place) + 0.5
        distance = np.linalg.norm(centre - np.clip(centre, lows, lows + 1), axis=1).min()
        assert metrics.pointing_game(heatmap, mask, 2.55)[0] == (distance <= 2.55), place
    assert metrics.pointing_game(heatmap, 0 * mask > 0, 99.0)[0] == 0


def test_boxes_are_compared_with_the_box_around_a_mask():
    heatmaps, mask = blobs(2, 16, 20), np.zeros((2, 16, 20), bool)
    mask[0, 3, 4] = mask[0, 9, 6] = mask[1, 2:5, 8:] = True
    np.testing.assert_array_equal(metrics.boxes_from_masks(mask), [[4, 3, 3, 7], [8, 2, 12, 3]])
    boxes = np.array([[[4, 3, 3, 7]], [[8, 2, 12, 3]]], np.float32)
    np.testing.assert_array_equal(
        metrics.box_ious(heatmaps, mask, (0.3, 0.6)), metrics.box_ious(heatmaps, boxes, (0.3, 0.6))
    )


def test_rank_accuracy_and_top_k_count_the_highest_pixels():
    heatmaps, masks = blobs(3, 9, 10, smoothness=1), blobs(3, 9, 10, seed=1) > 0.1
    for k in (None, 7, 0.1):
        for row, (heatmap, mask) in enumerate(zip(heatmaps, masks, strict=True)):
            count = mask.sum() if k is None else k if isinstance(k, int) else 9
            expected = mask.ravel()[np.argsort(-heatmap, axis=None)[:count]].mean()
            if k is None:
                got = metrics.relevance_rank_accuracy(heatmaps, masks)
            else:
                got = metrics.top_k_intersection(heatmaps, masks, k)
            np.testing.assert_allclose(got[row], expected, rtol=1e-5)


def test_equal_pixels_count_as_one_drawn_from_them_would():
    heatmap = np.array([[[0.9, 0.5, 0.5, 0.5, 0.1]]], np.float32)
    mask = np.array([[[True, True, False, False, True]]])
    np.testing.assert_allclose(metrics.relevance_rank_accuracy(heatmap, mask), [(1 + 2 / 3) / 3])
    np.testing.assert_allclose(metrics.top_k_intersection(heatmap, mask, 2), [(1 + 1 / 3) / 2])
    flat = np.ones((1, 1, 5), np.float32)
    np.testing.assert_allclose(metrics.relevance_rank_accuracy(flat, mask), [3 / 5], rtol=1e-6)
    np.testing.assert_array_equal(metrics.relevance_rank_accuracy(flat, ~mask & mask), 0)


def test_auc_is_scikit_learns_ties_included():
    heatmaps = np.round(blobs(4, 9, 10, smoothness=1) * 8) / 8
    masks = blobs(4, 9, 10, seed=1) > 0.1
    expected = [
        sklearn.metrics.roc_auc_score(mask.ravel(), heatmap.ravel())
        for heatmap, mask in zip(heatmaps, masks, strict=True)
    ]
    np.testing.assert_allclose(metrics.roc_auc(heatmaps, masks), expected, rtol=1e-5)
    everywhere = np.ones_like(masks)
    np.testing.assert_array_equal(metrics.roc_auc(heatmaps, everywhere), 0.5)
    np.testing.assert_array_equal(metrics.roc_auc(heatmaps, ~everywhere), 0.5)


def test_region_iou_counts_high_pixels_and_shares_of_cut_ones():
    heatmaps, masks = blobs(3, 9, 10, smoothness=1), blobs(3, 9, 10, seed=1) > 0.1
    for threshold in (0.3, 0.7):
        high = heatmaps >= threshold * heatmaps.max((1, 2), keepdims=True)
        expected = (high & masks).sum((1, 2)) / (high | masks).sum((1, 2))
        got = metrics.region_iou(heatmaps, masks, threshold)
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    high = np.zeros((1, 4, 4), np.float32)
    high[0, 1, 1] = 1
    cut = np.array([[[1.5, 1, 1, 1]]], np.float32)
    np.testing.assert_allclose(metrics.region_iou(high, cut), [0.5 / 1.5], rtol=1e-6)


def test_focus_is_the_share_of_positive_values_in_the_tiles_of_the_class():
    heatmaps = np.random.default_rng(0).normal(size=(2, 9, 10)).astype(np.float32)
    tiles = np.array([[[True, False], [False, True]], [[False, False], [True, True]]])
    positive = np.maximum(heatmaps, 0)
    inside = [positive[0, :5, :5].sum() + positive[0, 5:, 5:].sum(), positive[1, 5:].sum()]
    np.testing.assert_allclose(
        metrics.focus(heatmaps, tiles), inside / positive.sum((1, 2)), rtol=1e-5
    )


def test_mosaics_show_two_images_of_the_class_and_two_of_others():
    images = np.broadcast_to(np.arange(7.0, dtype=np.float32)[:, None, None, None], (7, 4, 3, 2))
    labels = np.array([5, 5, 5, 8, 9, 9, 2])
    found = metrics.mosaics(images, labels, key=jax.random.key(0), count=40)
    assert found.inputs.shape == (40, 8, 6, 2)
    assert set(np.unique(found.targets)) == {5, 9}  # the others have one image each
    corners = np.asarray(found.inputs)[:, [[1, 1], [6, 6]], [[1, 4], [1, 4]], 0]
    np.testing.assert_array_equal(corners, found.images)
    for images_of, target, tiles in zip(found.images, found.targets, found.tiles, strict=True):
        assert len(np.unique(images_of)) == 4
        np.testing.assert_array_equal(labels[np.asarray(images_of)] == target, tiles)
        assert tiles.sum() == 2
    assert len(np.unique(found.tiles, axis=0)) == 6


def test_mosaics_that_cannot_be_drawn_are_refused():
    images = np.zeros((4, 3, 3, 1), np.float32)
    for labels in (np.array([0, 0, 1]), np.array([0.0, 0, 1, 1])):
        with pytest.raises(ValueError, match="wanted the index of a class for each of the 4"):
            metrics.mosaics(images, labels, key=jax.random.key(0), count=1)
    with pytest.raises(ValueError, match=r"\[3, 1\]"):
        metrics.mosaics(images, [1, 1, 1, 2], key=jax.random.key(0), count=1)


def test_regions_of_another_shape_are_refused():
    heatmaps = blobs(1, 12, 12)
    with pytest.raises(ValueError, match=r"masks have shape \(1, 12, 11\)"):
        metrics.energy_pointing_game(heatmaps, np.ones((1, 12, 11), bool))
    with pytest.raises(ValueError, match="make them boolean"):
        metrics.pointing_game(heatmaps, np.ones((1, 12, 12), np.uint8))
    with pytest.raises(ValueError, match="k is 145"):
        metrics.top_k_intersection(heatmaps, np.ones((1, 12, 12), bool), 145)


def test_all_run_under_jit():
    heatmaps, boxes = blobs(2, 12, 12), np.array([[[1, 2, 5, 6]]] * 2, np.float32)
    for metric in (metrics.energy_pointing_game, metrics.pointing_game, metrics.box_ious):
        inner = jax.jit(lambda h, b, metric=metric: metric(h, b))(heatmaps, boxes)
        np.testing.assert_allclose(inner, metric(heatmaps, boxes), rtol=1e-6)
