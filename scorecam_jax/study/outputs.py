"""Files to write: their names, and that nothing of the user's is lost."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from PIL import Image

from scorecam_jax._internal.files import replacing
from scorecam_jax.reading import Source


class OutputError(ValueError):
    """A file must not be written, or cannot be."""


def output_paths(photos: Sequence[Source], out: str, ending: str) -> list[Path]:
    """Where to write what is made of each photograph.

    If `out` is a file, there must be one photograph only. In a folder the files are called as the
    photographs are, with `ending` in place of their suffix. Photographs of one name are told
    apart by their folders, their suffixes, or a number.

    Raises:
        OutputError: several photographs would be written to one file, or the suffix is no format's.
    """
    path = Path(out)
    if not is_folder(out):
        if len(photos) > 1:
            raise OutputError(
                f"{out!r} is one file for {len(photos)} photographs; name a folder, such as "
                f"{path.with_suffix('')}/"
            )
        _check_suffix(path, Path(ending).suffix)
        return [path]
    return [path / f"{stem}{ending}" for stem in _distinct(photos)]


def is_folder(out: str) -> bool:
    """Whether an output names a folder: one that exists, ends in a slash or has no suffix."""
    return os.path.isdir(out) or out.endswith(("/", os.sep)) or not Path(out).suffix


class Guard:
    """Keeps a call from writing over what it reads, and over other files unless told to."""

    def __init__(self, inputs: Iterable[Path], *, force: bool) -> None:
        self._force = force
        self._inputs: dict[tuple[int, int], Path] = {}
        for path in inputs:
            try:
                found = path.stat()
            except OSError:
                continue
            self._inputs[found.st_dev, found.st_ino] = path

    def check(self, path: Path, photo: Path | None = None) -> None:
        """Refuse to overwrite a file unless told to, and a file that this call reads in any case.

        Args:
            path: the file to write.
            photo: what it is made of.

        Raises:
            OutputError: the file must not be written, or cannot be.
        """
        try:
            if path.exists():
                self._check_existing(path, photo)
            folder = next(parent for parent in path.resolve().parents if parent.exists())
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error
        if not folder.is_dir():
            raise OutputError(f"cannot write {path}: {folder} is a file, not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"cannot write {path}: there is no permission to write in {folder}")

    def _check_existing(self, path: Path, photo: Path | None) -> None:
        found = path.stat()
        mine = self._inputs.get((found.st_dev, found.st_ino))
        if mine is not None:
            what = "the photograph itself" if mine == photo else "read by this call too"
            raise OutputError(f"{path} is {what}; name another file to write with -o")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file to write")
        if not path.is_file():
            raise OutputError(f"{path} is a pipe or a device; name a file to write")
        if not self._force:
            raise OutputError(f"{path} exists already; overwrite it with --force, or name another")


def save(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file whole or not at all, in a folder that is made if it is missing.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            write(file)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def _distinct(photos: Sequence[Source]) -> list[str]:
    """A name for what is made of each photograph, no two of them the same."""
    names = [photo.stem for photo in photos]
    depth = max([len(photo.path.parts) for photo in photos] or [0])
    for length in range(1, depth):
        clashing = _clashing(names)
        if not clashing:
            return names
        for place in clashing:
            folders = folder_names(photos[place].path)
            names[place] = "-".join([*folders[-length:], photos[place].stem])
    for place in _clashing(names):
        names[place] += f"-{photos[place].path.suffix.lstrip('.')}".rstrip("-")
    taken: set[str] = set()
    for place, name in enumerate(names):
        number = 1
        while names[place].casefold() in taken:
            number += 1
            names[place] = f"{name}-{number}"
        taken.add(names[place].casefold())
    return names


def folder_names(path: PurePath) -> list[str]:
    """The folders that a file lies in, outermost first, without drives and ways up."""
    return [part for part in path.parent.parts if part not in (path.anchor, "..")]


def _clashing(names: Sequence[str]) -> list[int]:
    """The places of names that are there more than once; capitals do not tell files apart."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name.casefold(), []).append(place)
    return [place for group in places.values() if len(group) > 1 for place in group]


def _check_suffix(path: Path, usual: str) -> None:
    if usual == ".png":
        formats = Image.registered_extensions()
        known = {suffix for suffix, name in formats.items() if name in Image.SAVE}
        if path.suffix.lower() not in known:
            raise OutputError(
                f"pictures cannot be written as {path.suffix}; name {path.with_suffix('.png')}, "
                f"or .jpg, .webp or .tif, or a folder, {path}/"
            )
    elif path.suffix.lower() != usual:
        raise OutputError(f"heatmaps are written as {usual}; name {path.with_suffix(usual)}")
