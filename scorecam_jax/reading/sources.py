"""Finding inputs: files, their pages, and the contents of folders."""

import contextlib
import functools
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image, ImageFile

from scorecam_jax.reading import dicom, nifti, pillow, tiff
from scorecam_jax.reading.errors import ReadingError, told
from scorecam_jax.reading.files import (
    ARRAY,
    DICOM,
    NIFTI,
    SOUND,
    TABLE,
    Stamp,
    Takes,
    is_dicom,
    kind_of,
    stamp_of,
)
from scorecam_jax.reading.notes import Note

# Lie beside photographs on purpose, as notes on them or as reports of this library.
_DOCUMENTS = (".md", ".rst", ".htm", ".html")


class Source(NamedTuple):
    """An input to read: a file, or one page of a file.

    Attributes:
        path: the file.
        page: the page number, from 1; None: the whole volume or series.
        name: the name used in results.
        stem: the beginning of the names of output files.
    """

    path: Path
    page: int | None
    name: str
    stem: str


class Listing(NamedTuple):
    """The result of `find`.

    Attributes:
        sources: the inputs, in the order of the paths; those of a folder are sorted.
        left_out: folders that cannot be read or contain nothing to read.
        remarks: files of folders that were not taken, except documents, and paths that were given
            more than once.
    """

    sources: list[Source]
    left_out: list[Note]
    remarks: list[Note]


def find(
    paths: Sequence[Path],
    *,
    page: int | Literal["all"] | None = None,
    takes: Takes | None = "pictures",
    skip: Collection[Path] = (),
) -> Listing:
    """List the pictures, frames, slices, volumes or series in files and folders.

    Files are listed as given; errors appear when they are read. Folders are searched with their
    subfolders. For pictures, a file in a folder is taken if its suffix is that of a picture, DICOM
    or NIfTI, or if it begins like DICOM. For volumes, DICOM, NIfTI and .npy are taken; for series,
    .csv, .tsv, .npy and .wav. Hidden files are skipped. Pipes, devices and broken links are never
    opened.

    Args:
        paths: files and folders.
        page: the page of each file, from 1; `"all"`: every page. None: the default page, which is
            the first, or the middle slice of a NIfTI volume.
        takes: the type of input to list. "volumes" lists NIfTI volumes, arrays and DICOM files
            with several frames whole. None: everything that can be read.
        skip: files with another use, such as annotations.
    """
    known = {os.path.realpath(one) for one in skip}
    found: dict[Path, str] = {}
    left_out: list[Note] = []
    remarks: list[Note] = []

    def add(path: Path, name: str) -> None:
        if path in found:
            remarks.append(Note(name, "is given more than once, and used once"))
        found.setdefault(path, name)

    for path in paths:
        if not os.path.isdir(path):
            add(path, path.as_posix())
            continue
        taken, others = _in_folder(path, known, left_out, takes)
        prefix = "" if len(paths) == 1 else f"{path.as_posix()}/"
        for name in taken:
            add(path / name, prefix + name)
        if not taken:
            what = "photographs" if takes in (None, "pictures") else takes
            left_out.append(Note(str(path), f"there are no {what} in it"))
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            many, single = takes or "pictures", (takes or "pictures").removesuffix("s")
            why = f"no {many if len(others) > 1 or takes == 'series' else single}"
            remarks.append(Note(f"{prefix}{others[0]}{more}", why))
    sources = [
        source for path, name in found.items() for source in _sources(path, name, page, takes)
    ]
    return Listing(sources, left_out, remarks)


def pages_in(stamp: Stamp) -> int:
    """The number of pages, frames or slices in a file, cached.

    Raises:
        Exception: the file cannot be read.
    """
    kind = kind_of(stamp.path)
    if kind == "dicom":
        return dicom.count_frames(stamp)
    if kind == "nifti":
        return nifti.count_slices(stamp)
    try:
        return pillow.count_pages(stamp)
    except pillow.NotPillowsError:
        return tiff.count_pages(stamp)


def usual_page(stamp: Stamp) -> int:
    """The page that is read by default."""
    return pages_in(stamp) // 2 + 1 if kind_of(stamp.path) == "nifti" else 1


def _sources(
    path: Path, name: str, page: int | Literal["all"] | None, takes: Takes | None
) -> list[Source]:
    stem = _stem(path)
    number = page if isinstance(page, int) else 1
    pages = 1
    # Errors are reported when the file is read.
    with contextlib.suppress(ReadingError), told():
        stamp = stamp_of(path)
        kind = kind_of(path)
        if (
            kind in ("array", "table", "sound")
            or takes == "series"
            or (
                takes == "volumes"
                and (kind == "nifti" or (kind == "dicom" and pages_in(stamp) > 1))
            )
        ):
            return [Source(path, None, name, stem)]
        if page == "all":
            pages = pages_in(stamp)
        elif page is None:
            number = usual_page(stamp)
    if pages > 1:
        return [
            Source(path, one, f"{name}, page {one}", f"{stem}-page{one}")
            for one in range(1, pages + 1)
        ]
    named = isinstance(page, int) and page > 1
    return [Source(path, number, f"{name}, page {page}" if named else name, stem)]


def _stem(path: Path) -> str:
    """A file's name without its suffix; a number after the last dot, as in PACS names, is kept."""
    if path.name.lower().endswith(".nii.gz"):
        return path.name[: -len(".nii.gz")]
    return path.name if path.suffix[1:].isdigit() else path.stem


def _in_folder(
    folder: Path, skip: Collection[str], left_out: list[Note], takes: Takes | None
) -> tuple[list[str], list[str]]:
    """The files in a folder and its subfolders, sorted: those taken, and others but documents."""
    taken: list[str] = []
    others: list[str] = []
    for path in _walk(folder, left_out):
        if os.path.realpath(path) in skip:
            continue
        name = path.relative_to(folder).as_posix()
        if _is_taken(path, takes):
            taken.append(name)
        elif path.suffix.lower() not in _DOCUMENTS:
            others.append(name)
    return sorted(taken), sorted(others)


def _walk(folder: Path, left_out: list[Note]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        left_out.append(Note(str(error.filename), f"cannot be read: {error.strerror}"))

    for at, folders, files in os.walk(folder, onerror=note):
        for name in folders:
            # A link to a folder is not followed: it may lead to a cycle.
            if not name.startswith(".") and os.path.islink(os.path.join(at, name)):
                yield Path(at, name)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(at, name) for name in files if not name.startswith("."))


def _is_taken(path: Path, takes: Takes | None) -> bool:
    if not os.path.isfile(path) or path.name.upper() == "DICOMDIR":
        return False
    suffix, name = path.suffix.lower(), path.name.lower()
    if takes in ("series", None) and suffix in (*ARRAY, *TABLE, *SOUND):
        return True
    if takes == "series":
        return False
    if name.endswith((*DICOM, *NIFTI)) or (takes == "volumes" and suffix in ARRAY):
        return True
    if takes != "volumes" and suffix in _suffixes():
        return True
    try:
        return is_dicom(path)
    except OSError:
        return False


@functools.cache
def _suffixes() -> frozenset[str]:
    """The suffixes of all pictures that Pillow or its HEIC plugin reads."""
    stubs = {
        name
        for name, (factory, _) in ((name, Image.OPEN[name]) for name in _readable())
        if isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)
    }
    readable = _readable() - stubs
    found = {suffix for suffix, name in Image.registered_extensions().items() if name in readable}
    return frozenset(found | {".heic", ".heif"})


def _readable() -> set[str]:
    Image.init()
    return set(Image.OPEN)
