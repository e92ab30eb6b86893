import json

import pytest

from scorecam_jax.reading.annotations import read_annotations


def coco(path, annotations, images=({"id": 7, "file_name": "a.jpg", "width": 100, "height": 50},)):
    path.write_text(json.dumps({"images": list(images), "annotations": annotations}))
    return path


def entry(bbox, **more):
    return {"id": 3, "image_id": 7, "category_id": 5, "bbox": bbox} | more


def test_coco_boxes_are_taken_as_they_are(tmp_path):
    path = coco(tmp_path / "boxes.json", [entry([1, 2, 30, 40]), entry([0.5, 0, 9, 9], id=4)])
    found, notes = read_annotations(path)
    assert found["a.jpg"].boxes == [(1, 2, 30, 40), (0.5, 0, 9, 9)]
    assert found["a.jpg"].classes == [5, 5]
    assert found["a.jpg"].size == (100, 50)
    assert not notes


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (entry([1, 2, 3]), "wanted"),
        (entry(None), "wanted"),
        (entry(["a", 0, 1, 1]), "wanted"),
        (entry([1, 2, 0, 4]), "no area"),
        (entry([1, 2, 3, -4]), "no area"),
        (entry([1, 2, float("nan"), 4]), "not finite"),
        (entry([100, 2, 3, 4]), "outside"),
        (entry([1, -9, 3, 8]), "outside"),
        (entry([1, 2, 3, 4], image_id=8), "no image has the id 8"),
    ],
)
def test_a_broken_box_is_named_and_the_others_are_kept(tmp_path, annotation, why):
    path = coco(tmp_path / "boxes.json", [entry([1, 2, 3, 4], id=1), annotation])
    found, (note,) = read_annotations(path)
    assert found["a.jpg"].boxes == [(1, 2, 3, 4)]
    assert "annotation 3" in note.what
    assert why in note.why


def test_crowds_are_passed_over(tmp_path):
    found, notes = read_annotations(coco(tmp_path / "b.json", [entry([1, 2, 3, 4], iscrowd=1)]))
    assert found["a.jpg"].boxes == []
    assert not notes


VOC = """<annotation><filename>elsewhere.png</filename>
<size><width>100</width><height>50</height><depth>3</depth></size>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>11</ymin><xmax>100</xmax><ymax>20</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>11</ymin><xmax>9</xmax><ymax>20</ymax></bndbox></part>
</object>
<object><name>cat</name><bndbox><xmin>9</xmin><ymin>11</ymin><xmax>3</xmax><ymax>20</ymax></bndbox></object>
</annotation>"""


def test_voc_boxes_count_from_one_and_include_their_last_pixel(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.xml").write_text(VOC)
    (tmp_path / "broken.xml").write_text("<annotation>")
    found, notes = read_annotations(tmp_path)
    assert found["deep/a"].boxes == [(0, 10, 100, 10)]
    assert found["deep/a"].classes == ["dog"]
    assert found["deep/a"].size == (100, 50)
    assert [note.what for note in notes] == ["broken.xml", "deep/a.xml, object 1"]
    alone, _ = read_annotations(tmp_path / "deep" / "a.xml")
    assert alone == {"a": found["deep/a"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [("hello", "neither COCO"), ("[1]", "not laid out"), ('{"images": []}', "annotations")],
)
def test_what_is_no_annotation_file_is_refused(tmp_path, content, message):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_annotations(path)
    with pytest.raises(ValueError, match=r"no \.xml"):
        read_annotations(tmp_path)
