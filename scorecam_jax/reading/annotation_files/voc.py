"""Annotations in Pascal VOC's XML, one file per photograph.

Source: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, annotation guidelines.
"""

import xml.etree.ElementTree
from collections.abc import Iterable
from pathlib import Path

from scorecam_jax.reading.annotation_files.gather import Gathered, content, number

LARGEST = 1_000_000
"""The largest file read, in bytes: about 5,000 objects."""


def read_voc(files: Iterable[tuple[Path, Path]]) -> Gathered:
    """Read VOC files, given pairs of the path that names the photograph and the file."""
    gathered = Gathered()
    for relative, file in files:
        try:
            root = _root(file)
        except (LookupError, OSError, ValueError, xml.etree.ElementTree.ParseError) as error:
            gathered.note(str(relative), f"cannot be read: {error}")
            continue
        photo = relative.with_suffix("").as_posix()
        size = root.findtext("size/width"), root.findtext("size/height")
        known = all(number(side) == 0 for side in size)
        gathered.photograph(photo, (None, None) if known else size, str(relative))
        file_name = (root.findtext("filename") or "").strip() or None
        gathered.found[photo] = gathered.found[photo]._replace(file=file_name)
        for count, item in enumerate(root.iter("object")):
            left, top, right, bottom = (
                number(item.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")
            )
            # VOC counts pixels from 1 and includes the last.
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
            kind = item.findtext("name", "").strip() or None
            gathered.add(photo, box, kind, f"{relative}, object {count}")
    return gathered


def _root(file: Path) -> xml.etree.ElementTree.Element:
    text = content(file, LARGEST)
    # ASCII in UTF-16 has zeros between the letters.
    if b"<!ENTITY" in text.replace(b"\0", b""):
        raise ValueError("it defines entities, which can expand to gigabytes")
    root = xml.etree.ElementTree.fromstring(text)
    if root.tag != "annotation":
        raise ValueError(f"its root is <{root.tag[:60]}>; wanted <annotation>")
    return root
