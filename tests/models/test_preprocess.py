import dataclasses
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from scorecam_jax.models import Preprocess

PLAIN = Preprocess((20, 20), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
FITS = pytest.mark.parametrize(
    "preprocess",
    [
        dataclasses.replace(PLAIN, fit="crop"),
        dataclasses.replace(PLAIN, fit="crop", zoom=0.8),
        dataclasses.replace(PLAIN, fit="pad"),
        dataclasses.replace(PLAIN, fit="pad", zoom=0.8),
        dataclasses.replace(PLAIN, fit="stretch"),
        dataclasses.replace(PLAIN, fit="stretch", zoom=0.8),
        dataclasses.replace(PLAIN, fit="crop", size=(20, 30)),
        dataclasses.replace(PLAIN, fit="pad", size=(30, 20)),
    ],
    ids=lambda p: f"{p.fit}-{p.zoom}-{p.size}",
)
SIZES = pytest.mark.parametrize("image_size", [(61, 40), (40, 61), (50, 50), (12, 9), (200, 33)])


def ramp(size):
    """Each pixel's own centre, x in red and y in green."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    return np.stack([x, y, np.zeros_like(x)], -1)


@FITS
@SIZES
def test_the_input_shows_the_box(preprocess, image_size):
    """A bilinear resize of a ramp is that ramp, so the input's pixels tell where they came from."""
    preprocess = dataclasses.replace(preprocess, resample=Image.Resampling.BILINEAR)
    pixels = np.asarray(preprocess(Image.fromarray(ramp(image_size).astype(np.uint8))))
    left, top, right, bottom = preprocess.box(image_size)
    ((x, y, across, down),) = preprocess.boxes(
        np.array([[left, top, right - left, bottom - top]]), image_size
    )
    interior = pixels[round(y) : round(y + down), round(x) : round(x + across)]
    columns = left + (np.arange(interior.shape[1]) + 0.5) * (right - left) / across - 0.5
    middle = slice(interior.shape[1] // 4, -(interior.shape[1] // 4) or None)
    # Half a grey level for truncating the ramp to integers, half for Pillow's rounding.
    np.testing.assert_allclose(
        interior[interior.shape[0] // 2, middle, 0], columns[middle], atol=1.01
    )


@FITS
@SIZES
def test_restoring_a_ramp_puts_every_pixel_where_it_was(preprocess, image_size):
    left, top, right, bottom = preprocess.box(image_size)
    place = preprocess.boxes(np.array([left, top, right - left, bottom - top]), image_size)
    # The photograph's coordinates of each of the input's pixels, as a heatmap.
    height, width = preprocess.size
    x = left + (np.arange(width) + 0.5 - place[0]) * (right - left) / place[2]
    y = top + (np.arange(height) + 0.5 - place[1]) * (bottom - top) / place[3]
    heatmaps = np.stack(np.broadcast_arrays(x[None, :], y[:, None])).astype(np.float32)
    restored = preprocess.restore(heatmaps, image_size)
    expected = np.moveaxis(ramp(image_size), -1, 0)[:2]
    seen = (
        (expected[0] > left) & (expected[0] < right) & (expected[1] > top) & (expected[1] < bottom)
    )
    assert restored.shape == (2, image_size[1], image_size[0])
    assert np.all(restored[:, ~seen] == 0)
    # Within half an input pixel of the edge there is nothing to interpolate towards.
    edge_x, edge_y = (right - left) / place[2] / 2, (bottom - top) / place[3] / 2
    inner = (
        (expected[0] >= left + edge_x)
        & (expected[0] <= right - edge_x)
        & (expected[1] >= top + edge_y)
        & (expected[1] <= bottom - edge_y)
    )
    assert inner.any()
    np.testing.assert_allclose(restored[:, inner], expected[:, inner], rtol=1e-5, atol=1e-4)


@SIZES
def test_restoring_a_constant_is_constant_where_seen(image_size):
    preprocess = dataclasses.replace(PLAIN, fit="crop", zoom=0.7)
    restored = preprocess.restore(np.full(preprocess.size, 0.3, np.float32), image_size)
    left, top, right, bottom = preprocess.box(image_size)
    area = (right - left) * (bottom - top)
    assert set(np.unique(restored.round(5))) == {np.float32(0), np.float32(0.3)}
    perimeter = 2 * (right - left + bottom - top)
    assert abs((restored > 0).sum() - area) <= perimeter / 2 + 1


def test_restoring_at_the_inputs_own_size_changes_nothing():
    heatmap = np.random.default_rng(0).uniform(size=(20, 20)).astype(np.float32)
    for fit in ("crop", "pad", "stretch"):
        restored = dataclasses.replace(PLAIN, fit=fit).restore(heatmap, (20, 20))
        np.testing.assert_allclose(restored, heatmap, atol=1e-6)


def test_a_lit_cell_lands_on_its_place():
    """An input of 2x2 on a photograph of 4x2: the crop is the middle, doubled."""
    preprocess = dataclasses.replace(PLAIN, size=(2, 2), fit="crop")
    restored = preprocess.restore(np.float32([[0, 1], [0, 0]]), (4, 2))
    np.testing.assert_array_equal(restored, [[0, 0, 1, 0], [0, 0, 0, 0]])


def dense(pixels, seen, size, place):
    """The matrix of linear interpolation: the photograph's pixels by the input's."""
    centres = np.arange(pixels) + 0.5
    at = place[0] + (centres - seen[0]) * (place[1] / (seen[1] - seen[0])) - 0.5
    at = np.clip(at, place[0], place[0] + place[1] - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)))
    return weights * ((seen[0] < centres) & (centres < seen[1]))[:, None]


@FITS
@SIZES
def test_restoring_is_a_product_with_two_matrices(preprocess, image_size):
    heatmap = np.random.default_rng(0).uniform(-1, 1, (2, *preprocess.size)).astype(np.float32)
    left, top, right, bottom = preprocess.box(image_size)
    whole = np.array([left, top, right - left, bottom - top])
    x, y, across, down = preprocess.boxes(whole, image_size)
    columns = dense(image_size[0], (left, right), preprocess.size[1], (x, across))
    rows = dense(image_size[1], (top, bottom), preprocess.size[0], (y, down))
    expected = rows @ heatmap.astype(float) @ columns.T
    restored = preprocess.restore(heatmap, image_size)
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, expected, atol=1e-6)


@pytest.mark.parametrize("image_size", [(100_000, 10), (1, 200_000)])
def test_restoring_takes_memory_in_proportion_to_the_pixels(image_size):
    preprocess = dataclasses.replace(PLAIN, size=(224, 224))
    heatmap = np.ones((224, 224), np.float32)
    tracemalloc.start()
    preprocess.restore(heatmap, image_size)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 150e6


def test_boxes_are_carried_and_cut():
    crop = dataclasses.replace(PLAIN, fit="crop")  # of 80x40: the columns 20 to 60, halved
    boxes = np.array([[30, 10, 20, 10], [0, 0, 30, 40], [70, 0, 10, 10]])
    expected = [[5, 5, 10, 5], [0, 0, 5, 20], [20, 0, 0, 5]]
    np.testing.assert_allclose(crop.boxes(boxes, (80, 40)), expected)
    pad = dataclasses.replace(PLAIN, fit="pad")  # of 80x40: a quarter, in the rows 5 to 15
    np.testing.assert_allclose(pad.boxes(boxes[0], (80, 40)), [7.5, 7.5, 5, 2.5])


def test_padding_has_the_mean_colour_and_becomes_zero():
    preprocess = Preprocess((20, 20), mean=(10.0, 20.0, 30.0), std=(2.0, 2.0, 2.0), fit="pad")
    inputs = preprocess(Image.new("RGB", (40, 20), (14, 20, 30)))
    assert np.all(inputs[:5] == 0)
    assert np.all(inputs[15:] == 0)
    assert np.all(inputs[5:15] == np.float32([2, 0, 0]))
    assert inputs.dtype == np.float32


def test_the_crop_equals_resizing_then_cropping():
    """The way torchvision says it: the short side to 256, then 224 from the centre."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8))
    photograph = small.resize((768, 512), Image.Resampling.BICUBIC)
    resized = photograph.resize((384, 256), Image.Resampling.BILINEAR)
    expected = resized.crop((80, 16, 304, 240))
    preprocess = dataclasses.replace(
        PLAIN, size=(224, 224), zoom=224 / 256, resample=Image.Resampling.BILINEAR
    )
    np.testing.assert_allclose(preprocess(photograph), np.asarray(expected), atol=1)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="'crop', 'pad' or 'stretch'"):
        dataclasses.replace(PLAIN, fit="squash")
    with pytest.raises(ValueError, match="zoom"):
        dataclasses.replace(PLAIN, zoom=1.5)


def test_the_nearest_value_keeps_edges_sharp():
    heatmap = np.random.default_rng(0).random((4, 4), dtype=np.float32)
    restored = dataclasses.replace(PLAIN, size=(4, 4)).restore(heatmap, (20, 12), nearest=True)
    np.testing.assert_array_equal(restored[:, :4], 0)
    np.testing.assert_array_equal(restored[:, 16:], 0)
    np.testing.assert_array_equal(restored[:, 4:16], np.kron(heatmap, np.ones((3, 3))))


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.0,) * 3, (0.5,) * 3)],
)
def test_numbers_for_values_from_0_to_1_are_refused(mean, std):
    with pytest.raises(ValueError, match="multiply statistics of values from 0 to 1 by 255"):
        Preprocess((8, 8), mean=mean, std=std)
    scaled = [tuple(255 * value for value in values) for values in (mean, std)]
    Preprocess((8, 8), *scaled)
    with pytest.raises(ValueError, match="above 0"):
        Preprocess((8, 8), mean=mean, std=(0.0, 1.0, 1.0))


def test_channels_may_come_first():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
    last = Preprocess((8, 6), (1.0, 2.0, 3.0), (50.0,) * 3)
    first = dataclasses.replace(last, channels_first=True)
    np.testing.assert_array_equal(first(image), last(image).transpose(2, 0, 1))


@FITS
def test_the_mask_of_a_box_is_carried_as_the_box_is(preprocess):
    for size in ((40, 30), (31, 57), (20, 24)):
        mask = np.zeros((size[1], size[0]), bool)
        mask[7:19, 3:15] = True
        x, y, across, down = preprocess.boxes(np.array([3.0, 7.0, 12.0, 12.0]), size)
        near = 1e-9  # a centre that lies on an edge belongs to either side
        rows, columns = (np.arange(side) + 0.5 for side in preprocess.size)
        surely, perhaps = (
            np.outer(
                (y + less < rows) & (rows < y + down - less),
                (x + less < columns) & (columns < x + across - less),
            )
            for less in (near, -near)
        )
        got = preprocess.masks(np.stack([mask, ~mask]), size)
        assert (got[0] <= perhaps).all()
        assert (got[0] >= surely).all()
        assert not (got[0] & got[1]).any()
