"""YOLO's text files, one a photograph: `class cx cy width height`, as shares of its size.

Source: https://github.com/AlexeyAB/darknet, how to train.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from scorecam_jax.reading.annotation_files.gather import Gathered, content, decoded, number

LARGEST = 10_000_000
"""The most bytes of a file that are read."""

NAMES = ("classes.txt", "obj.names", "data.yaml")
"""The files that may name the classes, in the folder or the one that holds it."""


def read_yolo(files: Iterable[tuple[Path, Path]], folder: Path) -> Gathered:
    """The annotations in YOLO's files: the path that names the photograph, and the file."""
    gathered = Gathered()
    names = _names(folder, gathered)
    for relative, file in files:
        try:
            lines = decoded(content(file, LARGEST)).splitlines()
        except (OSError, ValueError) as error:
            gathered.note(str(relative), f"cannot be read: {error}")
            continue
        before = len(gathered.notes)
        photo = relative.with_suffix("").as_posix()
        gathered.photograph(photo, (None, None), str(relative))
        annotation = gathered.found[photo] = gathered.found[photo]._replace(relative=True)
        for count, line in enumerate(lines, 1):
            words, what = line.split(), f"{relative}, line {count}"
            if not words:
                continue
            if len(words) != 5 or not re.fullmatch("[0-9]{1,9}", words[0]):
                wanted = "wanted a class index, cx, cy, width and height"
                gathered.note(what, f"is {line[:60]!r}, {wanted}")
                continue
            kind = int(words[0])
            x, y, width, height = map(number, words[1:])
            gathered.add(photo, [x - width / 2, y - height / 2, width, height], kind, what)
            if kind in names and kind in annotation.classes:
                annotation.names[kind] = names[kind]
        broken = gathered.notes[before:]
        if broken and not annotation.boxes:
            # A text of another kind gives one note, not one a line.
            del gathered.found[photo], gathered.notes[before + 1 :]
    return gathered


def _names(folder: Path, gathered: Gathered) -> dict[int, str]:
    for file in (place / name for place in (folder, folder.parent) for name in NAMES):
        if not file.is_file():
            continue
        try:
            text = decoded(content(file, LARGEST))
        except (OSError, ValueError) as error:
            gathered.note(str(file), f"cannot be read: {error}")
            continue
        if file.suffix == ".yaml":
            return _yaml_names(text)
        return {index: name.strip() for index, name in enumerate(text.splitlines()) if name.strip()}
    return {}


def _yaml_names(text: str) -> dict[int, str]:
    """The entry `names` of a YAML file, a list or a mapping, over one line or several."""
    entry = re.search(r"^names:(.*(?:\n(?=[\s\-\]}#]|$).*)*)", text, re.M)
    block = entry[1].strip() if entry else ""
    value = r"""'[^'\n]*'|"[^"\n]*\""""
    if block.startswith(("[", "{")):
        items = re.findall(rf"(?:(\d+)\s*:)?\s*({value}|[^,'\"\[\]{{}}\n]+)", block[1:])
    else:
        items = re.findall(rf"^[ \t]*(?:-|(\d+)[ \t]*:)[ \t]*({value}|[^#\n]+)", block, re.M)
    named = [(key, name.strip().strip("'\"")) for key, name in items]
    return {int(key or index): name for index, (key, name) in enumerate(named) if name}
