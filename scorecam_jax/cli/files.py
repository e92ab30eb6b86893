"""Photographs to read and files to write."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from scorecam_jax import reading
from scorecam_jax._internal.files import replacing
from scorecam_jax.cli.errors import UserError
from scorecam_jax.reading import Source


def pages_of(path: Path, page: int | None, name: str | None = None) -> list[Source]:
    """A page of a file, or, if `page` is None, every page. `name` is what to call the file."""
    name = name or str(path)
    if page is not None:
        return [Source(path, page, name, path.stem)]
    called = str(path)
    return [
        one._replace(name=name + one.name.removeprefix(called))
        for one in reading.find([path], page="all").sources
    ] or [Source(path, 1, name, path.stem)]


def open_photo(
    path: Path,
    *,
    header_only: bool = False,
    window: tuple[float, float] | None = None,
    page: int | None = 1,
    notes: list[str] | None = None,
) -> Any:
    """The photograph upright, in RGB; with `header_only`, only whether it looks like one.

    Args:
        path: of the photograph.
        header_only: read no pixels.
        window: see `reading.read_picture`.
        page: of a file of several, from 1.
        notes: where to add what there is to tell of scaled values and pages left out.

    Raises:
        UserError: it cannot be read, or has no such page.
    """
    source = Source(path, page, str(path), path.stem)
    try:
        if header_only:
            return reading.check_picture(source)
        found = reading.read_picture(source, window=window)
    except reading.ReadingError as error:
        raise UserError(str(error)) from error
    if notes is not None:
        notes += found.remarks
    return found.image


@contextlib.contextmanager
def large_photos() -> Iterator[None]:
    """Open large photographs without a warning.

    Python's filters of warnings are one for all threads: this goes around threads that open
    photographs, so that none brings the warning back for another.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def output_paths(photos: Sequence[Source], out: str, ending: str) -> list[Path]:
    """Where to write what is made of each photograph.

    If `out` is a file, there must be one photograph only. In a folder the files are called as the
    photographs are, with `ending` in place of their suffix.

    Raises:
        UserError: several photographs would be written to one file, or the suffix is no format's.
    """
    path = Path(out)
    if not is_folder(out):
        if len(photos) > 1:
            raise UserError(
                f"{out!r} is one file for {len(photos)} photographs; name a folder, such as "
                f"{path.with_suffix('')}/"
            )
        _check_suffix(path, Path(ending).suffix)
        return [path]
    paths = [path / f"{photo.stem}{ending}" for photo in photos]
    for index, (photo, one) in enumerate(zip(photos, paths, strict=True)):
        if one in paths[:index]:
            raise UserError(
                f"{photos[paths.index(one)].name} and {photo.name} would both be written to {one}; "
                "explain them one at a time, with -o"
            )
    return paths


def is_folder(out: str) -> bool:
    """Whether an output names a folder: one that exists, ends in a slash or has no suffix."""
    return os.path.isdir(out) or out.endswith(("/", os.sep)) or not Path(out).suffix


def _check_suffix(path: Path, usual: str) -> None:
    if usual == ".png":
        formats = Image.registered_extensions()
        known = {suffix for suffix, name in formats.items() if name in Image.SAVE}
        if path.suffix.lower() not in known:
            raise UserError(
                f"pictures cannot be written as {path.suffix}; name {path.with_suffix('.png')}, "
                f"or .jpg, .webp or .tif, or a folder, {path}/"
            )
    elif path.suffix != usual:
        raise UserError(f"heatmaps are written as {usual}; name {path.with_suffix(usual)}")


def check_output(path: Path, photo: Path, inputs: Iterable[Path], *, force: bool) -> None:
    """Refuse to overwrite a file unless told to, and a file that this call reads in any case.

    Args:
        path: the file to write.
        photo: what it is made of.
        inputs: all files that this call reads.
        force: whether to overwrite a file.

    Raises:
        UserError: the file must not be written, or cannot be.
    """
    try:
        if path.exists():
            for one in inputs:
                if one.exists() and path.samefile(one):
                    what = "the photograph itself" if one == photo else "read by this call too"
                    raise UserError(f"{path} is {what}; name another file to write with -o")
            if path.is_dir():
                raise UserError(f"{path} is a folder; name a file to write")
            if not path.is_file():
                raise UserError(f"{path} is a pipe or a device; name a file to write")
            if not force:
                raise UserError(
                    f"{path} exists already; overwrite it with --force, or name another"
                )
        folder = next(parent for parent in path.resolve().parents if parent.exists())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    if not folder.is_dir():
        raise UserError(f"cannot write {path}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {path}: there is no permission to write in {folder}")


def save(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file whole or not at all, in a folder that is made if it is missing.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            write(file)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot write {path}: {error}") from error
