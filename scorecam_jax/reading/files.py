"""Types of files, and files that are read within limits."""

import io
import os
import stat
from pathlib import Path
from typing import Literal, NamedTuple

from scorecam_jax.reading.errors import ReadingError

Kind = Literal["dicom", "nifti", "array", "table", "sound", "picture"]

Takes = Literal["pictures", "volumes", "series"]
"""The type of input that a network takes."""

NIFTI = (".nii", ".nii.gz")
DICOM = (".dcm", ".dicom", ".ima")
ARRAY = (".npy",)
TABLE = (".csv", ".tsv")
SOUND = (".wav", ".wave")

_MOST_AT_ONCE = 512 * 2**20
_MOST_PADDING = 2**14
_MOST_ZEROS = 2**22


class Stamp(NamedTuple):
    """The identity of a file's content, as a cache key: it changes when the file is changed."""

    path: Path
    size: int
    modified: int
    inode: int


def stamp_of(path: Path) -> Stamp:
    """The stamp of a regular file.

    Raises:
        ReadingError: the path is a pipe or a device, which is never opened.
        OSError: there is no such file, or the path is a folder.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError
    if not stat.S_ISREG(found.st_mode):
        raise ReadingError("not a file, but a pipe or a device; save the photograph first")
    return Stamp(path, found.st_size, found.st_mtime_ns, found.st_ino)


def is_dicom(path: Path) -> bool:
    """Whether a file begins like a DICOM file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def kind_of(path: Path) -> Kind:
    """The type of a regular file, from its name and its first bytes.

    Raises:
        OSError: the file cannot be read.
    """
    name = path.name.lower()
    if name.endswith(NIFTI):
        return "nifti"
    if name.endswith(ARRAY):
        return "array"
    if name.endswith(TABLE):
        return "table"
    if name.endswith(SOUND):
        return "sound"
    return "dicom" if is_dicom(path) else "picture"


class Guarded(io.BufferedReader):
    """A file that refuses to read long padding, or a huge file as a whole.

    Attributes:
        compressed: whether long runs of zeros cannot be image data.

    Raises:
        ReadingError: such a read was attempted.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size
        self.compressed = False
        self._last, self._same, self._zeros = b"", 0, 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as `io.BufferedReader` does."""
        if (size is None or size < 0) and self._size - self.tell() > _MOST_AT_ONCE:
            raise ReadingError(
                f"a file of {self._size / 1e9:.1f} GB, too large for a format that must be read "
                "whole; convert it to JPEG or PNG"
            )
        found = super().read(size)
        if found:
            self._same = self._same + 1 if len(found) <= 16 and found == self._last else 0
            self._last = found
        if self.compressed:
            self._zeros = self._zeros + len(found) if found.count(0) == len(found) else 0
        if self._same * len(found) ** 2 > _MOST_PADDING or self._zeros > _MOST_ZEROS:
            raise ReadingError("its image data end early, followed by padding; copy it again")
        return found
