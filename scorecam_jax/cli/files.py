"""Photographs to read and files to write."""

import contextlib
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError

from scorecam_jax import models
from scorecam_jax._internal.files import replacing
from scorecam_jax.cli.errors import UserError


class Source(NamedTuple):
    """A photograph to read: a file, or a page of one.

    Attributes:
        path: of the file.
        page: from 1.
        name: what it is called in what is printed.
        stem: what the names of files made of it begin with.
    """

    path: Path
    page: int
    name: str
    stem: str


def pages_of(path: Path, page: int | None, name: str | None = None) -> list[Source]:
    """A page of a file, or, if `page` is None, every page. `name` is what to call the file."""
    name = name or str(path)
    pages = 1
    if page is None:
        # What is wrong with a file is told when it is opened.
        with contextlib.suppress(Exception):
            pages = _count_pages(path)
    if page is not None or pages == 1:
        return [Source(path, page or 1, name, path.stem)]
    return [
        Source(path, one, f"{name}, page {one}", f"{path.stem}-page{one}")
        for one in range(1, pages + 1)
    ]


def open_photo(
    path: Path,
    *,
    header_only: bool = False,
    window: tuple[float, float] | None = None,
    page: int = 1,
    notes: list[str] | None = None,
) -> Any:
    """The photograph upright, in RGB; with `header_only`, only whether it looks like one.

    Args:
        path: of the photograph.
        header_only: read no pixels.
        window: see `models.as_rgb`; for images of 8 bits it does not matter.
        page: of a file of several, from 1.
        notes: where to add what there is to tell of scaled values and pages left out.

    Raises:
        UserError: it cannot be read, or has no such page.
    """
    told = [] if notes is None else notes
    with _translated(path):
        _check_kind(path)
        if models.dicom.is_dicom(path):
            _check_page(page, models.dicom.frames_of(path), told)
            if header_only:
                return None
            found = models.read_dicom(path, frame=page, window=window)
            if found.window is not None:
                told.append(_told(found.window, window))
            return found.image
        with _opened(path) as image:
            _check_page(page, getattr(image, "n_frames", 1), told)
            if header_only:
                return None
            image.seek(page - 1)
            deep = models.window_of(image)
            if deep is None:
                return models.as_rgb(image)
            told.append(_told(window or deep, window))
            return models.as_rgb(image, window=window or deep)


def _check_page(page: int, pages: int, told: list[str]) -> None:
    if page > pages:
        raise UserError(f"has {pages} page{'s' * (pages > 1)}, and no page {page}")
    if pages > 1:
        told.append(f"page {page} of {pages} (--page N, --page all)")


def _told(shown: tuple[float, float], asked: Any) -> str:
    low, high = shown
    more = "" if asked else "; --window LOW,HIGH names others"
    return f"values of {low:g} to {high:g} are drawn as black to white{more}"


@contextlib.contextmanager
def large_photos() -> Iterator[None]:
    """Open large photographs without a warning.

    Python's filters of warnings are one for all threads: this goes around threads that open
    photographs, so that none brings the warning back for another.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with large_photos(), Image.open(path) as image:
        yield image


def _check_kind(path: Path) -> None:
    if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
        raise UserError("not a file, but a pipe or a device; save the photograph first")


def _count_pages(path: Path) -> int:
    _check_kind(path)
    if models.dicom.is_dicom(path):
        return models.dicom.frames_of(path)
    with _opened(path) as image:
        return getattr(image, "n_frames", 1)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Say in words what is wrong with a file that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise UserError("no such file") from None
    except IsADirectoryError:
        raise UserError(f"a folder, not a photograph; name the files in it, {path}/*.jpg") from None
    except UnidentifiedImageError:
        raise UserError(
            "not an image in a format that can be read; convert it to JPEG or PNG"
        ) from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise UserError(
            f"more than {most} megapixels are not read; reduce it first: the network sees only a "
            "few hundred pixels per side"
        ) from None
    except MemoryError:
        raise UserError("too large for this machine's memory; reduce it first") from None
    except (EOFError, ImportError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"cannot be read: {error}") from error


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
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {path}: {why}") from error
