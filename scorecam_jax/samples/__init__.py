"""Seventeen photographs of animals with boxes, to try things on; all public domain or CC0.

`ATTRIBUTION.md` in `FOLDER` tells the author and the source of each. At the command line,
`sample:jaguar` stands for one of them, and `sample:` for the folder.
"""

from pathlib import Path

from scorecam_jax.reading.annotations import Annotation, read_annotations

FOLDER = Path(__file__).parent / "animals"
"""The folder with the photographs, `annotations.json` (COCO) and `ATTRIBUTION.md`."""


def paths() -> dict[str, Path]:
    """The photographs' files by name, such as `"jaguar"`, in the order of the alphabet.

    >>> list(paths())[:3]
    ['bison', 'chicken', 'cow']
    """
    return {path.stem: path for path in sorted(FOLDER.glob("*.jpg"))}


def path(name: str) -> Path:
    """The file of one photograph.

    Raises:
        ValueError: there is none of this name.
    """
    known = paths()
    if name not in known:
        raise ValueError(f"no sample {name!r}; choose one of {', '.join(known)}")
    return known[name]


def annotations() -> dict[str, Annotation]:
    """The boxes and ImageNet classes of the animals, by name of the photograph.

    >>> annotations()["dog"].classes
    [235]
    """
    found, _ = read_annotations(FOLDER / "annotations.json")
    return {Path(name).stem: annotation for name, annotation in found.items()}
