"""Annotations in YOLO's text files, one per photograph.

Lines are `class cx cy width height`, as fractions of the photograph's size.

Source: https://github.com/AlexeyAB/darknet, how to train.
"""

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from scorecam_jax.reading.annotation_files.gather import Gathered, content, decoded, number

LARGEST = 1_000_000
"""The largest file read, in bytes."""

NAMES = ("classes.txt", "obj.names", "data.yaml")
"""The files that may name the classes, in the folder or in its parent."""


def read_yolo(files: Iterable[tuple[Path, Path]], folder: Path) -> Gathered:
    """Read YOLO's files, given pairs of the path that names the photograph and the file."""
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
                gathered.note(what, f"is {line[:60]!r}; {wanted}")
                continue
            kind = int(words[0])
            x, y, width, height = map(number, words[1:])
            gathered.add(photo, [x - width / 2, y - height / 2, width, height], kind, what)
        used = dict.fromkeys(kind for kind in annotation.classes if isinstance(kind, int))
        annotation.names.update({kind: names[kind] for kind in used if kind in names})
        broken = gathered.notes[before:]
        if broken and not annotation.boxes:
            # A text file in another format gets one note, not one per line.
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
    """The entry `names` of a YAML file: a list or a mapping, on one or several lines."""
    after = list(itertools.dropwhile(lambda line: not line.startswith("names:"), text.splitlines()))
    more = itertools.takewhile(lambda line: line[:1] in (*" \t-]}#", ""), after[1:])
    lines = [" ".join(line.split()) for line in (*after[:1], *more)]
    if not lines:
        return {}
    lines[0] = lines[0].removeprefix("names:").strip()
    value = r"""'[^']*'|"[^"]*\""""
    if lines[0].startswith(("[", "{")):
        item = rf" ?(?:(\d{{1,9}}) ?:)? ?({value}|[^,'\"\[\]{{}}]+)"
        items = re.findall(item, " ".join(lines))
    else:
        item = rf"(?:-|(\d{{1,9}}) ?:) ?({value}|[^#]+)"
        items = [found.groups() for found in map(re.compile(item).match, lines) if found]
    named = [(key, name.strip().strip("'\"")) for key, name in items]
    return {int(key or index): name for index, (key, name) in enumerate(named) if name}
