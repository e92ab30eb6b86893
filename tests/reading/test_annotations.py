import json
import os
import time

import pytest

from scorecam_jax.reading.annotations import (
    Annotation,
    annotated_class,
    match,
    read_annotations,
    usable,
)
from scorecam_jax.reading.labels import Category


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
    [
        ("hello", "neither COCO"),
        ("[1]", "not have COCO's layout"),
        ('{"images": []}', "annotations"),
        ('{"images": 5, "annotations": []}', "images: int"),
        ('{"images": [], "annotations": []}', "names no photograph"),
        ('{"images": [5], "annotations": []}', "image number 0: is 5; wanted an object"),
        ("[" * 200_000, "neither COCO"),
        ("", "neither COCO"),
    ],
)
def test_what_is_no_annotation_file_is_refused(tmp_path, content, message):
    path = tmp_path / "boxes.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_annotations(path)
    assert str(path) in str(error.value)
    with pytest.raises(ValueError, match=r"no \.xml"):
        read_annotations(tmp_path)


@pytest.mark.parametrize(
    ("annotation", "why"),
    [
        (entry([10**400, 1, 2, 3]), "wanted (x, y, width, height)"),
        (entry([1e300, 1, 2, 3]), "larger than any photograph"),
        (entry("1234"), "'1234'; wanted"),
        (entry({"1": 1, "2": 2, "3": 3, "4": 4}), "wanted"),
        (entry([[1], 1, 2, 3]), "wanted"),
        (entry([1, 2, 3, 4], category_id=None), "category is None"),
        (entry([1, 2, 3, 4], category_id=[1]), "category is [1]"),
        (entry([1, 2, 3, 4], category_id=True), "category is True"),
        (entry([1, 2, 3, 4], category_id=float("inf")), "category is inf"),
        (entry([1, 2, 3, 4], image_id=[7]), "no image has the id [7]"),
        (entry([1, 2, 3, 4], image_id=None), "no image has the id None"),
    ],
)
def test_wrong_types_and_numbers_cost_their_annotation(tmp_path, annotation, why):
    path = coco(tmp_path / "boxes.json", [annotation, entry([1, 2, 3, 4], id=1), "x", None])
    found, notes = read_annotations(path)
    assert found["a.jpg"].boxes == [(1, 2, 3, 4)]
    assert why in notes[0].why
    assert "annotation 3" in notes[0].what
    assert [note.why for note in notes[1:]] == [
        "is 'x'; wanted an object",
        "is None; wanted an object",
    ]


def test_a_number_of_any_length_costs_its_annotation(tmp_path):
    path = coco(tmp_path / "boxes.json", [entry([12345, 2, 3, 4]), entry([1, 2, 3, 4], id=1)])
    path.write_text(path.read_text().replace("12345", "9" * 10_000))
    found, (note,) = read_annotations(path)
    assert found["a.jpg"].boxes == [(1, 2, 3, 4)]
    assert "is not finite" in note.why


def test_broken_images_and_categories_cost_themselves(tmp_path):
    images = [
        {"id": 7, "file_name": "a.jpg", "width": "wide", "height": 9},
        {"id": 7, "file_name": "b.jpg"},
        {"id": [1], "file_name": "c.jpg"},
        {"id": 8, "file_name": None},
        {"id": 9, "file_name": "d.jpg", "width": float("inf"), "height": 9},
        {"id": "text", "file_name": "e.jpg", "width": 30.0, "height": 20},
    ]
    path = coco(tmp_path / "boxes.json", [entry([1, 2, 3, 4])], images)
    content = json.loads(path.read_text())
    content["categories"] = [3, {"id": 5, "name": 5}, {"id": 5, "name": "ox"}]
    path.write_text(json.dumps(content))
    found, notes = read_annotations(path)
    assert list(found) == ["a.jpg", "d.jpg", "e.jpg"]
    assert found["a.jpg"] == Annotation([(1, 2, 3, 4)], [5], None, {5: "ox"})
    assert found["e.jpg"].size == (30, 20)
    assert [note.what.split(", ")[1] for note in notes] == [
        "category number 0", "category 5", "image 7", "image 7", "image number 2", "image 8",
        "image 9",
    ]  # fmt: skip


def test_keys_that_an_object_has_twice_are_named(tmp_path):
    path = coco(tmp_path / "boxes.json", [entry([1, 2, 3, 4]), entry([5, 6, 7, 8], id=4)])
    text = path.read_text().replace('"bbox": [1,', '"bbox": [9, 9, 9, 9], "bbox": [1,')
    path.write_text(text.replace('{"images"', '{"images": [], "images"'))
    found, notes = read_annotations(path)
    assert found["a.jpg"].boxes == [(5, 6, 7, 8)]
    assert [note.why for note in notes] == [
        "has 'images' twice; the last is used",
        "has 'bbox' twice",
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_the_encoding_are_read_over(tmp_path, encoding):
    path = coco(tmp_path / "boxes.json", [entry([1, 2, 3, 4])])
    path.write_text(path.read_text(), encoding=encoding)
    assert read_annotations(path)[0]["a.jpg"].boxes == [(1, 2, 3, 4)]
    table = tmp_path / "boxes.csv"
    table.write_text("file,label\nä.jpg,ox\n", encoding=encoding)
    assert read_annotations(table)[0]["ä.jpg"].classes == ["ox"]


def bomb(levels):
    entities = "".join(
        f'<!ENTITY e{level} "{f"&e{level - 1};" * 10 if level else "boom" * 100}">'
        for level in range(levels)
    )
    name = f"<object><name>&e{levels - 1};</name></object>"
    return f"<!DOCTYPE annotation [{entities}]><annotation>{name}</annotation>"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<?xml version='1.0' encoding='nonsense'?>" + VOC.encode(), "nonsense"),
        (bomb(12).encode(), "entities"),
        (bomb(12).encode("utf-16"), "entities"),
        (b"<svg/>", "<svg>"),
        (b"\0\xff", "cannot be read"),
        (b"", "cannot be read"),
    ],
)
def test_a_broken_voc_file_costs_itself(tmp_path, content, why):
    (tmp_path / "a.xml").write_text(VOC)
    (tmp_path / "b.xml").write_bytes(content)
    began = time.perf_counter()
    found, notes = read_annotations(tmp_path)
    assert time.perf_counter() - began < 1
    assert list(found) == ["a"]
    assert notes[-1].what == "b.xml"
    assert why in f"{notes[-1].why}"
    with pytest.raises(
        ValueError, match=r"b\.xml contains no usable annotation: b\.xml: cannot be read"
    ):
        read_annotations(tmp_path / "b.xml")


@pytest.mark.parametrize("width", ["inf", "nan", "1e99", "-4", "wide"])
def test_a_size_that_is_none_is_named_and_the_boxes_are_kept(tmp_path, width):
    (tmp_path / "a.xml").write_text(VOC.replace("<width>100", f"<width>{width}"))
    found, notes = read_annotations(tmp_path / "a.xml")
    assert found["a"].boxes == [(0, 10, 100, 10)]
    assert found["a"].size is None
    assert f"the size is {width!r} x '50'" in notes[0].why


def test_only_regular_files_of_a_bounded_size_are_opened(tmp_path):
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.xml")
        (tmp_path / "zero.json").symlink_to("/dev/zero")
        for path in (tmp_path, tmp_path / "pipe.xml", tmp_path / "zero.json"):
            with pytest.raises(ValueError, match="not a regular file"):
                read_annotations(path)
    for name in ("large.json", "large.csv", "large.xml", "large.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(5 * 10**9)
        with pytest.raises(ValueError, match="MB, the largest file that is read"):
            read_annotations(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_annotations(tmp_path / "absent.json")


def test_yolo_boxes_are_shares_of_the_photograph(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.txt").write_text("1 0.5 0.25 0.5 0.5\n\n0 0.9 0.9 0.2 0.2\n")
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "c.txt").write_text(
        "0 0.5 0.5 nan 1\n0 2 2 0.1 0.1\n0 .5 .5 1 1\n0 .5 .5\n-1 .5 .5 1 1"
    )
    (tmp_path / "README.txt").write_text("These are\nthe annotations\n")
    found, notes = read_annotations(tmp_path)
    assert list(found) == ["b", "c", "train/a"]
    boxes, classes, _ = usable(found["train/a"], (200, 100), "a.jpg")
    assert boxes[0] == pytest.approx((50, 0, 100, 50))
    assert boxes[1] == pytest.approx((160, 80, 40, 20))
    assert classes == [1, 0]
    assert found["b"].classes == []
    assert len(found["c"].boxes) == 1
    assert [note.what for note in notes] == [
        "README.txt, line 1", "c.txt, line 1", "c.txt, line 2", "c.txt, line 4", "c.txt, line 5"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classes.txt", "tench\nred fox, Vulpes\n"),
        ("../obj.names", "tench\nred fox, Vulpes\n"),
        ("data.yaml", "train: x\nnc: 2\nnames: ['tench', \"red fox, Vulpes\"]\n"),
        ("data.yaml", "names: ['tench',\n  'red fox, Vulpes']\nnc: 2\n"),
        ("data.yaml", "names: {0: tench, 1: 'red fox, Vulpes'}\n"),
        ("data.yaml", "names:\n  0: tench  # a fish\n  1: red fox, Vulpes\nnc: 2"),
        ("data.yaml", "names:\n- tench\n- 'red fox, Vulpes'\nval: y"),
    ],
)
def test_files_beside_yolos_name_the_classes(tmp_path, file, content):
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text("1 0.5 0.25 0.5 0.5\n0 0.5 0.25 0.5 0.5")
    (labels / file).write_text(content)
    found, notes = read_annotations(labels)
    _, classes, _ = usable(found["a"], (9, 9), "a.jpg")
    assert classes == [Category(1, "red fox, Vulpes"), Category(0, "tench")]
    assert not notes


@pytest.mark.parametrize(
    ("content", "box"),
    [
        ("image,x,y,width,height,class\na.jpg,1,2,30,40,ox\n", (1, 2, 30, 40)),
        ("Label;File;XMin;YMin;XMax;YMax\r\nox;a.jpg;1;2;31;42\r\n", (1, 2, 30, 40)),
        (
            "filename\twidth\theight\tclass\txmin\tymin\txmax\tymax\n"
            "a.jpg\t100\t50\tox\t1\t2\t31\t42",
            (1, 2, 30, 40),
        ),
    ],
)
def test_csv_has_a_row_an_object(tmp_path, content, box):
    (tmp_path / "boxes.csv").write_text(content, newline="")
    found, notes = read_annotations(tmp_path / "boxes.csv")
    size = (100, 50) if "\t" in content else None
    assert found == {"a.jpg": Annotation([box], ["ox"], size)}
    assert not notes


def test_csv_may_name_classes_alone_and_a_broken_line_costs_itself(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text(
        "file,class,x,y,width,height\na.jpg,ox,,,,\na.jpg,crane,1,2,3,4\nb.jpg\n"
        'c.jpg,"open,1,2,3,4\n,ox,,,,\nd.jpg,,,,,\ne.jpg,ox,1,2,,\ne.jpg,,1,2,3,4\n'
    )
    found, notes = read_annotations(path)
    assert found["a.jpg"] == Annotation([(1, 2, 3, 4)], ["crane", "ox"])
    assert found["e.jpg"] == Annotation([(1, 2, 3, 4)], [None])
    assert [note.what for note in notes] == [f"classes.csv, line {n}" for n in (4, 5, 6, 7, 8)]


@pytest.mark.parametrize(
    "head", ["", "x,y,width,height", "image,x,y", "file,class,class", "file,x,x,y,width,height"]
)
def test_csv_without_the_columns_is_refused(tmp_path, head):
    (tmp_path / "boxes.csv").write_text(f"{head}\n1,2,3,4,5,6\n")
    with pytest.raises(ValueError, match="wanted the columns image, file or filename"):
        read_annotations(tmp_path / "boxes.csv")


def test_the_same_boxes_in_every_format_are_the_same(tmp_path):
    coco(tmp_path / "boxes.json", [entry([10, 5, 20, 40], category_id="ox")])
    (tmp_path / "boxes.csv").write_text("file,x,y,width,height,class\na.jpg,10,5,20,40,ox")
    (tmp_path / "edges.tsv").write_text(
        "image\txmin\tymin\txmax\tymax\tlabel\na.jpg\t10\t5\t30\t45\tox"
    )
    edges = "<xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>45</ymax>"
    item = f"<object><name>ox</name><bndbox>{edges}</bndbox></object>"
    (tmp_path / "a.xml").write_text(f"<annotation>{item}</annotation>")
    (tmp_path / "a.txt").write_text("1 0.2 0.5 0.2 0.8")
    for file in ("boxes.json", "boxes.csv", "edges.tsv", "a.xml", "a.txt"):
        known, notes = match(["a.jpg"], read_annotations(tmp_path / file)[0])
        boxes, kinds, more = usable(known["a.jpg"], (100, 50), "a.jpg")
        target, (box,), unknown = annotated_class(boxes, kinds, ["tench", "ox"], "a.jpg")
        assert box == pytest.approx((10, 5, 20, 40)), file
        assert target == 1, file
        assert not [*notes, *more, *unknown], file


def test_suffixes_of_annotations_may_be_in_capitals(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.XML").write_text(VOC)
    assert list(read_annotations(tmp_path)[0]) == ["deep/a"]


ONE = Annotation([(1.0, 1.0, 2.0, 2.0)], [0])


@pytest.mark.parametrize(
    ("key", "photo"),
    [
        ("b/a.jpg", "b/a.jpg"),
        ("b/a", "b/a.jpg"),
        ("a.jpg", "b/a.jpg"),
        ("a", "b/a.jpg"),
        ("b\\a.jpg", "b/a.jpg"),
        ("./b/a.jpg", "b/a.jpg"),
        ("a.v2", "a.v2.jpg"),
    ],
)
def test_a_photograph_is_named_by_its_path_or_its_file_name(key, photo):
    assert match([photo, "other.png"], {key: ONE})[0] == {photo: ONE}


def test_a_file_name_that_two_photographs_share_names_neither(tmp_path):
    two = ONE._replace(classes=[2])
    found, notes = match(["x/a.jpg", "y/a.jpg", "c.png"], {"a.jpg": ONE, "c": two})
    assert found == {"c.png": two}
    assert [note.what for note in notes] == ["x/a.jpg", "y/a.jpg"]
    assert all("several photographs are called a.jpg" in note.why for note in notes)
    found, notes = match(["x/a.jpg", "a.jpg"], {"a.jpg": ONE})
    assert found == {"a.jpg": ONE}
    assert notes == [("x/a.jpg", "has no boxes")]
    found, notes = match(["x/a.jpg", "y/a.png"], {"a": ONE})
    assert not found
    assert len(notes) == 2


def test_the_file_name_inside_a_voc_file_counts_last():
    first, second = ONE._replace(file="a.jpg"), ONE._replace(file="b.jpg", classes=[1])
    found, _ = match(["x/a.jpg", "x/b.jpg"], {"1": first, "2": second})
    assert found == {"x/a.jpg": first, "x/b.jpg": second}
    found, _ = match(["a.jpg", "b.jpg"], {"b": first, "2": second})
    assert found == {"b.jpg": first}
    copied = first._replace(classes=[2])
    found, (note, _) = match(["a.jpg", "b.jpg"], {"1": first, "2": copied})
    assert not found
    assert "several annotations are called a.jpg" in note.why


def test_what_has_no_partner_is_noted(tmp_path):
    names = ["a.jpg", "b.jpg", "c.jpg"]
    annotations = {"a.jpg": ONE, "b.jpg": Annotation([], []), "z.jpg": ONE}
    _, notes = match(names, annotations, boxes="boxes.json", folder=tmp_path)
    assert notes == [
        ("c.jpg", "has no boxes"),
        ("b.jpg", "has no boxes"),
        ("boxes.json", f"1 of its 3 photographs are not in {tmp_path}"),
    ]
    _, notes = match(names, {**annotations, "c.jpg": Annotation([], ["ox"])})
    assert notes == [("b.jpg", "has no boxes")]
    assert match(names, {}) == ({}, [])
    with pytest.raises(ValueError, match=r"boxes\.json names none of the photographs"):
        match(names, {"z.jpg": ONE}, boxes="boxes.json")


def test_boxes_of_another_size_are_not_used(tmp_path):
    annotation = Annotation([(1.0, 1.0, 2.0, 2.0)], [5, "ox"], (9, 9), {5: "crane"})
    assert usable(annotation, (9, 9), "a") == ([(1, 1, 2, 2)], [(5, "crane"), "ox"], [])
    boxes, classes, (note,) = usable(annotation, (4, 4), "a")
    assert (boxes, classes) == ([], ["ox"])
    assert note == ("a", "its boxes were drawn on 9 x 9 pixels, and its size is 4 x 4")
    assert usable(None, (4, 4), "a") == ([], [], [])


def test_the_annotated_class_is_the_one_that_covers_most():
    labels = ["tench", "ox", "crane"]
    small, large = (0.0, 0.0, 2.0, 2.0), (0.0, 0.0, 2.0, 3.0)
    assert annotated_class([small, large, small], ["ox", "crane", 1], labels, "a") == (
        1, [small, small], [],
    )  # fmt: skip
    target, boxes, notes = annotated_class([large, small], ["cow", 2, 2], labels, "a")
    assert (target, boxes) == (2, [small])
    assert notes == [("a", "'cow' is not a class of the model")]
    assert annotated_class([], ["tench", "ox"], labels, "a") == (0, [], [])
    target, boxes, notes = annotated_class([large], [Category(9, "cow")], labels, "a")
    assert (target, boxes) == (None, [])
    assert [note.why for note in notes] == [
        "neither 'cow' nor 9 is a class of the model", "has no annotated class to explain"
    ]  # fmt: skip
