"""Outlines of objects, as masks."""

import json

import numpy as np
import pytest
import skimage.draw
from PIL import Image

from scorecam_jax.reading.annotation_files.outlines import Outline, outline_of, painted, runs_of
from scorecam_jax.reading.annotations import mask_of, read_annotations

SIZE = (30, 20)  # width and height
RANDOM = np.random.default_rng(0)


def test_a_polygon_holds_the_pixels_whose_centre_is_within():
    for _ in range(20):
        corners = RANDOM.uniform(-3, 33, (7, 2))
        expected = skimage.draw.polygon2mask((20, 30), corners[:, ::-1] - 0.5)
        got = painted(Outline([corners.ravel().tolist()]), SIZE)
        assert (got != expected).mean() < 0.002  # its centres on edges are decided otherwise
    box = painted(Outline([[2, 3, 9, 3, 9, 7, 2, 7]]), SIZE)
    assert box[3:7, 2:9].all()
    assert box.sum() == 28


def test_run_lengths_go_down_the_columns():
    mask = RANDOM.random((20, 30)) > 0.5
    for shown in (mask, ~mask, mask & False, mask | True):
        outline = runs_of(shown)
        assert sum(outline.counts) == 600
        np.testing.assert_array_equal(painted(outline, SIZE), shown)
    two = Outline([], [1, 2, 3], (3, 2))
    np.testing.assert_array_equal(painted(two, (2, 3)), [[0, 0], [1, 0], [1, 0]])


def compressed(counts):
    """COCO's text, as `rleToString` of its tools writes it."""
    text = ""
    for place, count in enumerate(counts):
        value = count - (counts[place - 2] if place > 2 else 0)
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != -1 if bits & 16 else value != 0
            text += chr((bits | (32 if more else 0)) + 48)
    return text


def test_compressed_run_lengths_are_those_of_cocos_tools():
    # 6, 3, 2, 3, 2, 3, 6, of which those from the fourth on are 0, 0, 0 and 4 more than the second
    # before, a letter each from "0" on.
    middle = np.zeros((5, 5), bool)
    middle[1:4, 1:4] = True
    np.testing.assert_array_equal(painted(Outline([], "6320004", (5, 5)), (5, 5)), middle)
    for _ in range(5):
        mask = RANDOM.random((20, 30)) > 0.9
        outline = outline_of({"size": [20, 30], "counts": compressed(runs_of(mask).counts)}, SIZE)
        np.testing.assert_array_equal(painted(outline, SIZE), mask)


@pytest.mark.parametrize(
    ("segmentation", "why"),
    [
        ([[1, 2, 3, 4]], "fewer than three corners"),
        ([[1, 2, 3, 4, 5, 6, 7]], "odd number"),
        ([[1, 2, 3, 4, 5, float("inf")]], "not finite"),
        ({"size": [30, 20], "counts": []}, "its size is 20 x 30, and the photograph's is 30 x 20"),
        ({"counts": []}, "size"),
        ("outline", "convert"),
    ],
)
def test_a_broken_outline_is_named_and_its_box_is_kept(tmp_path, segmentation, why):
    image = {"id": 1, "file_name": "a.jpg", "width": 30, "height": 20}
    entry = {"id": 3, "image_id": 1, "category_id": 5, "bbox": [1, 2, 9, 9]}
    document = {"images": [image], "annotations": [{**entry, "segmentation": segmentation}]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    found, (note,) = read_annotations(tmp_path / "a.json")
    assert found["a.jpg"].boxes == [(1, 2, 9, 9)]
    assert not found["a.jpg"].outlines
    assert "annotation 3" in note.what
    assert why in note.why


def test_the_mask_is_of_the_boxes_that_count_and_of_whole_boxes_without_outline(tmp_path):
    image = {"id": 1, "file_name": "a.jpg", "width": 30, "height": 20}
    triangle = [[2, 2, 12, 2, 2, 12]]
    entries = [
        {"image_id": 1, "category_id": 5, "bbox": [2, 2, 10, 10], "segmentation": triangle},
        {"image_id": 1, "category_id": 6, "bbox": [20, 5, 4, 3]},
        {"image_id": 1, "category_id": 7, "bbox": [0, 15, 2, 2], "segmentation": {
            "size": [20, 30], "counts": [3, 4]}},
    ]  # fmt: skip
    document = {"images": [image], "annotations": entries}
    (tmp_path / "a.json").write_text(json.dumps(document))
    found, notes = read_annotations(tmp_path / "a.json")
    annotation = found["a.jpg"]
    assert not notes
    triangle_alone, _ = mask_of(annotation, annotation.boxes[:1], SIZE, "a.jpg")
    rows, columns = np.indices((20, 30)) + 0.5
    np.testing.assert_array_equal(
        triangle_alone, (rows > 2) & (columns > 2) & (rows + columns < 14)
    )
    both, _ = mask_of(annotation, annotation.boxes[:2], SIZE, "a.jpg")
    assert both.sum() == triangle_alone.sum() + 12
    nothing, _ = mask_of(annotation, annotation.boxes[1:2], SIZE, "a.jpg")
    assert nothing is None
    nothing, (note,) = mask_of(annotation, annotation.boxes[2:], SIZE, "a.jpg")
    assert nothing is None
    assert "not a mask of 30 x 20 pixels" in note.why


def test_masks_are_read_from_png_files(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[3:9, 4:6], mask[12:15, 20:29] = 1, 2
    (tmp_path / "deep").mkdir()
    Image.fromarray(mask).save(tmp_path / "deep" / "grey.png")
    colours = Image.fromarray(np.where(mask == 0, 255, mask).astype(np.uint8), "P")
    colours.putpalette(list(range(256)) * 3)
    colours.save(tmp_path / "palette.png")
    Image.new("L", (30, 20)).save(tmp_path / "empty.png")
    Image.new("RGBA", (30, 20)).save(tmp_path / "see-through.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "photo.png")
    found, notes = read_annotations(tmp_path)
    assert found["deep/grey"].boxes == [(4, 3, 25, 12)]
    assert found["palette"].boxes == [(4, 3, 2, 6), (20, 12, 9, 3)]
    assert found["palette"].classes == [None, None]
    assert found["palette"].size == SIZE
    for name in ("deep/grey", "palette"):
        got, _ = mask_of(found[name], found[name].boxes, SIZE, name)
        np.testing.assert_array_equal(got, mask > 0)
    named = ["broken.png", "empty.png", "photo.png", "see-through.png"]
    assert [note.what for note in notes] == named
    assert "600 colours, like a photograph" in notes[2].why
    assert "transparency" in notes[-1].why
    alone, _ = read_annotations(tmp_path / "palette.png")
    assert alone == {"palette": found["palette"]}
