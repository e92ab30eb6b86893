"""Mutated annotation files: each is read in so far as it can be, or refused as a `ValueError`."""

import copy
import json
import math
import random
import time

import pytest

from scorecam_jax.reading.annotations import annotated_class, match, read_annotations, usable
from scorecam_jax.reading.notes import Note

SOME, MANY = 25, 250
LABELS = ["tench", "ox", "crane", "crane"]
SECONDS = 2

COCO = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": 100, "height": 50},
        {"id": 2, "file_name": "b/c.png"},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 7, "bbox": [0.5, 0, 9, 9]},
    ],
    "categories": [{"id": 7, "name": "crane"}, {"id": 1, "name": "ox"}],
}
VOC = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE annotation [<!ELEMENT annotation ANY>]>
<annotation><filename>a.jpg</filename><size><width>100</width><height>50</height></size>
<object><name>ox</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>
</object><object><name>crane</name><bndbox><xmin>1.5</xmin><ymin>2</ymin><xmax>9</xmax>
<ymax>9</ymax></bndbox></object></annotation>"""
YOLO = "0 0.5 0.5 0.25 0.5\n1 0.1 0.2 0.1 0.1\n"
NAMES = "nc: 2\nnames: ['tench', \"ox\"]\n", "names:\n  0: tench\n  1: ox  # an animal\n"
TABLE = (
    "file,class,x,y,width,height\na.jpg,ox,1,2,3,4\nb/c.png,crane,,,,\n" + "a.jpg,ox,1,2,3,4\n" * 9
)
EDGES = 'filename;width;height;class;xmin;ymin;xmax;ymax\na.jpg;100;50;"ox";1;2;30;40\n'

VALUES = [
    None, True, 0, -1, 3, 10**400, 2**64, 1e300, -0.0, math.nan, math.inf, "", "1234", "ox", "\x1b",
    "\ud800", [], [1], [1, 2, 3, 4], {}, {"id": 1}, [[]] * 9, "x" * 9999,
]  # fmt: skip
TEXTS = [
    "", "nan", "-inf", "1e999", "9" * 5000, "\0", "\x1b[2J", "\ufeff", "'", '"', ",", ";", "\t",
    "\n", "\r", "\u2028", "&ox;", "&#0;", "<!ENTITY a 'b'>", "<![CDATA[", "]]>", "<object>",
    "[" * 3000, "{" * 3000, "<a>" * 3000, "encoding='utf-7'", "names:", "#", "\\", "é",
    " " * 9999, "0x1", "1_0",
]  # fmt: skip


def places(document):
    """Every container in a document with every key of it."""
    keys = document if isinstance(document, dict) else range(len(document))
    for key in keys:
        yield document, key
        if isinstance(document[key], dict | list) and document[key]:
            yield from places(document[key])


def changed_document(draw):
    """COCO's document with values of other kinds in some places, or nothing."""
    document = copy.deepcopy(COCO)
    for _ in range(draw.randint(1, 4)):
        here = list(places(document))
        if here:
            where, key = draw.choice(here)
            if draw.random() < 0.2:
                del where[key]
            else:
                where[key] = copy.deepcopy(draw.choice(VALUES))
    return document


def changed_text(draw, text):
    """A text with some parts cut, doubled, moved or replaced."""
    for _ in range(draw.choice([0, 1, 1, 2, 5])):
        start = draw.randint(0, len(text))
        stop = min(len(text), start + draw.choice([0, 1, 2, 5, 20, 200]))
        own = text[start:stop]
        part = draw.choice([*TEXTS, own * 2, own * 500, "", str(draw.random())])
        text = text[:start] + part + text[stop:]
    return text[: draw.randint(0, len(text))] if draw.random() < 0.1 else text


def encoded(draw, text):
    """A text in some encoding, with some bytes that are not its own."""
    how = draw.choice(["utf-8"] * 12 + ["utf-8-sig", "utf-16", "utf-32", "latin-1"])
    content = bytearray(text.encode(how, "replace" if how == "latin-1" else "surrogatepass"))
    for _ in range(draw.choice([0] * 6 + [1, 3])):
        content.insert(draw.randrange(len(content) + 1), draw.randrange(256))
    return bytes(content)


def write_coco(draw, folder):
    text = json.dumps(changed_document(draw) if draw.random() < 0.7 else COCO)
    path = folder / "boxes.json"
    path.write_bytes(encoded(draw, changed_text(draw, text) if draw.random() < 0.5 else text))
    return path


def write_voc(draw, folder):
    (folder / "b").mkdir()
    for name in ("a.xml", "b/c.xml"):
        (folder / name).write_bytes(encoded(draw, changed_text(draw, VOC)))
    return draw.choice([folder, folder / "a.xml"])


def write_yolo(draw, folder):
    (folder / "b").mkdir()
    for name in ("a.txt", "b/c.txt"):
        (folder / name).write_bytes(encoded(draw, changed_text(draw, YOLO)))
    names = changed_text(draw, draw.choice(NAMES))
    name = draw.choice(["data.yaml", "data.yaml", "classes.txt", "obj.names"])
    (folder / name).write_bytes(encoded(draw, names))
    return draw.choice([folder, folder / "a.txt"])


def write_table(draw, folder):
    path = folder / "boxes.csv"
    path.write_bytes(encoded(draw, changed_text(draw, draw.choice([TABLE, EDGES]))))
    return path


def check(path):
    """Read a file and use what is in it; why it is refused, if it is."""
    try:
        found, notes = read_annotations(path)
    except ValueError as error:
        return str(error)
    json.dumps(found)
    assert found
    assert all(isinstance(note, Note) for note in notes)
    for name, annotation in found.items():
        boxes, classes, more = usable(annotation, annotation.size or (100, 50), name)
        assert not more
        assert len(classes) >= len(boxes)
        assert all(math.isfinite(side) for box in boxes for side in box)
        assert all(width > 0 and height > 0 for _, _, width, height in boxes)
        target, _, _ = annotated_class(boxes, classes, LABELS, name)
        assert target is None or 0 <= target < len(LABELS)
    try:
        known, _ = match(["a.jpg", "b/c.png"], found, boxes=path)
    except ValueError as error:
        return str(error)
    assert known.keys() <= {"a.jpg", "b/c.png"}
    return None


COUNTS = [
    pytest.param(SOME, id="some"),
    pytest.param(MANY, id="many", marks=pytest.mark.fuzz),
]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("write", [write_coco, write_voc, write_yolo, write_table])
def test_a_mutated_file_is_read_or_refused(tmp_path, write, count):
    for seed in range(count):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        path = write(random.Random(seed), folder)
        began = time.process_time()
        try:
            refused = check(path)
        except Exception as error:
            error.add_note(f"{write.__name__} with seed {seed}")
            raise
        assert time.process_time() - began < SECONDS, f"{write.__name__} with seed {seed}"
        assert refused is None or path.name in refused
